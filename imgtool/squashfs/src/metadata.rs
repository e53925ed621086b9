//! Metadata: a stream cut into compressed blocks of 8 KiB.

use std::io;

use crate::pool::compress;

/// Bytes of a metadata block before compression.
pub(crate) const SIZE: usize = 8192;
/// In a block's length: it is stored, not compressed.
const STORED: u16 = 1 << 15;

/// A place in the stream: the block's position in the compressed table, the offset in the
/// uncompressed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) block: u32,
    pub(crate) offset: u16,
}

impl Place {
    /// As inode references have it.
    pub(crate) fn packed(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

pub(crate) struct Table {
    compressor: zstd::bulk::Compressor<'static>,
    /// Finished blocks.
    pub(crate) bytes: Vec<u8>,
    /// Where each finished block starts in `bytes`.
    pub(crate) starts: Vec<u64>,
    block: Vec<u8>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Table {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(level)?;
        Ok(Self {
            compressor,
            bytes: Vec::new(),
            starts: Vec::new(),
            block: Vec::with_capacity(SIZE),
        })
    }

    /// Where the next byte goes.
    pub(crate) fn place(&self) -> io::Result<Place> {
        let block =
            u32::try_from(self.bytes.len()).map_err(|_| crate::invalid("too much metadata"))?;
        Ok(Place { block, offset: u16::try_from(self.block.len()).unwrap_or(0) })
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SIZE - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == SIZE {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the stream.
    pub(crate) fn finish(mut self) -> io::Result<Self> {
        self.flush()?;
        Ok(self)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let raw = std::mem::replace(&mut self.block, Vec::with_capacity(SIZE));
        let block = compress(&mut self.compressor, raw)?;
        let length =
            u16::try_from(block.bytes.len()).map_err(|_| crate::invalid("too much metadata"))?;
        self.starts.push(self.bytes.len() as u64);
        self.bytes.extend((if block.stored { length | STORED } else { length }).to_le_bytes());
        self.bytes.extend(block.bytes);
        Ok(())
    }
}
