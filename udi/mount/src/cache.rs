//! Per-node caches: a file system of the node's own, in a file that nobody can reach.
//!
//! The file lies in a directory that only the store's owner enters, is opened as that account
//! (root may be nobody there) and has no name. Only the loop device keeps it, only the mount
//! keeps the loop device, and only the UDI keeps the mount: when that goes, by whatever death,
//! all goes.

mod backing;
pub(crate) mod mkfs;
mod room;

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use udi::{CacheFs, CachePlan, Config, Error, Result, User};
use udi_store::Store;

use crate::fault;
use crate::loopdev::LoopDevice;
use crate::node::Node;
use crate::sys::LoopSetup;

/// Bytes of a sector and of a block: what every storage can do without the page cache.
const BLOCK: u32 = 4096;

/// What a site can do about storage that is not fit for caches.
pub(crate) const OTHER_STORAGE: &str = "name other storage in cache.directories";

/// Makes a cache for `user`: a mount of its root, which is the user's alone; writable, nosuid,
/// nodev, not attached anywhere.
///
/// Runs on the staging thread, in the namespace of the host.
pub(crate) fn make(node: &Node, plan: &CachePlan, site: &Config, user: &User) -> Result<OwnedFd> {
    let owner = Store::owner_of(&site.store)?;
    let program = mkfs::program(plan.fs)?;
    // Until the loop device is there, the lock counts for it.
    let claim = room::claim(node, plan.size, &site.cache, user, owner)?;
    let file = backing::create(plan, owner, &site.store.owner)?;
    let on_it = |error: Error| error.about(format!("a cache in {}: ", plan.directory.display()));
    mkfs::format(program, plan.fs, &file, owner).map_err(|error| {
        let account = &site.store.owner;
        on_it(error).hint(format!("see what {account} may store there (quota), or {OTHER_STORAGE}"))
    })?;
    let (device, tree) = mount(plan.fs, &file, owner, &claim.label).map_err(on_it)?;
    if plan.fs == CacheFs::Xfs
        && let Err(error) = give_up_in_time(&device)
    {
        node.log(&format!("a cache may hang when its storage is full: {error}"));
    }
    hand_over(&tree, user).map_err(fault::site("cannot give a new cache to its user"))?;
    Ok(tree)
}

/// Around the page cache where the storage allows, so that the node's memory holds data once.
fn mount(fs: CacheFs, file: &OwnedFd, owner: u32, label: &str) -> Result<(LoopDevice, OwnedFd)> {
    let setup = LoopSetup { writable: true, direct: true, sector: BLOCK, label };
    // Storage that takes the flag may refuse the first read.
    let buffered = LoopSetup { direct: false, ..setup };
    mounted(fs, file, owner, setup).or_else(|_| mounted(fs, file, owner, buffered))
}

fn mounted(
    fs: CacheFs,
    file: &OwnedFd,
    owner: u32,
    setup: LoopSetup<'_>,
) -> Result<(LoopDevice, OwnedFd)> {
    let name = fs.name();
    let context = rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).map_err(fault::site(
        format!("this node's kernel cannot mount {name} (try: modprobe {name})"),
    ))?;
    let device = LoopDevice::attach_writable(file, owner, setup)?;
    let set = |key, value| rustix::mount::fsconfig_set_string(&context, key, value);
    let flag = |key| rustix::mount::fsconfig_set_flag(&context, key);
    set("source", device.path().as_str())
        .and_then(|()| match fs {
            CacheFs::Xfs => set("logbsize", "256k"),
            // Nothing outlives a crash of the node anyway; a sparse file reads as zeros.
            CacheFs::Ext4 => flag("nobarrier").and_then(|()| flag("noinit_itable")),
        })
        .and_then(|()| rustix::mount::fsconfig_create(&context))
        .map_err(fault::mounting("it", &context))
        .map_err(|error| error.hint(format!("dmesg on the node may say more; {OTHER_STORAGE}")))?;
    let attr = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let tree = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attr)
        .map_err(fault::mounting("it", &context))?;
    Ok((device, tree))
}

/// By itself XFS tries for ever to write its own records where there is no room, and who waits
/// for it cannot be killed; then Slurm would drain the node.
fn give_up_in_time(device: &LoopDevice) -> std::io::Result<()> {
    ["default", "EIO", "ENOSPC"].into_iter().try_for_each(|error| {
        let number = device.number;
        let retries = format!("/sys/fs/xfs/loop{number}/error/metadata/{error}/max_retries");
        std::fs::write(retries, "5")
    })
}

/// The root becomes the user's, empty and closed to others.
fn hand_over(tree: &OwnedFd, user: &User) -> std::result::Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(tree, ".", flags, Mode::empty())?;
    match rustix::fs::unlinkat(&root, "lost+found", AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::fchmod(&root, Mode::RWXU)?;
    rustix::fs::fchown(&root, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
}
