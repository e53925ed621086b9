//! How much an archive's headers may take.
//!
//! The `tar` crate keeps a header of any length in memory: names, extended attributes, maps of
//! sparse files. A few megabytes of a compressed archive may claim gigabytes of them.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use udi::Error;

/// More than an entry's headers ever have; the maps of sparse files are the longest.
const HEADERS: u64 = 16 << 20;

/// What was read since the last change, and how much may be.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    read: Rc<Cell<u64>>,
    most: Rc<Cell<u64>>,
}

impl Meter {
    pub(crate) fn of<R>(from: R) -> (Self, Metered<R>) {
        let meter = Self { read: Rc::new(Cell::new(0)), most: Rc::new(Cell::new(HEADERS)) };
        (meter.clone(), Metered { from, meter })
    }

    /// Headers come, after `left` bytes of the entry before.
    pub(crate) fn headers(&self, left: u64) {
        self.read.set(0);
        self.most.set(left.saturating_add(HEADERS));
    }

    /// An entry's data come, which are in nobody's memory.
    pub(crate) fn data(&self) {
        self.read.set(0);
        self.most.set(u64::MAX);
    }

    /// Bytes read since then.
    pub(crate) fn read(&self) -> u64 {
        self.read.get()
    }
}

/// A reader that stops when its meter says so.
#[derive(Debug)]
pub(crate) struct Metered<R> {
    from: R,
    meter: Meter,
}

impl<R> Metered<R> {
    pub(crate) fn into_inner(self) -> R {
        self.from
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        let read = self.meter.read.get().saturating_add(n as u64);
        self.meter.read.set(read);
        if read > self.meter.most.get() {
            let error = Error::user("an entry's headers have more than 16 MiB")
                .hint("such an archive is made to do harm");
            return Err(io::Error::other(error));
        }
        Ok(n)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.from.seek(to)
    }
}
