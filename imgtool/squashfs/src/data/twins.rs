//! Files that come again: a hash finds them, their bytes are compared.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};

use hashbrown::HashTable;

use super::{File, Fragment, STORED, Writer};
use crate::pool::gone;

/// Fragments that are kept when they were read back: copies of a directory come file by file.
const READ_BACK: usize = 8;
/// Bytes that are compared at once.
const COMPARED: usize = 64 << 10;

/// The numbers of files by what is in them.
#[derive(Debug, Default)]
pub(super) struct Twins {
    small: HashTable<u32>,
    large: HashTable<u32>,
    /// Fragments that were read back, the latest first.
    read_back: VecDeque<(u32, Vec<u8>)>,
}

impl Twins {
    /// The small file that may be the same.
    pub(super) fn small(&self, files: &[File], hash: u32, size: u32) -> Option<File> {
        let number = self.small.find(spread(hash), |&number| {
            let file = &files[number as usize];
            file.hash == hash && file.size == size
        });
        number.map(|&number| files[number as usize])
    }

    /// The next of `files` will be one with this hash.
    pub(super) fn add_small(&mut self, files: &[File], hash: u32) {
        self.small.insert_unique(spread(hash), files.len() as u32, |&other| {
            files.get(other as usize).map_or(0, |file| spread(file.hash))
        });
    }
}

impl<W: Read + Write + Seek> Writer<W> {
    /// Whether the open file, all of it in the block, is what `twin` is.
    pub(super) fn is_fragment(&mut self, twin: File) -> io::Result<bool> {
        let range = twin.offset as usize..twin.offset as usize + twin.size as usize;
        if twin.number == self.submitted_fragments {
            return Ok(self.fragment.get(range) == Some(&self.block));
        }
        let found = self.twins.read_back.iter().position(|(number, _)| *number == twin.number);
        let (number, raw) = match found.and_then(|at| self.twins.read_back.remove(at)) {
            Some(found) => found,
            None => (twin.number, self.read_fragment(twin.number)?),
        };
        let same = raw.get(range) == Some(&self.block);
        self.twins.read_back.truncate(READ_BACK - 1);
        self.twins.read_back.push_front((number, raw));
        Ok(same)
    }

    fn read_fragment(&mut self, number: u32) -> io::Result<Vec<u8>> {
        if number as usize >= self.fragments.len() {
            self.drain(0)?;
        }
        let Fragment { start, word } = *self.fragments.get(number as usize).ok_or_else(gone)?;
        let mut bytes = vec![0; (word & (STORED - 1)) as usize];
        self.out.seek(SeekFrom::Start(start))?;
        self.out.read_exact(&mut bytes)?;
        self.out.seek(SeekFrom::Start(self.position))?;
        if word & STORED != 0 {
            return Ok(bytes);
        }
        zstd::bulk::decompress(&bytes, self.options.block_size as usize)
    }

    /// All blocks of a large file are written, the last of all: if they were there before,
    /// what comes next is written over them.
    pub(super) fn end_large(&mut self, file: usize) -> io::Result<()> {
        self.hash.write_u64(self.large[file].extent.size);
        let hash = self.hash.finish() as u32;
        self.large[file].hash = hash;
        let twin = self.twins.large.find(spread(hash), |&twin| {
            let twin = &self.large[twin as usize];
            let (old, new) = (&twin.extent, &self.large[file].extent);
            twin.hash == hash && old.size == new.size && self.words(old) == self.words(new)
        });
        let Some(&twin) = twin else {
            let large = &self.large;
            self.twins.large.insert_unique(spread(hash), file as u32, |&other| {
                large.get(other as usize).map_or(0, |large| spread(large.hash))
            });
            return Ok(());
        };
        let (old, new) = (self.large[twin as usize].extent.clone(), &self.large[file].extent);
        let (start, first_word) = (new.start, new.first_word);
        if start != 0 {
            let same = self.is_same(old.start, start)?;
            if same {
                self.position = start;
            }
            self.out.seek(SeekFrom::Start(self.position))?;
            if !same {
                return Ok(());
            }
        }
        self.words.truncate(first_word);
        self.large[file].extent = old;
        Ok(())
    }

    /// Whether what was written from `start` on stands at `old` too.
    fn is_same(&mut self, old: u64, start: u64) -> io::Result<bool> {
        let (mut one, mut other) = (vec![0; COMPARED], vec![0; COMPARED]);
        let length = self.position - start;
        let mut done = 0;
        while done < length {
            let now = usize::try_from(length - done).map_or(COMPARED, |left| left.min(COMPARED));
            for (at, buffer) in [(old, &mut one), (start, &mut other)] {
                self.out.seek(SeekFrom::Start(at + done))?;
                self.out.read_exact(&mut buffer[..now])?;
            }
            if one[..now] != other[..now] {
                return Ok(false);
            }
            done += now as u64;
        }
        Ok(true)
    }
}

/// What tells files apart at first sight; whether they are the same only their bytes say.
pub(super) fn hash_of(bytes: &[u8]) -> u32 {
    let mut hash = DefaultHasher::new();
    hash.write(bytes);
    hash.finish() as u32
}

/// As the table wants it: it looks at the highest bits and at the lowest.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
