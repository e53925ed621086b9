//! Layers that were kept: for whoever reads them.
//!
//! Only what a registry gives to everybody is kept, so everybody may read it who knows its
//! digest. Nobody relies on it: what is read is checked as if it came from the registry.

use rustix::fs::OFlags;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use udi::Digest;

use crate::{Store, beneath};

/// The directory of layers, open.
#[derive(Debug)]
pub struct Layers(OwnedFd);

impl Store {
    /// The layers that were kept, if there ever were any.
    pub fn layers(&self) -> Option<Layers> {
        beneath::open(self.top(), "layers", OFlags::PATH | OFlags::DIRECTORY).ok().map(Layers)
    }
}

impl Layers {
    /// A layer of `size` bytes, if it is there. What is in it is still to be checked.
    pub fn open(&self, digest: &Digest, size: u64) -> Option<File> {
        let file = File::from(beneath::open(&self.0, &path(digest), OFlags::RDONLY).ok()?);
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == size).then_some(file)
    }
}

impl AsFd for Layers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a layer is, below the directory of layers.
pub(crate) fn path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}/{hex}", &hex[..2])
}
