//! Writes squashfs 4.0 images as a stream.
//!
//! First the contents of files, in any order, one after another: [`Writer`]. They are
//! compressed by several threads and written in the order in which they came, so that the
//! image depends on neither number nor speed of the threads. Then the tree over them, depth
//! first: [`Tree`]. Neither contents nor names are kept in memory.
//!
//! What crates.io has lacks (backhand 0.25): hard links, the index of large directories
//! without which each look-up in them reads half of the directory, and threads.
//!
//! Not written, because no image of ours has them: extended attributes that are not users'
//! own, the table for export by NFS.
#![forbid(unsafe_code)]

mod data;
mod directory;
mod inode;
mod metadata;
mod pool;
mod tree;
mod xattr;

pub use data::{Contents, Writer};
pub use inode::{Device, Meta, Special};
pub use tree::{Inode, Tree};
pub use xattr::{XATTR_NAME_MAX, XATTRS_MAX, Xattrs};

use std::io;

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of a block: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
    /// Level of zstd; nothing leaves contents as they are.
    pub level: Option<i32>,
    /// Threads that compress.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { block_size: 128 << 10, level: Some(3), threads }
    }
}

/// The longest name that Linux lets through.
pub const NAME_MAX: usize = 255;
/// The longest target of a symbolic link that Linux reads.
pub const TARGET_MAX: usize = 4095;

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

#[cfg(test)]
mod tests;
