//! Gzip that can be entered in the middle.
//!
//! What a decompressor remembers while it goes through a file, some 40 kB, is kept every few
//! megabytes. Whoever wants what stands at some place goes on from the last such point before it,
//! instead of from the start.

use flate2::Crc;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;

use super::archive::Section;

/// Points that are kept: with more, every other one goes, and they are twice as far apart.
const MAX_POINTS: usize = 256;
/// Bytes between the first points.
const SPACING: u64 = if cfg!(test) { 64 << 10 } else { 4 << 20 };
/// Longer names and comments are no gzip file's.
const MAX_HEADER: u64 = 1 << 20;

/// Where to enter a file.
#[derive(Debug)]
pub(super) struct Points {
    file: Arc<File>,
    spacing: u64,
    points: Vec<Point>,
}

struct Point {
    /// Bytes that came out before it.
    given: u64,
    /// Bytes that went in.
    taken: u64,
    state: InflateState,
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Point").field("given", &self.given).finish_non_exhaustive()
    }
}

impl Points {
    /// What comes out from byte `offset` on. The checksum of the part that is entered in the
    /// middle was seen when the points were made.
    pub(super) fn reader(&self, offset: u64) -> io::Result<Reader> {
        let after = self.points.partition_point(|point| point.given <= offset);
        let mut reader = match after.checked_sub(1).and_then(|n| self.points.get(n)) {
            None => Reader::of(&self.file)?,
            Some(point) => Reader {
                given: point.given,
                state: Box::new(point.state.clone()),
                stage: Stage::Body,
                ..Reader::from(&self.file, point.taken)?
            },
        };
        let skip = offset - reader.given;
        if io::copy(&mut (&mut reader).take(skip), &mut io::sink())? < skip {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(reader)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Body,
    Trailer,
    End,
}

/// Decompresses; a file may be several, one after another.
pub(super) struct Reader {
    from: BufReader<Section>,
    taken: u64,
    given: u64,
    state: Box<InflateState>,
    stage: Stage,
    /// Of the part that is being read, if it is read from its start.
    check: Option<Crc>,
    points: Option<Points>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("given", &self.given).finish_non_exhaustive()
    }
}

impl Reader {
    /// From the start.
    pub(super) fn of(file: &Arc<File>) -> io::Result<Self> {
        Self::from(file, 0)
    }

    /// From the start, making points.
    pub(super) fn with_points(file: &Arc<File>) -> io::Result<Self> {
        let points = Points { file: Arc::clone(file), spacing: SPACING, points: Vec::new() };
        Ok(Self { points: Some(points), ..Self::of(file)? })
    }

    fn from(file: &Arc<File>, taken: u64) -> io::Result<Self> {
        let left = file.metadata()?.len().saturating_sub(taken);
        Ok(Self {
            from: BufReader::with_capacity(256 << 10, Section::of(file, taken, left)),
            taken,
            given: 0,
            state: InflateState::new_boxed(DataFormat::Raw),
            stage: Stage::Header,
            check: None,
            points: None,
        })
    }

    /// The points that were made on the way.
    pub(super) fn into_points(self) -> Option<Points> {
        self.points
    }

    /// Bytes that went in, and that came out.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.taken, self.given)
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.taken += N as u64;
        Ok(bytes)
    }

    fn text(&mut self) -> io::Result<()> {
        for _ in 0..MAX_HEADER {
            if self.bytes::<1>()? == [0] {
                return Ok(());
            }
        }
        Err(broken())
    }

