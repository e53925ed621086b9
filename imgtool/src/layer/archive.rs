//! Reading a layer's archive: tar in all its dialects.

use std::io::Read;

use squashfs::{Device, Meta, Special, Xattrs};
use tar::EntryType;
use udi::{Error, Result};

use super::extras::Extras;
use super::meter::Meter;
use super::pax;
use super::record::{Item, What, clean};
use super::sparse::old::{Before, Shared};
use super::sparse::{Headers, Map};

/// Before the name of something that lower layers have and the image does not.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What is stored is padded to these.
const BLOCK: u64 = 512;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// The contents of a file as the archive has them.
pub(crate) struct Contents<'a> {
    data: &'a mut dyn Read,
    map: Map,
    buffer: &'a mut Vec<u8>,
}

/// A piece of a file.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    Bytes(&'a [u8]),
    Zeros(u64),
}

impl std::fmt::Debug for Contents<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<'a> Contents<'a> {
    /// Contents that `data` has, without its holes; `buffer` may be used again and again.
    pub(crate) fn of(data: &'a mut dyn Read, map: Map, buffer: &'a mut Vec<u8>) -> Self {
        Self { data, map, buffer }
    }

    pub(crate) fn size(&self) -> u64 {
        self.map.size
    }

    /// The whole file, if it is there without holes.
    pub(crate) fn whole(&mut self) -> Option<impl Read + '_> {
        let size = self.map.size;
        let plain = self.map.pieces.iter().all(|&piece| piece == (0, size));
        plain.then(|| self.data.take(size))
    }

    /// Hands out the whole file, piece by piece.
    pub(crate) fn each(&mut self, mut give: impl FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        let mut position = 0;
        self.buffer.resize(CHUNK, 0);
        for (offset, length) in std::mem::take(&mut self.map.pieces) {
            if offset > position {
                give(Piece::Zeros(offset - position))?;
            }
            let mut left = length;
            while left > 0 {
                let now = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                let bytes = &mut self.buffer[..now];
                self.data.read_exact(bytes).map_err(unreadable)?;
                give(if is_zero(bytes) { Piece::Zeros(now as u64) } else { Piece::Bytes(bytes) })?;
                left -= now as u64;
            }
            position = offset + length;
        }
        if self.map.size > position {
            give(Piece::Zeros(self.map.size - position))?;
        }
        Ok(())
    }
}

/// Reads an archive to its end, and hands out its entries. A file comes without number and
/// with its contents, which the visitor may take; it gives the item that was made of it.
pub(crate) fn read(
    stream: impl Read,
    extras: &mut Extras,
    mut visit: impl FnMut(Item<'_>, Option<&mut Contents<'_>>) -> Result<()>,
) -> Result<()> {
    let shared = Shared::of(stream);
    let (meter, stream) = Meter::of(shared.share());
    let mut archive = tar::Archive::new(stream);
    let mut entries = archive.entries().map_err(unreadable)?;
    let mut buffer = Vec::new();
    let (mut data, mut stored, mut left) = (0, 0, 0);
    loop {
        meter.headers(left);
        shared.headers(data, stored);
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry.map_err(unreadable)?;
        meter.data();
        let old = match entry.header().entry_type() {
            EntryType::GNUSparse => {
                let map = shared.map(entry.header(), entry.raw_file_position());
                Some(map.map_err(unreadable)?)
            }
            _ => None,
        };
        let before = shared.before(entry.raw_header_position()).map_err(unreadable)?;
        data = shared.data();
        stored = old.as_ref().map_or(entry.size(), Map::stored);
        let old = old.map(|map| (map, shared.stored(stored)));
        see(&mut entry, (&before, extras), old, &mut buffer, &mut visit)?;
        left = stored.saturating_add(BLOCK).saturating_sub(meter.read());
    }
}

