//! Loop devices: an image file as a block device.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fstat};
use rustix::io::Errno;
use udi::{Error, Result};

use crate::cache::OTHER_STORAGE;
use crate::open::{NOGROUP, as_account};
use crate::sys::LoopSetup;
use crate::{fault, sys};

/// A loop device with a file behind it; the kernel frees it when its last user is gone.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    pub(crate) number: u32,
    device: OwnedFd,
}

/// How often to try again when another process took the device that was just free. With 48
/// processes at once more than half of single tries fail.
const TRIES: u32 = 256;

impl LoopDevice {
    /// Puts `file` behind a free device, read-only.
    pub(crate) fn attach(file: &OwnedFd) -> Result<Self> {
        Self::attach_by(OFlags::RDONLY, |device| {
            Ok(sys::loop_configure(device, file.as_fd(), LoopSetup::default()))
        })
    }

    /// Puts `file`, which is `owner`'s, behind a free device that can be written. The kernel asks
    /// the file's storage with `owner`'s rights: root may be nobody there.
    pub(crate) fn attach_writable(
        file: &OwnedFd,
        owner: u32,
        setup: LoopSetup<'_>,
    ) -> Result<Self> {
        Self::attach_by(OFlags::RDWR, |device| {
            let configure = || Ok(sys::loop_configure(device, file.as_fd(), setup));
            match as_account(owner, NOGROUP, &[], configure)? {
                Err(errno) if errno != Errno::BUSY => {
                    let what = "the kernel puts no file of this storage behind a loop device";
                    Err(fault::site(what)(errno).hint(OTHER_STORAGE))
                }
                done => Ok(done),
            }
        })
    }

    fn attach_by(
        access: OFlags,
        configure: impl Fn(&OwnedFd) -> Result<std::result::Result<(), Errno>>,
    ) -> Result<Self> {
        let control = open("/dev/loop-control", OFlags::RDWR).map_err(fault::site(
            "cannot open /dev/loop-control (is the kernel module `loop` loaded?)",
        ))?;
        for _ in 0..TRIES {
            let number = sys::loop_get_free(&control)
                .map_err(fault::site("cannot get a free loop device"))?;
            let device = open(&path(number), access)
                .map_err(fault::site(format!("cannot open {}", path(number))))?;
            match configure(&device)? {
                Ok(()) => return Ok(Self { number, device }),
                Err(Errno::BUSY) => continue,
                Err(errno) => {
                    let what = format!("cannot put a file behind {}", path(number));
                    return Err(fault::site(what)(errno));
                }
            }
        }
        Err(Error::admin(format!("no loop device was free in {TRIES} tries")))
    }

    /// Labels and sizes in bytes of all that can be written and whose files `owner` may ask for.
    /// Images cannot be written, and are not asked: the answer of one whose server is gone would
    /// have to be waited for.
    pub(crate) fn writable(owner: u32) -> Result<Vec<(String, u64)>> {
        let all = std::fs::read_dir("/sys/block")
            .map_err(|e| Error::admin("cannot list /sys/block").because(e))?;
        let writable = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().ok().filter(|n| n.starts_with("loop"))?;
            let read = |what| std::fs::read_to_string(entry.path().join(what)).ok();
            if read("ro")?.trim() != "0" || read("loop/backing_file").is_none() {
                return None;
            }
            // In sectors of 512 bytes, whatever the device's own are.
            let sectors: u64 = read("size")?.trim().parse().ok()?;
            let device = open(&format!("/dev/{name}"), OFlags::RDONLY).ok()?;
            Some((device, sectors.saturating_mul(512)))
        };
        let devices: Vec<_> = all.flatten().filter_map(writable).collect();
        as_account(owner, NOGROUP, &[], || {
            let labelled = |(device, bytes): &(OwnedFd, u64)| {
                Some((sys::loop_status(device).ok()?.label, *bytes))
            };
            Ok(devices.iter().filter_map(labelled).collect())
        })
    }

    /// The device `number`, if the file behind it is `file` and can still be read.
    ///
    /// A file on NFS or Lustre may have been replaced under the same name, and a handle may
    /// have gone stale; then the device would answer with EIO for ever.
    pub(crate) fn of(number: u32, file: &OwnedFd) -> Option<Self> {
        let device = open(&path(number), OFlags::RDONLY).ok()?;
        let stat = fstat(file).ok()?;
        let backing = sys::loop_status(&device).ok()?.backing;
        (backing == (kernel_dev(stat.st_dev), stat.st_ino)).then_some(())?;
        let mut byte = [0u8; 1];
        matches!(rustix::io::pread(file, &mut byte, 0), Ok(1)).then_some(Self { number, device })
    }

    /// The device's path, for a mount's `source`.
    pub(crate) fn path(&self) -> String {
        let _ = &self.device;
        path(self.number)
    }
}

fn path(number: u32) -> String {
    format!("/dev/loop{number}")
}

fn open(path: &str, access: OFlags) -> std::result::Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, access | OFlags::CLOEXEC, Mode::empty())
}

/// `huge_encode_dev` of the kernel: how `lo_device` carries what stat(2) calls `st_dev`.
fn kernel_dev(dev: u64) -> u64 {
    let (major, minor) = (u64::from(libc::major(dev)), u64::from(libc::minor(dev)));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