    /// RFC 1952, 2.3.
    fn header(&mut self) -> io::Result<()> {
        let [0x1f, 0x8b, 8, flags, ..] = self.bytes::<10>()? else { return Err(broken()) };
        if flags & 4 != 0 {
            for _ in 0..u16::from_le_bytes(self.bytes()?) {
                self.bytes::<1>()?;
            }
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                self.text()?;
            }
        }
        if flags & 2 != 0 {
            self.bytes::<2>()?;
        }
        self.state = InflateState::new_boxed(DataFormat::Raw);
        self.check = Some(Crc::new());
        self.stage = Stage::Body;
        Ok(())
    }

    fn trailer(&mut self) -> io::Result<()> {
        let (sum, amount) = (u32::from_le_bytes(self.bytes()?), u32::from_le_bytes(self.bytes()?));
        if self.check.take().is_some_and(|c| (c.sum(), c.amount()) != (sum, amount)) {
            return Err(broken());
        }
        // What follows that is no other file is nothing, as with gunzip.
        let more = self.from.fill_buf()?.starts_with(&[0x1f]);
        self.stage = if more { Stage::Header } else { Stage::End };
        Ok(())
    }

    fn body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.mark();
        loop {
            let input = self.from.fill_buf()?;
            let ended = input.is_empty();
            let done = inflate(&mut self.state, input, buffer, MZFlush::None);
            let (taken, given) = (done.bytes_consumed, done.bytes_written);
            self.from.consume(taken);
            self.taken += taken as u64;
            self.given += given as u64;
            if let Some(check) = &mut self.check {
                check.update(&buffer[..given]);
            }
            match done.status {
                Ok(MZStatus::StreamEnd) => self.stage = Stage::Trailer,
                Ok(_) | Err(miniz_oxide::MZError::Buf) if given > 0 || (taken > 0 && !ended) => {}
                Ok(_) if !ended => {}
                Ok(_) | Err(miniz_oxide::MZError::Buf) => {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Err(_) => return Err(broken()),
            }
            if given > 0 || self.stage != Stage::Body {
                return Ok(given);
            }
        }
    }

    /// Makes a point here, if the last one is far enough behind.
    fn mark(&mut self) {
        let (given, taken) = (self.given, self.taken);
        let Some(points) = &mut self.points else { return };
        if given < points.points.last().map_or(0, |point| point.given) + points.spacing {
            return;
        }
        if points.points.len() >= MAX_POINTS {
            points.spacing *= 2;
            let mut nth = 0;
            points.points.retain(|_| {
                nth += 1;
                nth % 2 == 0
            });
        }
        points.points.push(Point { given, taken, state: (*self.state).clone() });
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.stage {
                Stage::Header => self.header()?,
                Stage::Trailer => self.trailer()?,
                Stage::End => return Ok(0),
                Stage::Body => {
                    let given = self.body(buffer)?;
                    if given > 0 {
                        return Ok(given);
                    }
                }
            }
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "its gzip is broken")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let builder = GzBuilder::new().filename("name").comment("says").extra(vec![1, 2, 3]);
        let mut gzip = builder.write(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                b'a' + ((state >> 60) as u8)
            })
            .collect()
    }

    #[test]
    fn what_stands_anywhere_is_what_gunzip_would_give_there() {
        let plain = noise(600_000);
        let (one, two) = plain.split_at(300_000);
        let packed = [gzip(one), gzip(two)].concat();
        let file = file(&packed);
        let mut reader = Reader::with_points(&file).unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == plain);
        let points = reader.into_points().unwrap();
        assert!(points.points.len() >= 4, "{points:?}");
        for offset in [0, 1, 100_000, 299_999, 300_000, 510_000, 600_000] {
            let mut rest = Vec::new();
            points.reader(offset as u64).unwrap().read_to_end(&mut rest).unwrap();
            assert!(rest == plain[offset..], "{offset}");
        }
        assert!(points.reader(600_001).is_err());
    }

    #[test]
    fn what_is_cut_off_or_changed_is_an_error() {
        let packed = gzip(&noise(10_000));
        let read = |bytes: &[u8]| {
            let mut reader = Reader::of(&file(bytes)).unwrap();
            io::copy(&mut reader, &mut io::sink())
        };
        assert_eq!(read(&packed).unwrap(), 10_000);
        for end in [5, 12, packed.len() / 2, packed.len() - 3] {
            assert!(read(&packed[..end]).is_err(), "{end}");
        }
        let mut changed = packed.clone();
        let last = changed.len() - 6;
        changed[last] ^= 1;
        assert!(read(&changed).is_err());
    }

    proptest! {
        #[test]
        fn no_file_is_a_crash(bytes: Vec<u8>, flags: u8) {
            for bytes in [bytes.clone(), [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0][..], &bytes].concat()] {
                let _ = io::copy(&mut Reader::of(&file(&bytes)).unwrap(), &mut io::sink());
            }
        }
    }
}
