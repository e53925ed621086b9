//! The contents of files: blocks, fragments, holes.

mod twins;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::mpsc::{Receiver, TryRecvError};

use crate::pool::{Block, Pool, gone};
use crate::tree::Tree;
use crate::{Options, invalid};
use twins::Twins;

/// Where the data start: after the superblock.
const START: u64 = 96;
/// In a block's length: it is stored, not compressed.
const STORED: u32 = 1 << 24;
/// The fragment number of a file without one.
pub(crate) const NO_FRAGMENT: u32 = u32::MAX;

/// The contents of one file, to be named in the tree, by one inode or by several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Contents(pub(crate) u32);

/// Where the contents of one file stand.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Bytes in blocks that are not stored, because they are all zero.
    pub(crate) sparse: u64,
    first_word: usize,
    words: usize,
    pub(crate) fragment: u32,
    pub(crate) offset: u32,
}

impl Extent {
    const NOTHING: Self = Self {
        start: 0,
        size: 0,
        sparse: 0,
        first_word: 0,
        words: 0,
        fragment: NO_FRAGMENT,
        offset: 0,
    };
}

/// A file as it is kept: of a million files almost all are small.
#[derive(Clone, Copy, Debug)]
struct File {
    size: u32,
    /// The fragment, or the place among the large ones.
    number: u32,
    /// `LARGE`, or the offset in the fragment.
    offset: u32,
    hash: u32,
}

const LARGE: u32 = u32::MAX;

/// A file that has blocks of its own.
#[derive(Clone, Debug)]
struct Large {
    extent: Extent,
    hash: u32,
}

/// A fragment block: the ends of many small files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    pub(crate) start: u64,
    pub(crate) word: u32,
}

/// A block on its way: results are taken in the order of submission.
#[derive(Debug)]
enum Pending {
    Hole(usize),
    Block(usize, Receiver<io::Result<Block>>),
    /// The blocks of a large file are complete.
    End(usize),
    Fragment(Receiver<io::Result<Block>>),
}

/// The file that is being written.
#[derive(Debug, Default)]
struct Open {
    size: u64,
    sparse: u64,
    /// Its place among the large ones, as soon as it has a block.
    large: Option<usize>,
}

/// Takes the contents of files.
#[derive(Debug)]
pub struct Writer<W: Read + Write + Seek> {
    pub(crate) out: W,
    pub(crate) options: Options,
    pub(crate) position: u64,
    files: Vec<File>,
    large: Vec<Large>,
    twins: Twins,
    /// Lengths of all blocks of all files, in order.
    words: Vec<u32>,
    pub(crate) fragments: Vec<Fragment>,
    pool: Pool,
    pending: VecDeque<Pending>,
    /// Of the large file whose blocks are being written.
    hash: DefaultHasher,
    submitted_fragments: u32,
    block: Vec<u8>,
    fragment: Vec<u8>,
    spares: Vec<Vec<u8>>,
    open: Option<Open>,
}

impl<W: Read + Write + Seek> Writer<W> {
    /// Begins an image at the start of `out`.
    pub fn new(mut out: W, options: Options) -> io::Result<Self> {
        if !options.block_size.is_power_of_two() || !(4096..=1 << 20).contains(&options.block_size)
        {
            return Err(invalid("a block size is a power of two from 4 KiB to 1 MiB"));
        }
        out.seek(SeekFrom::Start(START))?;
        Ok(Self {
            out,
            options,
            position: START,
            files: Vec::new(),
            large: Vec::new(),
            twins: Twins::default(),
            words: Vec::new(),
            fragments: Vec::new(),
            pool: Pool::start(options.threads, options.level)?,
            pending: VecDeque::new(),
            hash: DefaultHasher::new(),
            submitted_fragments: 0,
            block: Vec::with_capacity(options.block_size as usize),
            fragment: Vec::with_capacity(options.block_size as usize),
            spares: Vec::new(),
            open: None,
        })
    }

