//! What a shared library says to the dynamic loader, read from its ELF file.
//!
//! The file may be an image's, so anything may stand in it: every offset is checked, and every
//! table has an end. Only files in the byte order of today's machines (little) are understood.

use std::collections::BTreeSet;

use crate::libc_abi::Machine;

/// Bytes of a file, wherever they are.
pub trait ReadAt {
    /// At most `length` bytes from `offset` on; fewer where the file ends or cannot be read.
    fn read_at(&self, offset: u64, length: usize) -> Vec<u8>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, length: usize) -> Vec<u8> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        self.iter().skip(start).take(length).copied().collect()
    }
}

/// What one library needs of another: symbol versions, by the soname that must have them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The soname of the library that must define it.
    pub of: String,
    /// The version, such as `GLIBC_2.34`.
    pub version: String,
}

/// The symbols by which libraries are bound to each other, without their versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Those that others must define.
    pub needed: BTreeSet<String>,
    /// Those that it defines.
    pub defined: BTreeSet<String>,
}

/// A shared library's file.
#[derive(Debug)]
pub struct Elf<'a, R: ?Sized> {
    bytes: &'a R,
    wide: bool,
    machine: Machine,
    /// The parts that are loaded: address, offset in the file, length there.
    loaded: Vec<(u64, u64, u64)>,
    /// Tags and values of the dynamic section.
    dynamic: Vec<(u64, u64)>,
}

// Nobody's library has more; libLLVM's dynamic section has 60 entries, libc defines 40 versions.
const MOST_PARTS: usize = 128;
const MOST_TAGS: usize = 4096;
const MOST_VERSIONS: usize = 1024;
const LONGEST_VERSION: usize = 64;
/// libtorch has 150,000.
const MOST_SYMBOLS: usize = 1 << 19;
const LONGEST_SYMBOL: usize = 4096;
const MOST_STRINGS: usize = 64 << 20;
/// Bytes of all names that are looked at: they may lie over one another.
const MOST_TEXT: usize = 4 * MOST_STRINGS;
const LONGEST_NAME: usize = 255;
const LONGEST_PATHS: usize = 8192;

impl<'a, R: ReadAt + ?Sized> Elf<'a, R> {
    /// The library in `bytes`; nothing if it is none that any loader of ours could use.
    pub fn read(bytes: &'a R) -> Option<Self> {
        // The table of parts mostly follows the header at once.
        let head = bytes.read_at(0, 1024);
        let shared = 3;
        let wide = match head.get(..6)? {
            [0x7f, b'E', b'L', b'F', 1, 1] => false,
            [0x7f, b'E', b'L', b'F', 2, 1] => true,
            _ => return None,
        };
        if u16_at(&head, 16)? != shared {
            return None;
        }
        let (table, flags, size, count) = if wide {
            (u64_at(&head, 32)?, u32_at(&head, 48)?, u16_at(&head, 54)?, u16_at(&head, 56)?)
        } else {
            let table = u64::from(u32_at(&head, 28)?);
            (table, u32_at(&head, 36)?, u16_at(&head, 42)?, u16_at(&head, 44)?)
        };
        let machine = Machine { wide, number: u16_at(&head, 18)?, flags };
        let expected = if wide { 56 } else { 32 };
        if usize::from(size) != expected {
            return None;
        }
        let length = usize::from(count).min(MOST_PARTS) * expected;
        let in_head = |at: usize| head.get(at..at.checked_add(length)?);
        let parts = match usize::try_from(table).ok().and_then(in_head) {
            Some(parts) => parts.to_vec(),
            None => bytes.read_at(table, length),
        };
        let mut elf = Self { bytes, wide, machine, loaded: Vec::new(), dynamic: Vec::new() };
        let mut dynamic = None;
        for part in parts.chunks_exact(expected) {
            let (kind, offset, address, size) = if wide {
                (u32_at(part, 0)?, u64_at(part, 8)?, u64_at(part, 16)?, u64_at(part, 32)?)
            } else {
                let word = |at| u32_at(part, at).map(u64::from);
                (u32_at(part, 0)?, word(4)?, word(8)?, word(16)?)
            };
            match kind {
                1 => elf.loaded.push((address, offset, size)),
                2 => dynamic = Some((offset, size)),
                _ => {}
            }
        }
        let (offset, size) = dynamic?;
        let entry = if wide { 16 } else { 8 };
        let length = usize::try_from(size).unwrap_or(usize::MAX).min(MOST_TAGS * entry);
        for tag in bytes.read_at(offset, length).chunks_exact(entry) {
            let (tag, value) = if wide {
                (u64_at(tag, 0)?, u64_at(tag, 8)?)
            } else {
                (u64::from(u32_at(tag, 0)?), u64::from(u32_at(tag, 4)?))
            };
            if tag == 0 {
                break;
            }
            elf.dynamic.push((tag, value));
        }
        Some(elf)
    }

