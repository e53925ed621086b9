//! Trying whether the store can be written at all.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use udi::{Error, Result};

use super::Keeper;
use crate::acl::Access;

impl Keeper<'_> {
    /// Takes a lease, writes a small file, lets `access` read it, and removes it: what every
    /// pull does.
    pub fn rehearse(&self, access: &Access) -> Result<()> {
        let lease = self.lease_soon("rehearsal", "rehearsal", Duration::from_secs(5))?;
        let mut temp = self.temp(&lease)?;
        temp.file
            .write_all(b"x")
            .map_err(|e| Error::admin("cannot write to the image store").because(e))?;
        access.apply(temp.file.as_fd(), "a file")
    }
}