    /// Begins a file.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.open.is_some() || self.files.len() >= LARGE as usize {
            return Err(invalid("a file begins before the one before it has ended"));
        }
        self.open = Some(Open::default());
        Ok(())
    }

    /// The file goes on with `bytes`.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.grow(bytes.len() as u64)?;
        let size = self.options.block_size as usize;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(size - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == size {
                self.submit_block()?;
            }
        }
        Ok(())
    }

    /// The file goes on with `length` zeros, which cost nothing where they fill blocks.
    pub fn hole(&mut self, mut length: u64) -> io::Result<()> {
        self.grow(length)?;
        let size = u64::from(self.options.block_size);
        while length > 0 {
            let room = size - self.block.len() as u64;
            let now = length.min(room);
            if now == size {
                self.submit_hole(size)?;
            } else {
                self.block.resize(self.block.len() + usize::try_from(now).unwrap_or(0), 0);
                if now == room {
                    self.submit_block()?;
                }
            }
            length -= now;
        }
        Ok(())
    }

    /// Ends the file.
    pub fn end(&mut self) -> io::Result<Contents> {
        let is_large = self.current()?.large.is_some();
        if !self.block.is_empty() && is_large {
            self.submit_block()?;
        }
        let open = self.open.take().unwrap_or_default();
        let file = match open.large {
            Some(number) => {
                let extent = &mut self.large[number].extent;
                (extent.size, extent.sparse) = (open.size, open.sparse);
                self.pending.push_back(Pending::End(number));
                let number = u32::try_from(number).map_err(|_| invalid("too many files"))?;
                File { size: 0, number, offset: LARGE, hash: 0 }
            }
            None if self.block.is_empty() => {
                File { size: 0, number: NO_FRAGMENT, offset: 0, hash: 0 }
            }
            None => self.keep_fragment()?,
        };
        self.files.push(file);
        u32::try_from(self.files.len() - 1).map(Contents).map_err(|_| invalid("too many files"))
    }

    /// All contents are there; the tree follows.
    pub fn into_tree(mut self) -> io::Result<Tree<W>> {
        if self.open.is_some() {
            return Err(invalid("the tree begins before the last file has ended"));
        }
        self.submit_fragment()?;
        self.drain(0)?;
        // Nobody asks for these any more, and the tree wants memory too.
        self.twins = Twins::default();
        Tree::new(self)
    }

    pub(crate) fn extent(&self, contents: Contents) -> Option<Extent> {
        let file = self.files.get(contents.0 as usize)?;
        if file.offset == LARGE {
            return self.large.get(file.number as usize).map(|large| large.extent.clone());
        }
        Some(Extent {
            size: u64::from(file.size),
            fragment: file.number,
            offset: file.offset,
            ..Extent::NOTHING
        })
    }

    /// The lengths of the blocks of one file.
    pub(crate) fn words(&self, extent: &Extent) -> &[u32] {
        &self.words[extent.first_word..extent.first_word + extent.words]
    }

    fn current(&mut self) -> io::Result<&mut Open> {
        self.open.as_mut().ok_or_else(|| invalid("contents outside of a file"))
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        let open = self.current()?;
        open.size = open.size.checked_add(bytes).ok_or_else(|| invalid("the file is too large"))?;
        Ok(())
    }

    /// The place of the open file among the large ones.
    fn large(&mut self) -> io::Result<usize> {
        let next = self.large.len();
        let open = self.current()?;
        if let Some(number) = open.large {
            return Ok(number);
        }
        open.large = Some(next);
        self.large.push(Large { extent: Extent::NOTHING, hash: 0 });
        Ok(next)
    }

    fn submit_block(&mut self) -> io::Result<()> {
        if is_zero(&self.block) {
            let bytes = self.block.len() as u64;
            self.block.clear();
            return self.submit_hole(bytes);
        }
        let next = self.spare();
        let raw = std::mem::replace(&mut self.block, next);
        let answer = self.pool.compress(raw)?;
        let number = self.large()?;
        self.submit(Pending::Block(number, answer))
    }

    fn submit_hole(&mut self, bytes: u64) -> io::Result<()> {
        self.current()?.sparse += bytes;
        let number = self.large()?;
        self.submit(Pending::Hole(number))
    }

    fn submit(&mut self, pending: Pending) -> io::Result<()> {
        self.pending.push_back(pending);
        self.drain(self.options.threads * 4)
    }

    /// A file of less than a block shares a block with others.
    fn keep_fragment(&mut self) -> io::Result<File> {
        let hash = twins::hash_of(&self.block);
        let size = self.block.len() as u32;
        if let Some(twin) = self.twins.small(&self.files, hash, size)
            && self.is_fragment(twin)?
        {
            self.block.clear();
            return Ok(twin);
        }
        if self.fragment.len() + self.block.len() > self.options.block_size as usize {
            self.submit_fragment()?;
        }
        let number = self.submitted_fragments;
        let offset = self.fragment.len() as u32;
        self.fragment.append(&mut self.block);
        self.twins.add_small(&self.files, hash);
        Ok(File { size, number, offset, hash })
    }

    fn submit_fragment(&mut self) -> io::Result<()> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        let next = self.spare();
        let raw = std::mem::replace(&mut self.fragment, next);
        let answer = self.pool.compress(raw)?;
        self.submitted_fragments += 1;
        self.pending.push_back(Pending::Fragment(answer));
        self.drain(self.options.threads * 4)
    }

    fn spare(&mut self) -> Vec<u8> {
        let mut spare = self.spares.pop().unwrap_or_default();
        spare.clear();
        spare.reserve_exact(self.options.block_size as usize);
        spare
    }

    /// Writes blocks that are ready, and waits until at most `allowed` are left.
    fn drain(&mut self, allowed: usize) -> io::Result<()> {
        while let Some(first) = self.pending.front() {
            let (file, answer) = match first {
                &Pending::Hole(file) => {
                    self.pending.pop_front();
                    self.word(file, 0);
                    continue;
                }
                &Pending::End(file) => {
                    self.pending.pop_front();
                    self.end_large(file)?;
                    continue;
                }
                Pending::Block(file, answer) => (Some(*file), answer),
                Pending::Fragment(answer) => (None, answer),
            };
            let block = if self.pending.len() > allowed {
                answer.recv().map_err(|_| gone())??
            } else {
                match answer.try_recv() {
                    Ok(block) => block?,
                    Err(TryRecvError::Empty) => return Ok(()),
                    Err(TryRecvError::Disconnected) => return Err(gone()),
                }
            };
            self.pending.pop_front();
            let length =
                u32::try_from(block.bytes.len()).map_err(|_| invalid("a block is too large"))?;
            let word = if block.stored { length | STORED } else { length };
            match file {
                None => self.fragments.push(Fragment { start: self.position, word }),
                Some(file) => {
                    self.word(file, word);
                    self.hash.write(&block.bytes);
                    let extent = &mut self.large[file].extent;
                    // Holes before it have no place, so the first real block is the start.
                    if extent.start == 0 {
                        extent.start = self.position;
                    }
                }
            }
            self.out.write_all(&block.bytes)?;
            self.position += u64::from(length);
            self.spares.push(if block.stored { block.bytes } else { block.spare });
            self.spares.truncate(4);
        }
        Ok(())
    }

    /// The next block of a large file has this length.
    fn word(&mut self, file: usize, word: u32) {
        let extent = &mut self.large[file].extent;
        if extent.words == 0 {
            extent.first_word = self.words.len();
            self.hash = DefaultHasher::new();
        }
        extent.words += 1;
        self.words.push(word);
        self.hash.write_u32(word);
    }
}

/// Whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    bytes.first() == Some(&0)
        && chunks.iter().all(|c| *c == [0; 64])
        && rest.iter().all(|&b| b == 0)
}
