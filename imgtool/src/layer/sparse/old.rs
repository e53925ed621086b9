//! Sparse files of the oldest format: an entry type of its own, the map in the header.
//!
//! The `tar` crate reads these, and writes out their holes: a terabyte of them takes it half a
//! minute. So the map is taken from what it read, and the contents from beneath it.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::{Map, broken};

const BLOCK: u64 = 512;

/// A stream that the `tar` crate reads, and somebody else, too.
#[derive(Debug)]
pub(crate) struct Shared<R>(Rc<Beneath<R>>);

#[derive(Debug)]
struct Beneath<R> {
    from: RefCell<R>,
    /// Bytes that the crate has read.
    position: Cell<u64>,
    /// Bytes that somebody else has read, of which the crate does not know yet.
    owed: Cell<u64>,
    /// The headers that were read last, and where they begin.
    headers: RefCell<Vec<u8>>,
    start: Cell<u64>,
}

/// What may stand before an entry's own header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    /// The PAX header.
    pub(crate) pax: Vec<u8>,
    /// Whether there is a name in GNU's way, which the crate has read; so does it go first.
    pub(crate) long_name: bool,
    /// The same of a link's target.
    pub(crate) long_link: bool,
}

impl<R> Shared<R> {
    pub(crate) fn of(from: R) -> Self {
        Self(Rc::new(Beneath {
            from: RefCell::new(from),
            position: Cell::new(0),
            owed: Cell::new(0),
            headers: RefCell::new(Vec::new()),
            start: Cell::new(0),
        }))
    }

    /// The same stream.
    pub(crate) fn share(&self) -> Self {
        Self(Rc::clone(&self.0))
    }

    /// Headers come, after the rest of an entry whose `stored` bytes begin at `data`.
    pub(crate) fn headers(&self, data: u64, stored: u64) {
        let rounded = stored.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        self.0.headers.borrow_mut().clear();
        self.0.start.set(data.saturating_add(rounded));
    }

    /// The entry's own data come, from here on, which are not kept.
    pub(crate) fn data(&self) -> u64 {
        self.0.start.set(u64::MAX);
        self.0.position.get()
    }

    /// What stands before the header of an entry, which is in the archive `at` there.
    pub(crate) fn before(&self, at: u64) -> io::Result<Before> {
        let mut found = Before::default();
        let headers = self.0.headers.borrow();
        let length = at.checked_sub(self.0.start.get()).and_then(|n| usize::try_from(n).ok());
        let mut before = length.and_then(|n| headers.get(..n)).ok_or_else(broken)?;
        while let Some((header, rest)) = before.split_at_checked(BLOCK as usize) {
            let header = Header::from_byte_slice(header);
            let size = header.entry_size()?;
            let data = usize::try_from(size).ok().and_then(|n| rest.get(..n)).ok_or_else(broken)?;
            match header.entry_type() {
                EntryType::XHeader => found.pax = data.to_vec(),
                EntryType::GNULongName => found.long_name = true,
                EntryType::GNULongLink => found.long_link = true,
                _ => return Err(broken()),
            }
            before = rest.get(data.len().next_multiple_of(BLOCK as usize)..).ok_or_else(broken)?;
        }
        Ok(found)
    }

    /// The map of a sparse file with this header, which the crate has read and found good;
    /// what belongs to it besides stands in the archive from `at` on.
    pub(crate) fn map(&self, header: &Header, at: u64) -> io::Result<Map> {
        let gnu = header.as_gnu().ok_or_else(broken)?;
        let mut pieces = Vec::new();
        let mut add = |all: &[GnuSparseHeader]| {
            for piece in all.iter().filter(|piece| !piece.is_empty()) {
                pieces.push((piece.offset()?, piece.length()?));
            }
            io::Result::Ok(())
        };
        add(&gnu.sparse)?;
        let headers = self.0.headers.borrow();
        let skipped = at.checked_sub(self.0.start.get()).and_then(|n| usize::try_from(n).ok());
        let mut more = skipped.and_then(|n| headers.get(n..)).ok_or_else(broken)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let mut next = GnuExtSparseHeader::new();
            more.read_exact(next.as_mut_bytes())?;
            add(&next.sparse)?;
            is_extended = next.is_extended();
        }
        Map::of(gnu.real_size()?, pieces)
    }

    /// The stored bytes of an entry that the crate has read nothing of.
    pub(crate) fn stored(&self, bytes: u64) -> Stored<R> {
        Stored { from: self.share(), left: bytes }
    }
}

impl<R: Read> Read for Shared<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Beneath { from, position, owed, headers, start } = &*self.0;
        let n = match owed.get() {
            0 => from.borrow_mut().read(buffer)?,
            // The crate goes past an entry that it has not read; what it is given is all one.
            bytes => {
                let n = usize::try_from(bytes).map_or(buffer.len(), |n| n.min(buffer.len()));
                buffer[..n].fill(0);
                owed.set(bytes - n as u64);
                n
            }
        };
        let before = start.get().saturating_sub(position.get());
        let before = usize::try_from(before).map_or(n, |before| before.min(n));
        headers.borrow_mut().extend_from_slice(&buffer[before..n]);
        position.set(position.get().saturating_add(n as u64));
        Ok(n)
    }
}

/// Reads what is stored of one entry.
#[derive(Debug)]
pub(crate) struct Stored<R> {
    from: Shared<R>,
    left: u64,
}

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = usize::try_from(self.left).map_or(buffer.len(), |n| n.min(buffer.len()));
        let n = self.from.0.from.borrow_mut().read(&mut buffer[..n])?;
        self.left -= n as u64;
        self.from.0.owed.set(self.from.0.owed.get().saturating_add(n as u64));
        Ok(n)
    }
}
