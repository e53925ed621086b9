//! The digest of a tree of files, whichever way it comes.
//!
//! An image of a registry is what its manifest says. A tree has none, so one is made: it has the
//! digest of a list of all names, in order, with types, modes, owners, times, link targets, and
//! the digests of the contents. The same tree, in a directory or in an archive in whatever
//! order, is the same image. What is below must never change: digests live for ever.

use sha2::{Digest as _, Sha256};

use squashfs::{Meta, Special};
use udi::{Digest, Error, Result};

use crate::layer::archive::Piece;
use crate::source::manifest::sha256;
use crate::wire::ToWriter;

const KIND: &str = "application/vnd.shifter.tree.v1+json";
const BLOCK: usize = 128 << 10;

/// The digest of the contents of a file. Blocks of zeros do not count, so that a hole is the
/// same whether it is stored or not, and a terabyte of nothing takes no time.
#[derive(Debug, Default)]
pub(super) struct Contents {
    hash: Sha256,
    block: Vec<u8>,
    number: u64,
    size: u64,
}

impl Contents {
    pub(super) fn see(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Bytes(bytes) => self.bytes(bytes),
            Piece::Zeros(length) => self.zeros(*length),
        }
    }

    fn bytes(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend(now);
            self.end_block(BLOCK);
            bytes = rest;
        }
    }

    fn zeros(&mut self, mut length: u64) {
        self.size = self.size.saturating_add(length);
        if !self.block.is_empty() {
            let now = length.min((BLOCK - self.block.len()) as u64);
            self.block.resize(self.block.len() + now as usize, 0);
            self.end_block(BLOCK);
            length -= now;
        }
        if self.block.is_empty() {
            self.number += length / BLOCK as u64;
            self.block.resize((length % BLOCK as u64) as usize, 0);
        }
    }

    fn end_block(&mut self, full: usize) {
        if self.block.len() < full {
            return;
        }
        if self.block.iter().any(|&b| b != 0) {
            self.hash.update(self.number.to_le_bytes());
            self.hash.update(&self.block);
        }
        self.number += 1;
        self.block.clear();
    }

    pub(super) fn end(mut self) -> [u8; 32] {
        if !self.block.is_empty() {
            self.end_block(0);
        }
        self.hash.update(self.size.to_le_bytes());
        self.hash.finalize().into()
    }
}

/// The list of a tree's names.
#[derive(Debug, Default)]
pub(super) struct Names {
    hash: Sha256,
}

impl Names {
    /// Takes note of what the writer is told; `contents` are the digests of the contents that
    /// were sent.
    pub(super) fn see(&mut self, message: &ToWriter, contents: &[[u8; 32]]) -> Result<()> {
        match message {
            ToWriter::Enter { name, meta } => self.entry(b'd', name, meta, &[]),
            ToWriter::File { name, meta, contents: number, .. } => {
                let digest = contents.get(*number as usize);
                let digest = digest.ok_or_else(|| Error::bug("contents that nobody has seen"))?;
                self.entry(b'f', name, meta, digest);
            }
            ToWriter::Symlink { name, meta, target, .. } => self.entry(b'l', name, meta, target),
            ToWriter::Special { name, meta, special: Special::Fifo, .. } => {
                self.entry(b'p', name, meta, &[]);
            }
            ToWriter::Special { name, meta, special: Special::Socket, .. } => {
                self.entry(b's', name, meta, &[]);
            }
            ToWriter::Special { name, meta, special: Special::Character(device), .. } => {
                self.entry(b'c', name, meta, &device.0.to_le_bytes());
            }
            ToWriter::Special { name, meta, special: Special::Block(device), .. } => {
                self.entry(b'b', name, meta, &device.0.to_le_bytes());
            }
            ToWriter::Xattrs(set) => {
                self.hash.update(b"x");
                self.hash.update((set.len() as u32).to_le_bytes());
                self.hash.update(set);
            }
            ToWriter::Link { name, nth } => {
                let meta = Meta { mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: 0 };
                self.entry(b'h', name, &meta, &nth.to_le_bytes());
            }
            ToWriter::Leave => self.hash.update(b"."),
            _ => return Err(Error::bug("a tree with something else in it")),
        }
        Ok(())
    }

    fn entry(&mut self, kind: u8, name: &[u8], meta: &Meta, rest: &[u8]) {
        self.hash.update([kind]);
        self.hash.update((name.len() as u32).to_le_bytes());
        self.hash.update(name);
        self.hash.update(meta.mode.to_le_bytes());
        for field in [meta.uid, meta.gid, meta.mtime, rest.len() as u32] {
            self.hash.update(field.to_le_bytes());
        }
        self.hash.update(rest);
        // Most have none, and their digests are older than this.
        if meta.xattrs != 0 {
            self.hash.update(b"X");
            self.hash.update(meta.xattrs.to_le_bytes());
        }
    }

    /// The digest of the manifest that a tree of these names has, and an image that says of
    /// itself what `configuration` is the digest of.
    pub(super) fn end(self, platform: &str, configuration: Option<&Digest>) -> Digest {
        let tree = Digest::from_bytes(&self.hash.finalize().into());
        // No field of an image's own manifest, so that no image can be taken for a tree.
        let mut manifest =
            serde_json::json!({ "mediaType": KIND, "platform": platform, "tree": tree });
        if let Some(configuration) = configuration {
            manifest["configuration"] = configuration.as_str().into();
        }
        sha256(manifest.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file in pieces: as bytes, or as holes where `holes` says so and there are zeros.
    fn digest(file: &[u8], cuts: &[usize], holes: bool) -> [u8; 32] {
        let mut contents = Contents::default();
        let mut rest = file;
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().map_or(rest.len(), |cut| (cut % rest.len()) + 1);
            let (now, after) = rest.split_at(cut);
            match holes && now.iter().all(|&b| b == 0) {
                true => contents.see(&Piece::Zeros(now.len() as u64)),
                false => contents.see(&Piece::Bytes(now)),
            }
            rest = after;
        }
        contents.end()
    }

    proptest! {
        #[test]
        fn a_file_is_the_same_however_it_is_cut_and_wherever_it_has_holes(
            runs in prop::collection::vec((0usize..200_000, any::<u8>()), 0..6),
            cuts in prop::collection::vec(0usize..300_000, 1..4),
        ) {
            let file: Vec<u8> = runs.iter().flat_map(|&(n, b)| vec![if n % 2 == 0 { 0 } else { b }; n]).collect();
            let whole = digest(&file, &[usize::MAX - 1], false);
            prop_assert_eq!(digest(&file, &cuts, false), whole);
            prop_assert_eq!(digest(&file, &cuts, true), whole);
            let mut other = file.clone();
            other.push(0);
            prop_assert_ne!(digest(&other, &cuts, true), whole);
            if !file.is_empty() && let Some(byte) = other.first_mut() {
                *byte ^= 1;
                prop_assert_ne!(digest(&other[..file.len()], &cuts, true), whole);
            }
        }
    }

    #[test]
    fn a_terabyte_of_nothing_takes_no_time() {
        let mut contents = Contents::default();
        contents.see(&Piece::Zeros(1 << 40));
        contents.end();
    }
}
