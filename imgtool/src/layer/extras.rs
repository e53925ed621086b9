//! What the site may want of an image or not: extended attributes, device nodes, owners.

use std::collections::HashMap;
use std::rc::Rc;

use squashfs::{Device, Special, XATTR_NAME_MAX, XATTRS_MAX, Xattrs};
use udi::{Error, Extra, ImagesConfig, Owners, Result};

use super::record::What;

/// Bytes that all sets of attributes of an image may have.
pub(crate) const SETS_MAX: usize = 32 << 20;
/// What a set takes besides its bytes, about.
const OVERHEAD: usize = 64;
/// How archives call an attribute of users.
const PREFIX: &[u8] = b"SCHILY.xattr.user.";

/// What is kept, and the sets of attributes that were seen: of a million files there are a few.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    xattrs: bool,
    devices: bool,
    only_root: bool,
    sets: Vec<Rc<[u8]>>,
    numbers: HashMap<Rc<[u8]>, u32>,
    bytes: usize,
}

impl Extras {
    /// What the site wants.
    pub(crate) fn of(images: &ImagesConfig) -> Self {
        Self {
            xattrs: images.xattrs == Extra::Keep,
            devices: images.devices == Extra::Keep,
            only_root: images.owners == Owners::Root,
            ..Self::default()
        }
    }

    /// Whether attributes are kept.
    pub(crate) fn has_xattrs(&self) -> bool {
        self.xattrs
    }

    /// Whether device nodes are kept.
    pub(crate) fn has_devices(&self) -> bool {
        self.devices
    }

    /// Whether all files are to be root's.
    pub(crate) fn has_only_root(&self) -> bool {
        self.only_root
    }

    /// The name of an attribute that is kept, without `user.`, as PAX headers have it.
    pub(crate) fn pax<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(PREFIX).filter(|_| self.xattrs)
    }

    /// The number of a set, from 1; 0 if there is nothing in it.
    pub(crate) fn number(&mut self, all: &Xattrs) -> Result<u32> {
        if !self.xattrs || all.is_empty() {
            return Ok(0);
        }
        let bytes: usize = all.iter().map(|(name, value)| name.len() + value.len()).sum();
        let good =
            |name: &[u8]| !name.is_empty() && name.len() <= XATTR_NAME_MAX && !name.contains(&0);
        if bytes > XATTRS_MAX || !all.keys().all(|name| good(name)) {
            return Err(Error::user("its extended attributes are more than Linux has")
                .hint("they may have 64 KiB in all, and names of 255 bytes"));
        }
        let set = pack(all);
        if let Some(number) = self.numbers.get(&set[..]) {
            return Ok(*number);
        }
        self.bytes += set.len() + OVERHEAD;
        if self.bytes > SETS_MAX {
            return Err(Error::user("the image has more than 32 MiB of extended attributes")
                .hint("put them into files"));
        }
        let set: Rc<[u8]> = set.into();
        self.sets.push(Rc::clone(&set));
        let number = self.sets.len() as u32;
        self.numbers.insert(set, number);
        Ok(number)
    }

    /// The set of this number, as the writer is told of it.
    pub(crate) fn set(&self, number: u32) -> Option<&[u8]> {
        self.sets.get((number as usize).checked_sub(1)?).map(|set| &**set)
    }

    /// A device node, or what hides what was there.
    pub(crate) fn device(&self, kind: fn(Device) -> Special, device: Option<Device>) -> What<'_> {
        match device.filter(|_| self.devices) {
            Some(device) => What::Special(kind(device)),
            None => What::Device,
        }
    }
}

fn pack(all: &Xattrs) -> Vec<u8> {
    let mut set = Vec::new();
    for (name, value) in all {
        for text in [name, value] {
            set.extend((text.len() as u32).to_le_bytes());
            set.extend(text);
        }
    }
    set
}

/// What [`Extras::set`] gave; nothing if it is something else.
pub(crate) fn unpack(mut set: &[u8]) -> Option<Xattrs> {
    let mut text = || {
        let (length, rest) = set.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        set = rest;
        Some((text.to_vec(), rest.is_empty()))
    };
    let mut all = Xattrs::new();
    loop {
        let (name, _) = text()?;
        let (value, is_last) = text()?;
        if all.insert(name, value).is_some() {
            return None;
        }
        if is_last {
            return Some(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keeping() -> Extras {
        Extras { xattrs: true, devices: true, ..Extras::default() }
    }

    proptest! {
        #[test]
        fn sets_come_back_as_they_were(
            all in prop::collection::btree_map(
                prop::collection::vec(1u8.., 1..20), any::<Vec<u8>>(), 1..5),
        ) {
            let mut extras = keeping();
            let number = extras.number(&all).unwrap();
            prop_assert_eq!(number, extras.number(&all).unwrap());
            prop_assert_eq!(extras.set(number).and_then(unpack), Some(all));
            prop_assert_eq!(extras.set(number + 1), None);
        }

        #[test]
        fn no_bytes_are_a_crash(bytes: Vec<u8>) {
            let _ = unpack(&bytes);
        }
    }

    #[test]
    fn attributes_are_bounded_for_an_entry_and_for_the_image() {
        let one = |name: &[u8], value: Vec<u8>| Xattrs::from([(name.to_vec(), value)]);
        let mut extras = keeping();
        for bad in [one(b"a", vec![0; 64 << 10]), one(&[b'a'; 251], vec![]), one(b"", vec![])] {
            assert!(extras.number(&bad).unwrap_err().what().contains("more than Linux has"));
        }
        let mut number = 0u32;
        let error = loop {
            let mut value = vec![0; 60 << 10];
            value[..4].copy_from_slice(&number.to_le_bytes());
            match extras.number(&one(b"a", value)) {
                Ok(found) => number = found,
                Err(error) => break error,
            }
        };
        assert!(error.what().contains("32 MiB"), "{error}");
        // Lengths, the name and what else a set takes count, too.
        assert_eq!(number as usize, SETS_MAX / ((60 << 10) + 8 + 1 + OVERHEAD));
    }
}
