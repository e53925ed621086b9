//! Archives of images: tar, also compressed as a whole, whose members may come in any order.
//!
//! An archive is gone through once for what is where; then members are read where they are. One
//! that is compressed with gzip is entered near them, see [`gzip`]. What zstd needs to know is too
//! much to be kept: there the only way is from the start, once for each layer. No byte of it is
//! written anywhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tar::EntryType;

use udi::{Error, Result};

use super::gzip;
use super::parts::{Part, Parts, REPAIR};
use crate::layer::meter::Meter;
use crate::layer::record::clean;
use crate::source::decoded::{Compression, Decoded, compression, refuse_bomb};
use crate::source::stream::{Pieces, fill, pieces};

/// More files than any image's archive has.
const MAX_MEMBERS: usize = 100_000;
/// Links to links to links.
const MAX_LINKS: usize = 8;

/// What is where in an archive.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    whole: Whole,
    path: String,
    members: BTreeMap<Vec<u8>, Member>,
}

/// How the archive is compressed as a whole.
#[derive(Clone, Debug)]
enum Whole {
    Plain,
    Gzip(Arc<gzip::Points>),
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    File {
        offset: u64,
        size: u64,
        /// Whether it begins like something compressed.
        is_compressed: bool,
    },
    /// Another name for the member of this one.
    Link(Vec<u8>),
}

impl Archive {
    /// Goes through the archive `file`, which messages call `path`.
    pub(super) fn open(file: File, path: &str) -> Result<Self> {
        let file = Arc::new(file);
        let broken = |e| broken(path, e);
        let length = file.metadata().map_err(broken)?.len();
        let all = || BufReader::new(Section::of(&file, 0, length));
        let mut start = [0; 4];
        let started = fill(&mut all(), &mut start).map_err(broken)?;
        let (whole, members) = match compression(&start[..started]) {
            Some(Compression::Gzip) => {
                let reader = Bounded(gzip::Reader::with_points(&file).map_err(broken)?);
                let (meter, reader) = Meter::of(reader);
                let mut archive = tar::Archive::new(reader);
                let members = members(archive.entries().map_err(broken)?, &meter, None);
                let points = archive.into_inner().into_inner().0.into_points();
                (points.map_or(Whole::Other, |points| Whole::Gzip(Arc::new(points))), members)
            }
            Some(Compression::Zstd) => {
                let (meter, decoded) = Meter::of(Decoded::of(all(), path).map_err(broken)?);
                let mut archive = tar::Archive::new(decoded);
                (Whole::Other, members(archive.entries().map_err(broken)?, &meter, None))
            }
            None => {
                // It knows more kinds, to refuse them.
                drop(Decoded::of(all(), path).map_err(broken)?);
                let (meter, all) = Meter::of(all());
                let mut archive = tar::Archive::new(all);
                let entries = archive.entries_with_seek().map_err(broken)?;
                (Whole::Plain, members(entries, &meter, Some(length)))
            }
        };
        let members = members.map_err(broken)?;
        Ok(Self { file, whole, path: path.to_owned(), members })
    }

    /// Bytes of the file `name`, and whether it is compressed (whatever the archive is): known
    /// without reading it, which in a compressed archive means all that stands before it.
    pub(super) fn look(&self, name: &str) -> Option<(u64, bool)> {
        self.find(name).map(|(_, size, is_compressed)| (size, is_compressed))
    }