    /// What it is made for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The name by which programs ask for it.
    pub fn soname(&self) -> Option<String> {
        self.value(14).and_then(|name| self.name(name))
    }

    /// The sonames of what it needs, in its order.
    pub fn needed(&self) -> Vec<String> {
        let needed = self.dynamic.iter().filter(|(tag, _)| *tag == 1);
        needed.filter_map(|(_, name)| self.name(*name)).collect()
    }

    /// The directories in which it wants them to be looked for, as written: `DT_RUNPATH`, else
    /// `DT_RPATH`.
    pub fn search_path(&self) -> Vec<String> {
        let path = self.value(29).or_else(|| self.value(15));
        let path = path.and_then(|path| self.text(path, LONGEST_PATHS)).unwrap_or_default();
        path.split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// The versions of symbols that it needs of others.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        let Some(mut at) = self.value(0x6fff_fffe).and_then(|address| self.offset_of(address))
        else {
            return needs;
        };
        let mut steps = 0;
        loop {
            let file = self.bytes.read_at(at, 16);
            let (Some(name), Some(first), Some(next)) =
                (u32_at(&file, 4), u32_at(&file, 8), u32_at(&file, 12))
            else {
                return needs;
            };
            let of = self.name(name.into());
            let mut version_at = at.saturating_add(first.into());
            loop {
                steps += 1;
                let version = self.bytes.read_at(version_at, 16);
                let (Some(name), Some(next)) = (u32_at(&version, 8), u32_at(&version, 12)) else {
                    return needs;
                };
                if let (Some(of), Some(version)) = (&of, self.name(name.into())) {
                    needs.push(Need { of: of.clone(), version });
                }
                if next == 0 || steps > MOST_VERSIONS {
                    break;
                }
                version_at = version_at.saturating_add(next.into());
            }
            if next == 0 || steps > MOST_VERSIONS {
                return needs;
            }
            at = at.saturating_add(next.into());
        }
    }

    /// The versions of symbols that it defines; the first is mostly its own soname. One with a
    /// name longer than 64 bytes is left out.
    pub fn defines(&self) -> Vec<String> {
        let mut defined = Vec::new();
        let Some(mut at) = self.value(0x6fff_fffc).and_then(|address| self.offset_of(address))
        else {
            return defined;
        };
        for _ in 0..MOST_VERSIONS {
            let version = self.bytes.read_at(at, 20);
            let (Some(first), Some(next)) = (u32_at(&version, 12), u32_at(&version, 16)) else {
                break;
            };
            let name = self.bytes.read_at(at.saturating_add(first.into()), 4);
            let name = u32_at(&name, 0).and_then(|name| self.name(name.into()));
            defined.extend(name.filter(|name| name.len() <= LONGEST_VERSION));
            if next == 0 {
                break;
            }
            at = at.saturating_add(next.into());
        }
        defined
    }

    /// The symbols that it needs and defines.
    pub fn symbols(&self) -> Symbols {
        self.symbols_of(|_| true)
    }

