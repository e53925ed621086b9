//! The calling thread's own part of /proc.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use udi::{Error, Result};

use crate::fault;
use crate::mountinfo::Table;

/// `/proc/thread-self`, opened where it is: the namespace in which images are mounted has none.
#[derive(Debug)]
pub(crate) struct Proc(OwnedFd);

impl Proc {
    pub(crate) fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = openat(CWD, "/proc/thread-self", flags, Mode::empty());
        own.map(Self).map_err(fault::site("cannot open /proc/thread-self"))
    }

    /// The calling thread's mount namespace.
    pub(crate) fn namespace(&self) -> Result<OwnedFd> {
        openat(&self.0, "ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(fault::site("cannot open /proc/thread-self/ns/mnt"))
    }

    /// The mounts of the namespace in which the calling thread is now.
    pub(crate) fn mounts(&self) -> Result<Table> {
        let file = openat(&self.0, "mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(fault::site("cannot open /proc/thread-self/mountinfo"))?;
        Table::read(file)
    }

    /// The number of the mount that an open file is on, as in [`Table`].
    pub(crate) fn mount_of(&self, file: impl AsFd) -> Result<u64> {
        let failed = || fault::site("cannot read /proc/thread-self/fdinfo");
        let name = format!("fdinfo/{}", file.as_fd().as_raw_fd());
        let info = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed())?;
        let mut text = [0_u8; 512];
        let length = rustix::io::read(&info, &mut text).map_err(failed())?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        let number =
            text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        number.ok_or_else(|| Error::bug(format!("no mnt_id in {text:?}")))
    }

    /// What a descriptor is of, opened anew to be read.
    pub(crate) fn reopen(&self, file: impl AsFd) -> Result<File> {
        let link = format!("fd/{}", file.as_fd().as_raw_fd());
        openat(&self.0, link, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(fault::site("cannot open a file anew"))
    }

    /// The kernel's own idea of where an open file is.
    pub(crate) fn path_of(&self, file: impl AsFd) -> Result<String> {
        let link = format!("fd/{}", file.as_fd().as_raw_fd());
        let path = rustix::fs::readlinkat(&self.0, link, Vec::new())
            .map_err(fault::site("cannot read /proc"))?;
        path.into_string().map_err(|_| Error::user("a path that is not valid UTF-8 cannot be used"))
    }
}
