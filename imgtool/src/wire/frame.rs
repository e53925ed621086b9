//! Frames, and the numbers and names in them.

use serde::Serialize;
use std::io::{self, Read, Write};

use squashfs::Meta;
use udi::Digest;

/// Larger frames are refused.
const MAX: usize = 8 << 20;

pub(super) fn json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::from)
}

pub(super) fn frame(to: &mut impl Write, tag: u8, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > MAX {
        return Err(broken());
    }
    let mut head = [tag; 5];
    head[1..].copy_from_slice(&(length as u32).to_le_bytes());
    to.write_all(&head)?;
    parts.iter().try_for_each(|part| to.write_all(part))
}

pub(super) fn unframe(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [tag, length @ ..] = head;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX {
        return Err(broken());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok((tag, bytes))
}

pub(super) fn fixed(meta: &Meta, more: &[u32]) -> Vec<u8> {
    let mut bytes = meta.mode.to_le_bytes().to_vec();
    for field in [meta.uid, meta.gid, meta.mtime, meta.xattrs].iter().chain(more) {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

/// What is left of a frame.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or_else(broken)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn meta(&mut self) -> io::Result<Meta> {
        let mode = u16::from_le_bytes(self.take()?);
        let (uid, gid) = (self.u32()?, self.u32()?);
        Ok(Meta { mode, uid, gid, mtime: self.u32()?, xattrs: self.u32()? })
    }

    pub(super) fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let (first, rest) = self.0.split_at_checked(length).ok_or_else(broken)?;
        self.0 = rest;
        Ok(first.to_vec())
    }

    pub(super) fn digest(&mut self) -> io::Result<Digest> {
        let text = self.rest();
        std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or_else(broken)
    }

    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }
}

pub(super) fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame is broken")
}