    /// Those of the symbols that it needs and defines which are `wanted`: of a file that nobody
    /// vouches for no others should be kept. Names longer than 4 KiB are left out.
    pub fn symbols_of(&self, wanted: impl Fn(&str) -> bool) -> Symbols {
        let mut symbols = Symbols::default();
        let table = self.value(6).and_then(|address| self.offset_of(address));
        let strings = self.value(5).and_then(|address| self.offset_of(address));
        let length = self.value(10).and_then(|length| usize::try_from(length).ok());
        let (Some(table), Some(strings), Some(length)) = (table, strings, length) else {
            return symbols;
        };
        let strings = self.bytes.read_at(strings, length.min(MOST_STRINGS));
        let size = if self.wide { 24 } else { 16 };
        let (kind_at, section_at) = if self.wide { (4, 6) } else { (12, 14) };
        let count = self.symbol_count().unwrap_or(0).min(MOST_SYMBOLS);
        let mut looked_at = 0;
        for symbol in self.bytes.read_at(table, count * size).chunks_exact(size) {
            let name = u32_at(symbol, 0).and_then(|at| text_in(&strings, at));
            looked_at += name.map_or(LONGEST_SYMBOL, str::len);
            if looked_at > MOST_TEXT {
                break;
            }
            let (Some(name), Some(kind), Some(section)) =
                (name, symbol.get(kind_at), u16_at(symbol, section_at))
            else {
                continue;
            };
            let (local, global) = (0, 1);
            match (section, kind >> 4) {
                _ if name.is_empty() || !wanted(name) => {}
                (0, binding) if binding == global => drop(symbols.needed.insert(name.to_owned())),
                // Without a weak one it does, too.
                (0, _) => {}
                (_, binding) if binding != local => drop(symbols.defined.insert(name.to_owned())),
                _ => {}
            }
        }
        symbols
    }

    /// How many symbols there are: only the tables to find them by name tell.
    fn symbol_count(&self) -> Option<usize> {
        if let Some(table) = self.value(4).and_then(|address| self.offset_of(address)) {
            return usize::try_from(u32_at(&self.bytes.read_at(table, 8), 4)?).ok();
        }
        let table = self.value(0x6fff_fef5).and_then(|address| self.offset_of(address))?;
        let head = self.bytes.read_at(table, 16);
        let (buckets, first, filter) = (u32_at(&head, 0)?, u32_at(&head, 4)?, u32_at(&head, 8)?);
        let word = if self.wide { 8 } else { 4 };
        let buckets_at = table.checked_add(16)?.checked_add(u64::from(filter) * word)?;
        let count = usize::try_from(buckets).ok()?.min(MOST_SYMBOLS);
        let starts = self.bytes.read_at(buckets_at, count * 4);
        let last = starts.chunks_exact(4).filter_map(|start| u32_at(start, 0)).max()?;
        if last < first {
            return usize::try_from(first).ok();
        }
        // The chain of the last bucket ends where a mark is, and with it the table.
        let chains = buckets_at.checked_add(u64::from(buckets) * 4)?;
        let mut at = chains.checked_add(u64::from(last - first) * 4)?;
        let mut end = usize::try_from(last).ok()?;
        while end < MOST_SYMBOLS {
            let chain = self.bytes.read_at(at, 1024);
            let mut links = chain.chunks_exact(4);
            let count = links.len();
            match links.position(|link| u32_at(link, 0).is_some_and(|link| link & 1 == 1)) {
                Some(more) => return Some(end + more + 1),
                None if count == 0 => return Some(end),
                None => (at, end) = (at.checked_add(1024)?, end + count),
            }
        }
        Some(end)
    }

    fn value(&self, wanted: u64) -> Option<u64> {
        // In a narrow file these tags have no upper half either.
        self.dynamic.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value)
    }

    /// Where in the file an address of the loaded library is.
    fn offset_of(&self, address: u64) -> Option<u64> {
        let holds = |(start, _, length): &&(u64, u64, u64)| {
            address.checked_sub(*start).is_some_and(|into| into < *length)
        };
        let (start, offset, _) = self.loaded.iter().find(holds)?;
        offset.checked_add(address - start)
    }

    /// A name in the table of strings: one component of a path, in plain ASCII.
    fn name(&self, at: u64) -> Option<String> {
        let name = self.text(at, LONGEST_NAME)?;
        is_name(&name).then_some(name)
    }

    fn text(&self, at: u64, most: usize) -> Option<String> {
        let strings = self.offset_of(self.value(5)?)?;
        let bytes = self.bytes.read_at(strings.checked_add(at)?, most + 1);
        let end = bytes.iter().position(|byte| *byte == 0)?;
        String::from_utf8(bytes.get(..end)?.to_vec()).ok()
    }
}

fn text_in(strings: &[u8], at: u32) -> Option<&str> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let rest = rest.get(..LONGEST_SYMBOL).unwrap_or(rest);
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

/// Whether `text` can be the name of a library: one component of a path, in plain ASCII.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(plain)
        && !matches!(text, "." | "..")
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod made;
#[cfg(test)]
mod tests;