    fn find(&self, name: &str) -> Option<(u64, u64, bool)> {
        let mut name = clean(name.as_bytes(), true).ok()?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&name)? {
                Member::File { offset, size, is_compressed } => {
                    return Some((*offset, *size, *is_compressed));
                }
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

impl Parts for Archive {
    fn open(&self, name: &str) -> Result<Option<Part>> {
        let Some((offset, size, _)) = self.find(name) else { return Ok(None) };
        let whole = self.whole.clone();
        if matches!(whole, Whole::Plain) {
            return Ok(Some((Box::new(Section::of(&self.file, offset, size)), size)));
        }
        // A decompressor stays on its thread.
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let from = pieces(move |give| {
            let inner = || -> io::Result<()> {
                if let Whole::Gzip(points) = whole {
                    return give(&mut points.reader(offset)?.take(size));
                }
                let length = file.metadata()?.len();
                let from = BufReader::new(Section::of(&file, 0, length));
                let mut decoded = Decoded::of(from, &path)?;
                let skipped = io::copy(&mut (&mut decoded).take(offset), &mut io::sink())?;
                let mut section = decoded.take(size);
                if skipped < offset {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                give(&mut section)
            };
            inner().map_err(|e| broken(&path, e))
        })?;
        let from: Pieces = from;
        Ok(Some((Box::new(from), size)))
    }
}

fn broken(path: &str, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) if error.next_steps().is_empty() => error.about(format!("{path}: ")).hint(REPAIR),
        Ok(error) => error,
        Err(error) => Error::user(format!("{path} is no archive of an image, or a broken one"))
            .because(error)
            .hint(REPAIR),
    }
}

/// What comes out of gzip, unless it is a bomb.
struct Bounded(gzip::Reader);

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        let (taken, given) = self.0.counts();
        refuse_bomb("it", taken, given)?;
        Ok(n)
    }
}

/// The members of an archive, which is read through, or whose file ends at `end`.
fn members<R: Read>(
    mut entries: tar::Entries<'_, R>,
    meter: &Meter,
    end: Option<u64>,
) -> io::Result<BTreeMap<Vec<u8>, Member>> {
    let mut members = BTreeMap::new();
    let mut stored = 0;
    loop {
        meter.headers(stored);
        let Some(entry) = entries.next() else { return Ok(members) };
        let mut entry = entry?;
        meter.data();
        // What follows is read over, but where one can go past it.
        stored = if end.is_none() { entry.size().saturating_add(512) } else { 0 };
        let name = entry.path_bytes().into_owned();
        let refuse = |why: &str| {
            let name = String::from_utf8_lossy(&name);
            io::Error::other(Error::user(format!("{name}: {why}")))
        };
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|last| end.is_some_and(|end| last > end)) {
                    return Err(refuse("the archive ends in the middle of it"));
                }
                let mut start = [0; 4];
                let length = fill(&mut entry, &mut start)?;
                let is_compressed = compression(&start[..length]).is_some();
                Member::File { offset, size, is_compressed }
            }
            // Old dockers write a layer that an image has twice once, and a link to it.
            EntryType::Symlink => {
                let directory = name.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
                let target = entry.link_name_bytes().unwrap_or_default();
                match joined(&name[..directory], &target) {
                    Some(target) => Member::Link(target),
                    None => return Err(refuse("a link that leads out of the archive")),
                }
            }
            EntryType::Link => Member::Link(
                clean(&entry.link_name_bytes().unwrap_or_default(), true)
                    .map_err(io::Error::other)?,
            ),
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            _ => return Err(refuse("no image's archive has such an entry")),
        };
        if members.len() >= MAX_MEMBERS {
            return Err(refuse("the archive has more files than any image"));
        }
        members.insert(clean(&name, true).map_err(io::Error::other)?, member);
    }
}

/// What `target` means in `directory`; nothing if it leads out.
fn joined(directory: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let absolute = target.first() == Some(&b'/');
    let directory: &[u8] = if absolute { b"" } else { directory };
    for part in directory.split(|&b| b == b'/').chain(target.split(|&b| b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// A part of a file, read without moving anybody else's place in it.
#[derive(Debug)]
pub(super) struct Section {
    file: Arc<File>,
    start: u64,
    length: u64,
    position: u64,
}

impl Section {
    pub(super) fn of(file: &Arc<File>, start: u64, length: u64) -> Self {
        Self { file: Arc::clone(file), start, length, position: 0 }
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let now = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if now == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..now], self.start.saturating_add(self.position))? {
            // It was longer when it was opened.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.position += n as u64;
                Ok(n)
            }
        }
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
