//! What users bring: archives of images, docker's and OCI layouts'; squashfs and SIF files; an index
//! of several platforms, after the one that is wanted.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

#[path = "../../imgtool/src/import"]
mod import {
    pub(crate) mod archive;
    pub(crate) mod docker;
    pub(crate) mod gzip;
    pub(crate) mod layout;
    pub(crate) mod parts;
    pub(crate) mod sif;
    pub(crate) mod squashfs;

    use super::source::Source;

    /// The image in an archive: what the first byte says it is, and where to begin.
    pub(crate) fn open(kind: u8, file: std::fs::File) -> udi::Result<(std::sync::Arc<dyn Source>, String)> {
        let archive = archive::Archive::open(file, "fuzz")?;
        if kind == b'0' {
            let image = docker::Image::open(archive, "fuzz".into(), None)?;
            let reference = image.digest().to_string();
            return Ok((std::sync::Arc::new(image), reference));
        }
        let layout = layout::Layout::open(Box::new(archive), "fuzz".into());
        let reference = layout.find((kind == b'1').then_some("1"), "linux/amd64")?.to_string();
        Ok((std::sync::Arc::new(layout), reference))
    }
}
#[path = "../../imgtool/src/layer"]
mod layer {
    pub(crate) mod archive;
    pub(crate) mod extras;
    pub(crate) mod meter;
    mod pax;
    pub(crate) mod record;
    pub(crate) mod sparse;
}
#[path = "../../imgtool/src/source"]
mod source {
    pub(crate) mod decoded;
    pub(crate) mod manifest;
    pub(crate) mod origin;
    pub(crate) mod stream;
    pub(crate) use origin::{MAX_DOCUMENT, Source};
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, archive)) = bytes.split_first() else { return };
    if *kind == b'3' {
        let text = String::from_utf8_lossy(archive);
        let Some((platform, index)) = text.split_once('\n') else { return };
        if source::manifest::is_platform(platform)
            && let Ok(index) = source::manifest::parse(index.as_bytes())
        {
            let _ = source::manifest::choose(&index.manifests, platform);
        }
        return;
    }
    let Ok(memory) = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC) else { return };
    let mut file = File::from(memory);
    if file.write_all(archive).is_err() {
        return;
    }
    if *kind == b'2' {
        // A file may be an exabyte of holes.
        let mut left = 16u64 << 20;
        let _ = import::squashfs::read(file, "fuzz", true, &mut |item, contents| {
            assert!(!item.path.split(|&b| b == b'/').any(|part| part == b".."));
            let Some(contents) = contents else { return Ok(()) };
            contents.each(|piece| {
                let length = match piece {
                    layer::archive::Piece::Bytes(bytes) => bytes.len() as u64,
                    layer::archive::Piece::Zeros(length) => length,
                };
                left = left.checked_sub(length).ok_or_else(|| udi::Error::user("enough"))?;
                Ok(())
            })
        });
        return;
    }
    let Ok((source, reference)) = import::open(*kind, file) else { return };
    let Ok(picked) = source::manifest::pick(&*source, &reference, "linux/amd64") else { return };
    for layer in picked.layers.iter().take(4) {
        if let Ok(mut stream) = source::stream::Stream::open(&Arc::clone(&source), layer, |_| {}) {
            let _ = stream.drain();
        }
    }
});
