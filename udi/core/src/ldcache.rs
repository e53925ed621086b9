//! `/etc/ld.so.cache`, where glibc's loader looks a library's name up: read, completed, written.
//!
//! The formats are those of glibc's `elf/cache.c` and `sysdeps/generic/dl-cache.h`: the one of
//! today (`glibc-ld.so.cache1.1`), plain or behind the older one's table. What is written is the
//! plain one, which every glibc since 2.2 reads. The cache read may be an image's, so anything
//! may stand in it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use crate::elf::{is_name, u32_at, u64_at};

/// A cache of the loader's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoaderCache {
    entries: Vec<Entry>,
    /// Names of directories for certain processors (`x86-64-v3`), that entries refer to by number.
    processors: Vec<String>,
}

/// Where a library is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// By what name programs ask for it.
    pub name: String,
    /// The file.
    pub path: String,
    /// What it is made for ([`crate::Platform::flags`]).
    pub flags: u32,
    /// The oldest kernel it runs on.
    kernel: u32,
    /// What the processor must have.
    processor: u64,
}

impl Entry {
    /// A library for every kernel and every processor of its kind.
    pub fn new(name: String, path: String, flags: u32) -> Self {
        Self { name, path, flags, kernel: 0, processor: 0 }
    }

    /// The number of the named directory that it is from, if it is from one.
    fn named_processor(&self) -> Option<usize> {
        // The ten bits above say what level of the architecture it needs.
        let is_named = (self.processor >> 32) & !0x3ff == 1 << 30;
        is_named.then(|| usize::try_from(self.processor & 0xffff_ffff).ok()).flatten()
    }
}

/// Why something is no cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const GENERATOR: &[u8] = b"shifter";

/// More than any image has: texlive, LLVM and CUDA together are 3000 libraries.
const MOST_ENTRIES: usize = 1 << 16;
/// Bytes of all names and paths together, each counted as often as it is used.
const MOST_TEXT: usize = 16 << 20;

impl LoaderCache {
    /// The largest file that is read, in bytes.
    pub const LARGEST: usize = 16 << 20;

    /// What stands in `file`. An entry that no glibc would find is left out.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let short = Malformed("it ends too early");
        let start = match file {
            _ if file.starts_with(MAGIC) => 0,
            _ if file.starts_with(OLD_MAGIC) => {
                let old = u32_at(file, 12).ok_or(short)?;
                let end = usize::try_from(old).ok().and_then(|old| old.checked_mul(12));
                let end = end.and_then(|end| end.checked_add(16 + 7)).ok_or(short)?;
                end & !7
            }
            _ => return Err(Malformed("it is not a cache of glibc's loader")),
        };
        let cache = file.get(start..).filter(|cache| cache.starts_with(MAGIC));
        let cache = cache.ok_or(Malformed("it is older than glibc 2.2"))?;
        // 0: nobody said; 2: little.
        if !matches!(cache.get(28).ok_or(short)? & 3, 0 | 2) {
            return Err(Malformed("it is of a machine with another byte order"));
        }
        let count = u32_at(cache, 20).and_then(|count| usize::try_from(count).ok()).ok_or(short)?;
        if count > MOST_ENTRIES {
            return Err(Malformed("it has more than 65536 libraries"));
        }
        let table = cache.get(HEADER..HEADER + count * ENTRY).ok_or(short)?;
        let processors = u32_at(cache, 32).map_or_else(Vec::new, |at| processors(file, at));
        let mut text = 0;
        let mut entries = Vec::new();
        for line in table.chunks_exact(ENTRY) {
            let string = |at| u32_at(line, at).and_then(|at| string(cache, at));
            let (Some(name), Some(path)) = (string(4), string(8)) else { continue };
            text += name.len() + path.len();
            if text > MOST_TEXT {
                return Err(Malformed("its names are longer than 16 MiB"));
            }
            let (flags, kernel) = (u32_at(line, 0).unwrap_or(0), u32_at(line, 12).unwrap_or(0));
            let processor = u64_at(line, 16).unwrap_or(0);
            let (name, path) = (name.to_owned(), path.to_owned());
            let entry = Entry { name, path, flags, kernel, processor };
            let is_known = entry.named_processor().is_none_or(|nth| nth < processors.len());
            if is_name(&entry.name) && is_known {
                entries.push(entry);
            }
        }
        Ok(Self { entries, processors })
    }

    /// Where libraries of this name and kind are, those for certain processors included.
    pub fn find(&self, name: &str, flags: u32) -> impl Iterator<Item = &str> {
        let found = self.entries.iter().filter(move |e| e.flags == flags && e.name == name);
        found.map(|entry| entry.path.as_str())
    }

    /// Names of this kind that are as `stem`, but for the version behind it.
    pub fn versions_of(&self, stem: &str, flags: u32) -> Vec<&str> {
        let of_stem = |name: &str| name.strip_prefix(stem).is_some_and(|v| v.starts_with(".so."));
        let names = self.entries.iter().filter(|e| e.flags == flags && of_stem(&e.name));
        let mut names: Vec<&str> = names.map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(8);
        names
    }

    /// How many libraries it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts `first` in place of what was there by the same names, for whatever processor. Of two
    /// in `first` with the same name the earlier stays.
    pub fn put(&mut self, first: Vec<Entry>) {
        let mut known: BTreeMap<(u32, Vec<Token>), ()> = BTreeMap::new();
        let mut new = Vec::new();
        for entry in first.into_iter().filter(|entry| is_name(&entry.name)) {
            if known.insert((entry.flags, tokens(&entry.name)), ()).is_none() {
                new.push(entry);
            }
        }
        self.entries.retain(|old| !known.contains_key(&(old.flags, tokens(&old.name))));
        self.entries.extend(new);
    }

    /// The file.
    pub fn write(&self) -> Vec<u8> {
        let mut lines: Vec<(Key, &Entry)> = self.entries.iter().map(|e| (key(e), e)).collect();
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut strings = Strings { start: HEADER + lines.len() * ENTRY, ..Strings::default() };
        let mut table = Vec::with_capacity(lines.len() * ENTRY);
        for (_, entry) in lines {
            let (name, path) = (strings.put(&entry.name), strings.put(&entry.path));
            for word in [entry.flags, name, path, entry.kernel] {
                table.extend(word.to_le_bytes());
            }
            table.extend(entry.processor.to_le_bytes());
        }
        // Directories for processors: only their order counts.
        let processors: Vec<u32> = self.processors.iter().map(|name| strings.put(name)).collect();
        let end = strings.start + strings.bytes.len();
        let extension = end.next_multiple_of(4);
        let mut file = Vec::with_capacity(extension + 64);
        file.extend(MAGIC);
        for word in [self.entries.len(), strings.bytes.len(), 2, extension, 0, 0, 0] {
            file.extend(word_of(word).to_le_bytes());
        }
        file.extend(table);
        file.extend(strings.bytes);
        file.resize(extension, 0);
        file.extend(extension_of(extension, &processors));
        file
    }
}

