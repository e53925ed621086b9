//! The contents of files: blocks, fragments, holes.

use std::collections::VecDeque;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::mpsc::{Receiver, TryRecvError};

use crate::pool::{Block, Pool, gone};
use crate::tree::Tree;
use crate::{Options, invalid};

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

/// A fragment block: the ends of many small files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    pub(crate) start: u64,
    pub(crate) word: u32,
}

/// A block on its way: results are taken in the order of submission.
#[derive(Debug)]
enum Pending {
    Hole,
    Block(usize, Receiver<io::Result<Block>>),
    Fragment(Receiver<io::Result<Block>>),
}

/// Takes the contents of files.
#[derive(Debug)]
pub struct Writer<W: Write + Seek> {
    pub(crate) out: W,
    pub(crate) options: Options,
    pub(crate) position: u64,
    pub(crate) extents: Vec<Extent>,
    /// Lengths of all blocks of all files, in order.
    words: Vec<u32>,
    pub(crate) fragments: Vec<Fragment>,
    pool: Pool,
    pending: VecDeque<Pending>,
    submitted_words: usize,
    submitted_fragments: u32,
    block: Vec<u8>,
    fragment: Vec<u8>,
    spares: Vec<Vec<u8>>,
    open: bool,
}

impl<W: Write + Seek> Writer<W> {
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
            extents: Vec::new(),
            words: Vec::new(),
            fragments: Vec::new(),
            pool: Pool::start(options.threads, options.level)?,
            pending: VecDeque::new(),
            submitted_words: 0,
            submitted_fragments: 0,
            block: Vec::with_capacity(options.block_size as usize),
            fragment: Vec::with_capacity(options.block_size as usize),
            spares: Vec::new(),
            open: false,
        })
    }

    /// Begins a file.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.open || self.extents.len() >= u32::MAX as usize {
            return Err(invalid("a file begins before the one before it has ended"));
        }
        self.open = true;
        self.extents.push(Extent {
            start: 0,
            size: 0,
            sparse: 0,
            first_word: self.submitted_words,
            words: 0,
            fragment: NO_FRAGMENT,
            offset: 0,
        });
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
        let words = self.current()?.words;
        if !self.block.is_empty() {
            if words == 0 {
                self.keep_fragment()?;
            } else {
                self.submit_block()?;
            }
        }
        self.open = false;
        u32::try_from(self.extents.len() - 1).map(Contents).map_err(|_| invalid("too many files"))
    }

    /// All contents are there; the tree follows.
    pub fn into_tree(mut self) -> io::Result<Tree<W>> {
        if self.open {
            return Err(invalid("the tree begins before the last file has ended"));
        }
        self.submit_fragment()?;
        self.drain(0)?;
        Tree::new(self)
    }

    /// The lengths of the blocks of one file.
    pub(crate) fn words(&self, extent: &Extent) -> &[u32] {
        &self.words[extent.first_word..extent.first_word + extent.words]
    }

    fn current(&mut self) -> io::Result<&mut Extent> {
        match self.extents.last_mut() {
            Some(extent) if self.open => Ok(extent),
            _ => Err(invalid("contents outside of a file")),
        }
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        let extent = self.current()?;
        extent.size =
            extent.size.checked_add(bytes).ok_or_else(|| invalid("the file is too large"))?;
        Ok(())
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
        self.submit(Pending::Block(self.extents.len() - 1, answer))
    }

    fn submit_hole(&mut self, bytes: u64) -> io::Result<()> {
        self.current()?.sparse += bytes;
        self.submit(Pending::Hole)
    }

    fn submit(&mut self, pending: Pending) -> io::Result<()> {
        self.current()?.words += 1;
        self.submitted_words += 1;
        self.pending.push_back(pending);
        self.drain(self.options.threads * 4)
    }

    /// A file of less than a block shares a block with others.
    fn keep_fragment(&mut self) -> io::Result<()> {
        if self.fragment.len() + self.block.len() > self.options.block_size as usize {
            self.submit_fragment()?;
        }
        let fragment = self.submitted_fragments;
        let offset = u32::try_from(self.fragment.len()).unwrap_or(0);
        let extent = self.current()?;
        extent.fragment = fragment;
        extent.offset = offset;
        self.fragment.append(&mut self.block);
        Ok(())
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
            let (is_fragment, file, answer) = match first {
                Pending::Hole => {
                    self.words.push(0);
                    self.pending.pop_front();
                    continue;
                }
                Pending::Block(file, answer) => (false, *file, answer),
                Pending::Fragment(answer) => (true, 0, answer),
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
            if is_fragment {
                self.fragments.push(Fragment { start: self.position, word });
            } else {
                let extent = &mut self.extents[file];
                // Holes before it have no place, so the first real block is the start.
                if extent.start == 0 {
                    extent.start = self.position;
                }
                self.words.push(word);
            }
            self.out.write_all(&block.bytes)?;
            self.position += u64::from(length);
            self.spares.push(if block.stored { block.bytes } else { block.spare });
            self.spares.truncate(4);
        }
        Ok(())
    }
}

/// Whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    bytes.first() == Some(&0)
        && chunks.iter().all(|c| *c == [0; 64])
        && rest.iter().all(|&b| b == 0)
}
