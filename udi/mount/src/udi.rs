//! A staged UDI, and entering it.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};
use udi::{ImageInfo, Result};
use udi_store::Store;

use crate::late::Late;
use crate::{fault, namespace, open};

/// A mount namespace that is ready to be entered. It lives as long as this value, a process
/// inside, or its pin.
#[derive(Debug)]
pub struct Udi {
    pub(crate) namespace: OwnedFd,
    pub(crate) lock: OwnedFd,
    pub(crate) late: Late,
    pub(crate) pinned: bool,
}

impl Udi {
    /// Takes the calling process into the UDI for good, and takes from it every way to gain
    /// privilege. To be called by a rank that was just forked: as root, with one thread.
    ///
    /// The root and working directory become the UDI's root.
    pub fn enter(&self) -> Result<()> {
        self.late.enter(&self.namespace, &self.lock)?;
        renounce()
    }

    /// What the image says of itself.
    pub fn info(&self) -> Result<ImageInfo> {
        open::in_thread("info", || {
            namespace::enter(&self.namespace).map_err(fault::site("cannot enter the image"))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open("/", flags, Mode::empty())
                .map_err(fault::bug("cannot open the image's root"))?;
            Store::info_below(root)
        })
    }

    /// Whether the job's later steps find it.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }
}

/// Empties the bounding, inheritable and ambient sets and sets no_new_privs: becoming the
/// user, which Slurm does next, then leaves no capability and no program gives one back.
fn renounce() -> Result<()> {
    let failed = || fault::site("cannot give up capabilities");
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Beyond the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(failed()(errno)),
        }
    }
    let sets = rustix::thread::capabilities(None).map_err(failed())?;
    let inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { inheritable, ..sets })
        .and_then(|()| rustix::thread::clear_ambient_capability_set())
        .and_then(|()| rustix::thread::set_no_new_privs(true))
        .map_err(failed())
}