/// Hands out one entry, with what stands before it; of an `old` sparse file, what it is made of.
fn see<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    (before, extras): (&Before, &mut Extras),
    old: Option<(Map, impl Read)>,
    buffer: &mut Vec<u8>,
    visit: &mut impl FnMut(Item<'_>, Option<&mut Contents<'_>>) -> Result<()>,
) -> Result<()> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) || kind.as_byte() == b'V' {
        return Ok(());
    }
    let extended = Extended::of(before, extras)?;
    let name = extended.sparse.name.clone().or(extended.path.clone());
    let raw = name.unwrap_or_else(|| entry.path_bytes().into_owned());
    let path = clean(&raw, false)?;
    // The crate went past so many bytes; who means others means to hide something.
    if kind != EntryType::GNUSparse && extended.size.is_some_and(|size| size != entry.size()) {
        return Err(Error::user(format!("{}: has two sizes", String::from_utf8_lossy(&path))));
    }
    let mut meta = meta(entry.header(), &extended).map_err(|e| e.because_of(&path))?;
    let is_file = matches!(
        kind,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Directory
    );
    // No other kind can have them.
    if is_file && !extended.xattrs.is_empty() {
        let shown = || format!("{}: ", String::from_utf8_lossy(&path));
        meta.xattrs = extras.number(&extended.xattrs).map_err(|e| e.about(shown()))?;
    }
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or(&[]);
    if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        let directory = path[..path.len() - name.len()].strip_suffix(b"/").unwrap_or(b"");
        if name == OPAQUE {
            visit(Item { path: directory, meta, what: What::Opaque }, None)?;
            return Ok(());
        }
        let mut whited = path[..path.len() - name.len()].to_vec();
        whited.extend(hidden);
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::user(format!(
                "{}: a whiteout of nothing",
                String::from_utf8_lossy(&path)
            )));
        }
        visit(Item { path: &whited, meta, what: What::Whiteout }, None)?;
        return Ok(());
    }
    let link = extended.link.clone();
    let target = || match link.or_else(|| entry.link_name_bytes().map(|name| name.into_owned())) {
        Some(target) if !target.is_empty() && target.len() <= squashfs::TARGET_MAX => Ok(target),
        _ => Err(Error::user(format!("{}: a link to nothing", String::from_utf8_lossy(&path)))),
    };
    match kind {
        // The oldest archives mark directories by a slash only.
        EntryType::Regular if raw.ends_with(b"/") => {
            visit(Item { path: &path, meta, what: What::Directory }, None)?;
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let (size, mut old) = (entry.size(), old);
            let mut contents = match &mut old {
                Some((map, data)) => Contents { data, map: std::mem::take(map), buffer },
                None => {
                    let map = extended.sparse.map(entry).map_err(unreadable)?;
                    let map = map.unwrap_or_else(|| Map { size, pieces: vec![(0, size)] });
                    Contents { data: entry, map, buffer }
                }
            };
            visit(Item { path: &path, meta, what: What::File(None) }, Some(&mut contents))?;
        }
        EntryType::Directory => visit(Item { path: &path, meta, what: What::Directory }, None)?,
        EntryType::Symlink => {
            visit(Item { path: &path, meta, what: What::Symlink(&target()?) }, None)?;
        }
        EntryType::Link => {
            let target = clean(&target()?, true)?;
            visit(Item { path: &path, meta, what: What::Hardlink(&target) }, None)?;
        }
        EntryType::Fifo => {
            visit(Item { path: &path, meta, what: What::Special(Special::Fifo) }, None)?;
        }
        EntryType::Char | EntryType::Block => {
            let header = entry.header();
            let number = |n: std::io::Result<Option<u32>>| n.ok().flatten();
            let numbers = number(header.device_major()).zip(number(header.device_minor()));
            let device = numbers.and_then(|(major, minor)| Device::new(major, minor));
            let kind = if kind == EntryType::Char { Special::Character } else { Special::Block };
            visit(Item { path: &path, meta, what: extras.device(kind, device) }, None)?;
        }
        other => {
            return Err(Error::user(format!(
                "{}: an entry of unknown type {:?}",
                String::from_utf8_lossy(&path),
                char::from(other.as_byte())
            )));
        }
    }
    Ok(())
}

/// What a PAX header says.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u32>,
    xattrs: Xattrs,
    sparse: Headers,
}

impl Extended {
    fn of(before: &Before, extras: &Extras) -> Result<Self> {
        let mut all = Self::default();
        for record in pax::records(&before.pax) {
            let (key, value) = record.map_err(unreadable)?;
            match key {
                b"path" if !before.long_name => all.path = Some(value.to_vec()),
                b"linkpath" if !before.long_link => all.link = Some(value.to_vec()),
                b"size" => all.size = pax::number(value),
                b"uid" => all.uid = pax::number(value),
                b"gid" => all.gid = pax::number(value),
                b"mtime" => all.mtime = Some(seconds(value)),
                key => match extras.pax(key) {
                    Some(name) => drop(all.xattrs.insert(name.to_vec(), value.to_vec())),
                    None => all.sparse.see(key, value).map_err(unreadable)?,
                },
            }
        }
        Ok(all)
    }
}

/// Whole seconds of a PAX time, within what squashfs can say.
fn seconds(text: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(text);
    let whole = text.split('.').next().unwrap_or("");
    let seconds: i64 = whole.parse().unwrap_or(0);
    u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
}

struct BadField(&'static str);

impl BadField {
    fn because_of(&self, path: &[u8]) -> Error {
        Error::user(format!("{}: its {} is none", String::from_utf8_lossy(path), self.0))
    }
}

fn meta(header: &tar::Header, extended: &Extended) -> std::result::Result<Meta, BadField> {
    let old = header.as_old();
    // Some archivers leave a field blank where others write 0.
    let blank = |field: &[u8]| field.iter().all(|b| matches!(b, 0 | b' '));
    let id = |field: &[u8], id: std::io::Result<u64>, extended: Option<u64>| match id {
        _ if extended.is_some() => {
            extended.and_then(|id| u32::try_from(id).ok()).filter(|&id| id != u32::MAX)
        }
        Err(_) if blank(field) => Some(0),
        id => id.ok().and_then(|id| u32::try_from(id).ok()).filter(|&id| id != u32::MAX),
    };
    let mode = match header.mode() {
        Err(_) if blank(&old.mode) => 0,
        mode => mode.map_err(|_| BadField("mode"))?,
    };
    // A time before 1970 is written in a form that the crate does not read.
    let mtime = extended
        .mtime
        .unwrap_or_else(|| header.mtime().map_or(0, |t| u32::try_from(t).unwrap_or(u32::MAX)));
    Ok(Meta {
        mode: (mode & 0o7777) as u16,
        uid: id(&old.uid, header.uid(), extended.uid).ok_or(BadField("owner"))?,
        gid: id(&old.gid, header.gid(), extended.gid).ok_or(BadField("group"))?,
        mtime,
        xattrs: 0,
    })
}

/// A failure further down (network, digest) keeps its own words; else the archive is broken.
fn unreadable(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::user("the archive is broken").because(error),
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    bytes.first() == Some(&0)
        && chunks.iter().all(|c| *c == [0; 64])
        && rest.iter().all(|&b| b == 0)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
