//! System calls that no crate wraps. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

type Result<T> = std::result::Result<T, Errno>;

fn last<T>() -> Result<T> {
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Gives the calling thread a mount namespace, root and working directory of its own.
pub(crate) fn unshare_mounts() -> Result<()> {
    // SAFETY: the file descriptor table stays shared, which is what makes unshare unsafe.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
}

/// Gives the calling thread a root and working directory of its own, as setns(2) wants it.
pub(crate) fn unshare_fs() -> Result<()> {
    // SAFETY: the file descriptor table stays shared, which is what makes unshare unsafe.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }
}

/// What mount_setattr(2) sets on a whole tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave the propagation.
    pub propagation: u64,
    /// Whether mounts below change too.
    pub recursive: bool,
}

/// mount_setattr(2) on the mount that `mount` refers to.
pub(crate) fn mount_setattr(mount: impl AsFd, attr: MountAttr) -> Result<()> {
    let raw = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: 0,
    };
    let recursive = if attr.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the kernel reads `raw` for its given size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { last() }
}

/// Shows the owners of the files on the detached mount `mount` as `user_namespace` maps them.
pub(crate) fn mount_idmap(mount: impl AsFd, user_namespace: impl AsFd) -> Result<()> {
    let raw = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_fd().as_raw_fd().unsigned_abs().into(),
    };
    // SAFETY: the path is an empty C string, and the kernel reads `raw` for its given size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { last() }
}

/// A user namespace with these maps of user and group ids.
///
/// It begins in a child, for only a process of one thread can have a new one. The child runs
/// nothing but the system calls below, and is no child by SIGCHLD or a plain wait(2): Slurm does
/// not see it.
pub(crate) fn user_namespace(uids: &str, gids: &str) -> Result<OwnedFd> {
    let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let args = libc::clone_args {
        flags: libc::CLONE_NEWUSER as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: as fork(2); the kernel reads `args` for its given size.
    let child =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match child {
        ..0 => last(),
        0 => {
            let mut byte = 0u8;
            // SAFETY: the child's own copy; the descriptor is not used again in it.
            unsafe { libc::close(go.as_raw_fd()) };
            // Ends when the parent lets go of its end, also by dying.
            // SAFETY: reads one byte into `byte`.
            unsafe { libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) };
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        child => {
            let path = |name: &str| format!("/proc/{child}/{name}");
            let write = |name: &str, map: &str| {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let file = rustix::fs::openat(CWD, path(name), flags, Mode::empty())?;
                rustix::io::write(&file, map.as_bytes()).map(|_| ())
            };
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let namespace = write("uid_map", uids)
                .and_then(|()| write("gid_map", gids))
                .and_then(|()| rustix::fs::openat(CWD, path("ns/user"), flags, Mode::empty()));
            drop(go);
            // SAFETY: waits for the child just made and asks for nothing.
            unsafe { libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), libc::__WALL) };
            namespace
        }
    }
}

/// `NS_GET_MNTNS_ID` of linux/nsfs.h, since 6.12.
const NS_GET_MNTNS_ID: libc::Ioctl = 0x8008_b705_u32 as libc::Ioctl;

/// The id of a mount namespace, by which the kernel judges which is older (since 6.12).
pub(crate) fn namespace_id(namespace: impl AsFd) -> Result<u64> {
    let mut id = 0u64;
    // SAFETY: the request writes one u64.
    let done = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_MNTNS_ID, &raw mut id) };
    if done == 0 { Ok(id) } else { last() }
}

/// Whether somebody has the file open for writing, as far as its file system can tell: only then
/// is a read lease refused for a moment (fcntl(2)).
pub(crate) fn has_writers(file: impl AsFd) -> bool {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the command takes a number.
    let leased = unsafe { libc::fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) };
    if leased != 0 {
        return last::<()>() == Err(Errno::AGAIN);
    }
    // SAFETY: the command takes a number.
    unsafe { libc::fcntl(file, libc::F_SETLEASE, libc::F_UNLCK) };
    false
}

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LOOP_LABEL],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `LO_NAME_SIZE` of linux/loop.h: bytes of the text that a loop device carries.
const LOOP_LABEL: usize = 64;

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const NO_INFO: LoopInfo = LoopInfo {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    sizelimit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; LOOP_LABEL],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// The number of a loop device that is free at this moment; another process may take it.
pub(crate) fn loop_get_free(control: impl AsFd) -> Result<u32> {
    // SAFETY: the request takes no argument.
    let number = unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).or_else(|_| last())
}

/// How a loop device shows its file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopSetup<'a> {
    /// Whether it can be written.
    pub writable: bool,
    /// Whether it goes around the page cache, if the file can do that.
    pub direct: bool,
    /// Bytes of its sectors; 0 leaves it to the kernel.
    pub sector: u32,
    /// A text that it carries, of at most 63 bytes.
    pub label: &'a str,
}

/// Puts `file` behind the loop device until its last user closes it.
pub(crate) fn loop_configure(
    device: impl AsFd,
    file: BorrowedFd<'_>,
    setup: LoopSetup<'_>,
) -> Result<()> {
    let mut flags = LO_FLAGS_AUTOCLEAR;
    if !setup.writable {
        flags |= LO_FLAGS_READ_ONLY;
    }
    if setup.direct {
        flags |= LO_FLAGS_DIRECT_IO;
    }
    let mut file_name = [0; LOOP_LABEL];
    for (to, from) in file_name.iter_mut().take(LOOP_LABEL - 1).zip(setup.label.bytes()) {
        *to = from;
    }
    let config = LoopConfig {
        fd: file.as_raw_fd().unsigned_abs(),
        block_size: setup.sector,
        info: LoopInfo { flags, file_name, ..NO_INFO },
        reserved: [0; 8],
    };
    // SAFETY: the request reads one `struct loop_config`.
    let done =
        unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if done == 0 { Ok(()) } else { last() }
}

/// What a loop device says of itself.
#[derive(Clone, Debug)]
pub(crate) struct LoopStatus {
    /// Device and inode number of the file behind it, as the device encodes them.
    pub backing: (u64, u64),
    /// The text that it was given.
    pub label: String,
}

/// Asks the file system of the file, so a stale handle shows as an error.
pub(crate) fn loop_status(device: impl AsFd) -> Result<LoopStatus> {
    let mut info = NO_INFO;
    // SAFETY: the request writes one `struct loop_info64`.
    let done = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    if done != 0 {
        return last();
    }
    let label = info.file_name.split(|byte| *byte == 0).next().unwrap_or_default();
    let label = String::from_utf8_lossy(label).into_owned();
    Ok(LoopStatus { backing: (info.device, info.inode), label })
}

/// Gives the calling thread a table of open files of its own, in which all but the first three
/// are closed when it starts a program.
pub(crate) fn keep_files_to_ourselves() -> Result<()> {
    let flags = libc::CLOSE_RANGE_UNSHARE | libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: it closes nothing here, and other threads' tables stay as they are.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, flags) };
    if done == 0 { Ok(()) } else { last() }
}
