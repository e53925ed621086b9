//! Extended attributes: sets of them, each of which many inodes may have.

use std::collections::BTreeMap;
use std::io;

use crate::invalid;
use crate::metadata::Table;

/// Attributes of users, by their names without `user.`. There is no way to write others: of
/// `security.` and `trusted.` the kernel takes orders.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes of names and values that one inode may have, as Linux has it of each.
pub const XATTRS_MAX: usize = 64 << 10;
/// The longest name, without `user.`.
pub const XATTR_NAME_MAX: usize = 250;

/// The prefix `user.`, by its number.
const USER: u16 = 0;

pub(crate) struct Sets {
    /// Names and values.
    pairs: Table,
    /// Where each set begins, how many pairs it has, and how many bytes.
    sets: Vec<(u64, u32, u32)>,
}

impl std::fmt::Debug for Sets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sets").field("sets", &self.sets.len()).finish_non_exhaustive()
    }
}

impl Sets {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        Ok(Self { pairs: Table::new(level)?, sets: Vec::new() })
    }

    /// Gives the number of the set, from 1.
    pub(crate) fn add(&mut self, all: &Xattrs) -> io::Result<u32> {
        let bytes: usize = all.iter().map(|(name, value)| name.len() + value.len()).sum();
        let good =
            |name: &[u8]| !name.is_empty() && name.len() <= XATTR_NAME_MAX && !name.contains(&0);
        if all.is_empty() || bytes > XATTRS_MAX || !all.keys().all(|name| good(name)) {
            return Err(invalid("not extended attributes"));
        }
        let place = self.pairs.place()?.packed();
        let mut pairs = Vec::with_capacity(bytes + 8 * all.len());
        for (name, value) in all {
            pairs.extend(USER.to_le_bytes());
            pairs.extend((name.len() as u16).to_le_bytes());
            pairs.extend(name);
            pairs.extend((value.len() as u32).to_le_bytes());
            pairs.extend(value);
        }
        self.pairs.write(&pairs)?;
        self.sets.push((place, all.len() as u32, pairs.len() as u32));
        u32::try_from(self.sets.len()).map_err(|_| invalid("too many extended attributes"))
    }

    /// Whether 0, or one of these.
    pub(crate) fn has(&self, number: u32) -> bool {
        number as usize <= self.sets.len()
    }

    /// All of it as it stands at `start`, and where the head of the table is; nothing if there
    /// are no attributes.
    pub(crate) fn finish(self, start: u64, level: i32) -> io::Result<Option<(Vec<u8>, u64)>> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        let mut bytes = self.pairs.finish()?.bytes;
        let mut table = Table::new(level)?;
        for (place, count, size) in &self.sets {
            table.write(&place.to_le_bytes())?;
            table.write(&count.to_le_bytes())?;
            table.write(&size.to_le_bytes())?;
        }
        let table = table.finish()?;
        let sets = start + bytes.len() as u64;
        bytes.extend(&table.bytes);
        let head = start + bytes.len() as u64;
        bytes.extend(start.to_le_bytes());
        bytes.extend((self.sets.len() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        for at in &table.starts {
            bytes.extend((sets + at).to_le_bytes());
        }
        Ok(Some((bytes, head)))
    }
}
