//! The listing of a directory.

use std::io;

use crate::inode::{Index, Kind};
use crate::metadata::{Place, Table};

/// One name in a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Box<[u8]>,
    pub(crate) inode: Place,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
}

/// Entries below one header.
const RUN: usize = 256;

/// Writes a listing; gives its place, its length, and its index if it is long.
pub(crate) fn write(table: &mut Table, entries: &[Entry]) -> io::Result<(Place, u32, Index)> {
    let place = table.place()?;
    let mut index = Index::default();
    let mut length = 0;
    let mut indexed = place.block;
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let here = table.place()?;
        // Linux starts at the last indexed header before the name it looks for: one header
        // per metadata block is worth an entry, the first block is where it starts anyway.
        if here.block != indexed {
            indexed = here.block;
            index.add(length, here.block, &first.name);
        }
        let (run, later) = rest.split_at(run(first, rest, usize::from(here.offset)));
        let mut bytes = Vec::with_capacity(crate::metadata::SIZE);
        bytes.extend((run.len() as u32 - 1).to_le_bytes());
        bytes.extend(first.inode.block.to_le_bytes());
        bytes.extend(first.number.to_le_bytes());
        for entry in run {
            let delta = entry.number.wrapping_sub(first.number) as u16;
            bytes.extend(entry.inode.offset.to_le_bytes());
            bytes.extend(delta.to_le_bytes());
            bytes.extend((entry.kind as u16).to_le_bytes());
            bytes.extend((entry.name.len() as u16 - 1).to_le_bytes());
            bytes.extend(&*entry.name);
        }
        table.write(&bytes)?;
        length = u32::try_from(bytes.len())
            .ok()
            .and_then(|bytes| bytes.checked_add(length))
            .ok_or_else(|| crate::invalid("a directory is too large"))?;
        rest = later;
    }
    Ok((place, length, index))
}

/// How many entries one header, at `offset` in its metadata block, can hold: they share the
/// inode table's block, have close numbers, and start in the header's block, so that the
/// next block gets a header to be indexed.
fn run(first: &Entry, entries: &[Entry], offset: usize) -> usize {
    let mut end = offset + 12;
    entries
        .iter()
        .take(RUN)
        .take_while(|entry| {
            let starts_here = end < crate::metadata::SIZE;
            end += 8 + entry.name.len();
            let delta = i64::from(entry.number) - i64::from(first.number);
            entry.inode.block == first.inode.block && i16::try_from(delta).is_ok() && starts_here
        })
        .count()
        .max(1)
}
