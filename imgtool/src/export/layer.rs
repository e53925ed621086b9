//! A squashfs file of ours as one layer: a tar archive.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use squashfs::Special;
use tar::{EntryType, Header};
use udi::{Digest, Error, Result};

use super::cannot;
use crate::import;
use crate::layer::record::{Item, What};

/// Ours, and made anew by whoever imports it.
const DESCRIPTION: &[u8] = b".shifter";

/// Counts what is written, and makes a digest of it.
pub(super) struct Hashed<W> {
    to: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    pub(super) fn of(to: W) -> Self {
        Self { to, hash: Sha256::new(), bytes: 0 }
    }

    /// The digest, and how many bytes there were.
    pub(super) fn end(self) -> (Digest, u64) {
        (Digest::from_bytes(&self.hash.finalize().into()), self.bytes)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes what is in `image` as a layer; gives its digest and length.
pub(super) fn write(image: &File, to: impl Write) -> Result<(Digest, u64)> {
    let image = image.try_clone().map_err(|e| Error::bug("cannot use a file twice").because(e))?;
    let mut builder = tar::Builder::new(Hashed::of(to));
    import::squashfs::read(image, "the image", true, &mut |item, contents| {
        let top = item.path.split(|&b| b == b'/').next();
        if top == Some(DESCRIPTION) {
            return Ok(());
        }
        let Some(mut header) = header(&item) else { return Ok(()) };
        let path = match item.path {
            b"" => Path::new("."),
            path => Path::new(OsStr::from_bytes(path)),
        };
        let done = match (item.what, contents) {
            (What::File(_), Some(contents)) => {
                header.set_size(contents.size());
                let data = contents.whole().ok_or_else(|| Error::bug("a file with holes"))?;
                builder.append_data(&mut header, path, data)
            }
            (What::Symlink(target) | What::Hardlink(target), _) => {
                builder.append_link(&mut header, path, Path::new(OsStr::from_bytes(target)))
            }
            _ => builder.append_data(&mut header, path, io::empty()),
        };
        done.map_err(cannot)
    })?;
    Ok(builder.into_inner().map_err(cannot)?.end())
}

/// What an archive says of an entry; nothing for what archives cannot have.
fn header(item: &Item<'_>) -> Option<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(match item.what {
        What::Directory => EntryType::Directory,
        What::File(_) => EntryType::Regular,
        What::Symlink(_) => EntryType::Symlink,
        What::Hardlink(_) => EntryType::Link,
        What::Special(Special::Fifo) => EntryType::Fifo,
        What::Special(Special::Character(_)) => EntryType::Char,
        What::Special(Special::Block(_)) => EntryType::Block,
        _ => return None,
    });
    let meta = item.meta;
    header.set_mode(u32::from(meta.mode));
    header.set_uid(meta.uid.into());
    header.set_gid(meta.gid.into());
    header.set_mtime(meta.mtime.into());
    header.set_size(0);
    if let What::Special(Special::Character(device) | Special::Block(device)) = item.what {
        header.set_device_major(device.major()).ok()?;
        header.set_device_minor(device.minor()).ok()?;
    }
    Some(header)
}
