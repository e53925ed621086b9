//! System calls that no crate wraps, and what needs a child process.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use linux_raw_sys::loop_device::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_READ_ONLY, LOOP_CONFIGURE, LOOP_CTL_GET_FREE, loop_config,
};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags};

/// The number of a loop device nobody uses; somebody else may take it before the caller does.
pub(crate) fn loop_get_free(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and touches no memory of ours.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE.into()) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Ties the image to a loop device that frees itself with its last user.
pub(crate) fn loop_configure(device: BorrowedFd<'_>, image: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: loop_config is plain integers, for which zero is a value.
    let mut config: loop_config = unsafe { std::mem::zeroed() };
    config.fd = image.as_raw_fd().cast_unsigned();
    config.info.lo_flags = LO_FLAGS_READ_ONLY as u32 | LO_FLAGS_AUTOCLEAR as u32;
    // SAFETY: the kernel reads one loop_config, which lives through the call.
    match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE.into(), &raw const config) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// nosuid, and nodev if asked, for a detached tree with all that is mounted below it.
pub(crate) fn set_flags(tree: BorrowedFd<'_>, nodev: bool) -> io::Result<()> {
    let nodev = if nodev { libc::MOUNT_ATTR_NODEV } else { 0 };
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | nodev,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string, and the kernel reads one mount_attr of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `unshare` of this thread's file system context or mount namespace.
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: only FS and NEWNS are passed, which leave the descriptor table shared.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// `setns` into a mount namespace.
pub(crate) fn setns(namespace: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
}

/// Microseconds of a rank: `setns`, and then giving up all that root can hand down.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) setns: f64,
    pub(crate) renounce: f64,
}

/// Forks as Slurm does for a rank, and enters there.
pub(crate) fn enter_in_child(namespace: BorrowedFd<'_>) -> Result<Entered, String> {
    let (mut reader, writer) = io::pipe().map_err(|error| format!("pipe: {error}"))?;
    // SAFETY: the process has one thread here, and the child leaves by _exit without returning.
    match unsafe { libc::fork() } {
        -1 => Err(format!("fork: {}", io::Error::last_os_error())),
        0 => {
            let begin = Instant::now();
            let entered = setns(namespace).is_ok();
            let setns = begin.elapsed().as_secs_f64() * 1e6;
            let inside = entered && is_overlay();
            let begin = Instant::now();
            let renounced = renounce().is_ok();
            let renounce = begin.elapsed().as_secs_f64() * 1e6;
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&setns.to_ne_bytes());
            bytes[8..].copy_from_slice(&renounce.to_ne_bytes());
            let written = rustix::io::write(writer.as_fd(), &bytes).is_ok();
            // SAFETY: ends the child at once, with nothing of the parent's flushed or dropped.
            unsafe { libc::_exit(i32::from(!(inside && renounced && written))) }
        }
        child => {
            drop(writer);
            let mut status = 0;
            // SAFETY: waits for our own child; the status is written to a live integer.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            let (mut setns, mut renounce) = ([0; 8], [0; 8]);
            let read =
                reader.read_exact(&mut setns).and_then(|()| reader.read_exact(&mut renounce));
            if read.is_err() || status != 0 {
                return Err("a rank did not get into the image".into());
            }
            Ok(Entered { setns: f64::from_ne_bytes(setns), renounce: f64::from_ne_bytes(renounce) })
        }
    }
}

/// Empties the bounding set and sets no_new_privs, one call per capability as the kernel wants.
fn renounce() -> rustix::io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            result => result?,
        }
    }
    rustix::thread::set_no_new_privs(true)
}

/// Forks, enters if there is where to, runs the program; microseconds until it has ended.
pub(crate) fn run(program: &CStr, inside: Option<BorrowedFd<'_>>) -> Result<f64, String> {
    let argv = [program.as_ptr(), std::ptr::null()];
    let env = [std::ptr::null()];
    let begin = Instant::now();
    // SAFETY: the process has one thread here, and the child only enters and execs or exits.
    match unsafe { libc::fork() } {
        -1 => Err(format!("fork: {}", io::Error::last_os_error())),
        0 => {
            if inside.is_none_or(|namespace| setns(namespace).is_ok()) {
                // SAFETY: path, argv and environment are C strings and lists that end in null.
                unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            }
            // SAFETY: ends the child at once, with nothing of the parent's flushed or dropped.
            unsafe { libc::_exit(127) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for our own child; the status is written to a live integer.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            let micros = begin.elapsed().as_secs_f64() * 1e6;
            if status == 0 { Ok(micros) } else { Err(format!("{program:?} failed: {status:#x}")) }
        }
    }
}

fn is_overlay() -> bool {
    // The magic number of overlayfs, from linux/magic.h.
    rustix::fs::statfs("/").is_ok_and(|found| found.f_type == 0x794c_7630)
}

/// Waits until the kernel has taken the loop device back, which it does by itself.
pub(crate) fn wait_until_free(device: u32) -> Result<(), String> {
    let backing = PathBuf::from(format!("/sys/block/loop{device}/loop/backing_file"));
    let begin = Instant::now();
    while backing.exists() {
        if begin.elapsed() > Duration::from_secs(5) {
            return Err(format!("/dev/loop{device} is still in use after 5 s"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// This thread's mount namespace.
pub(crate) fn own_namespace() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/mnt").map(OwnedFd::from)
}
