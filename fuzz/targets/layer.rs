//! Layers of an image, from a registry that means harm, to the tree that the writer is told of.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../imgtool/src/layer"]
mod layer {
    pub(crate) mod archive;
    pub(crate) mod extras;
    pub(crate) mod filter;
    pub(crate) mod merge;
    pub(crate) mod meter;
    mod pax;
    pub(crate) mod record;
    mod sparse;
}
#[path = "../../imgtool/src"]
mod imgtool {
    pub(crate) mod wire;
}

use imgtool::wire::{self, ToWriter};
use layer::{
    archive,
    merge::Image,
    record::{Layer, What},
};

/// Two layers, a file system each: what stands before the mark is the base.
const MARK: &[u8] = b"\nLAYER\n";

/// Puts the checksum right wherever there may be a header: a registry can count, too.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.windows(MARK.len()).position(|window| window == MARK);
    let (base, upper) = at.map_or((bytes, &[][..]), |at| (&bytes[..at], &bytes[at + MARK.len()..]));
    let mut layers = Vec::new();
    let mut images = udi::ImagesConfig::default();
    (images.xattrs, images.devices) = (udi::Extra::Keep, udi::Extra::Keep);
    let mut extras = layer::extras::Extras::of(&images);
    for stream in [base, upper] {
        let (mut layer, mut files) = (Layer::default(), 0);
        let stream = with_checksums(stream);
        let read = archive::read(&stream[..], &mut extras, |mut item, contents| {
            if let Some(contents) = contents {
                // A file may claim to be an exabyte of holes; its pieces must add up all the same.
                let (size, mut sum) = (contents.size(), 0u64);
                contents.each(|piece| {
                    sum += match piece {
                        archive::Piece::Bytes(bytes) => bytes.len() as u64,
                        archive::Piece::Zeros(length) => length,
                    };
                    Ok(())
                })?;
                assert_eq!(sum, size);
                item.what = What::File(Some(files));
                files += 1;
            }
            layer.push(item)
        });
        if read.is_ok() {
            layers.push(layer);
        }
    }
    let Ok(image) = Image::of(layers, |number| format!("{number}")) else { return };
    if !image.missing().is_empty() {
        return;
    }
    // The writer is told of a tree: directories are entered and left, names are names.
    let mut depth = 0u32;
    let _ = image.send(&extras, |message| {
        let name = match &message {
            ToWriter::Enter { name, .. } => {
                depth += 1;
                Some(name)
            }
            ToWriter::Leave => {
                depth -= 1;
                None
            }
            ToWriter::File { name, .. }
            | ToWriter::Symlink { name, .. }
            | ToWriter::Special { name, .. }
            | ToWriter::Link { name, .. } => Some(name),
            _ => None,
        };
        if let Some(name) = name {
            assert!(depth <= 1 || !matches!(&name[..], b"" | b"." | b".."));
            assert!(
                !name.contains(&b'/') && !name.contains(&0) && name.len() <= squashfs::NAME_MAX
            );
        }
        Ok(())
    });
    assert_eq!(depth, 0);
});