/// Nothing in a file is as large as 4 GiB: see [`MOST_TEXT`].
fn word_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What stands behind the strings: who made the file, and the directories for processors.
fn extension_of(start: usize, processors: &[u32]) -> Vec<u8> {
    let count = if processors.is_empty() { 1 } else { 2 };
    let of_processors = start + 8 + count * 16;
    let generator = of_processors + processors.len() * 4;
    let mut words = vec![EXTENSION_MAGIC, word_of(count), 0, 0];
    words.extend([word_of(generator), word_of(GENERATOR.len())]);
    if count == 2 {
        words.extend([1, 0, word_of(of_processors), word_of(processors.len() * 4)]);
    }
    words.extend(processors);
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.extend(GENERATOR);
    bytes
}

/// The names of directories for processors; the loader does without where anything is wrong.
fn processors(file: &[u8], extension: u32) -> Vec<String> {
    let read = || {
        let at = usize::try_from(extension).ok().filter(|at| *at != 0 && at % 4 == 0)?;
        let extension = file.get(at..)?;
        if u32_at(extension, 0)? != EXTENSION_MAGIC {
            return None;
        }
        let sections = usize::try_from(u32_at(extension, 4)?).ok()?.min(64);
        let section = extension.get(8..8 + sections * 16)?.chunks_exact(16);
        let section = section.into_iter().find(|section| u32_at(section, 0) == Some(1))?;
        let offset = usize::try_from(u32_at(section, 8)?).ok()?;
        let size = usize::try_from(u32_at(section, 12)?).ok()?;
        let names = file.get(offset..offset.checked_add(size)?)?;
        let names = names.chunks_exact(4).take(256);
        // One that is left out would change the numbers of those behind it.
        let name = |at: &[u8]| string(file, u32_at(at, 0)?).map(str::to_owned);
        names.map(name).collect()
    };
    read().unwrap_or_default()
}

fn string(from: &[u8], at: u32) -> Option<&str> {
    const LONGEST: usize = 4096;
    let rest = from.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().take(LONGEST).position(|byte| *byte == 0)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

#[derive(Default)]
struct Strings<'a> {
    start: usize,
    bytes: Vec<u8>,
    known: BTreeMap<&'a str, u32>,
}

impl<'a> Strings<'a> {
    /// Where the text is in the file.
    fn put(&mut self, text: &'a str) -> u32 {
        let next = word_of(self.start + self.bytes.len());
        let at = *self.known.entry(text).or_insert(next);
        if at == next {
            self.bytes.extend(text.bytes().chain([0]));
        }
        at
    }
}

/// A piece of a name, as the loader compares them: a number is after any character, and two names
/// with the same pieces (`libx.so.1`, `libx.so.01`) are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Character(u8),
    /// As C's `int` has it, where it is longer than that: it only needs to be the same here and
    /// there.
    Number(i32),
}

fn tokens(name: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(name.len());
    let mut bytes = name.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if !byte.is_ascii_digit() {
            tokens.push(Token::Character(byte));
            continue;
        }
        let mut number = i32::from(byte - b'0');
        while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
            number = number.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
        }
        tokens.push(Token::Number(number));
    }
    tokens
}

/// What the entries of a file are in order of, so that the loader's binary search finds them: by
/// name and flags, the last first; those from a directory for a processor before the others, in
/// that directory's order; then what needs most.
type Key = (Reverse<Vec<Token>>, Reverse<u32>, Processor, Reverse<u32>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Processor {
    Named(usize),
    Bits(Reverse<u32>, Reverse<u64>),
}

fn key(entry: &Entry) -> Key {
    let processor = match entry.named_processor() {
        Some(nth) => Processor::Named(nth),
        None => Processor::Bits(Reverse(entry.processor.count_ones()), Reverse(entry.processor)),
    };
    (Reverse(tokens(&entry.name)), Reverse(entry.flags), processor, Reverse(entry.kernel))
}

#[cfg(test)]
mod tests;
