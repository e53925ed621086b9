//! Apptainer's images (SIF): a header, descriptors, and a squashfs file somewhere inside.

use udi::{Error, Result};

/// As much of a file is looked at: header and descriptors come first in all that there are.
pub(super) const MAX_HEAD: usize = 1 << 20;

const MAGIC: (usize, &[u8]) = (32, b"SIF_MAGIC\0");
const DESCRIPTORS_TOTAL: usize = 88;
const DESCRIPTORS_OFFSET: usize = 96;
const DESCRIPTOR_SIZE: usize = 585;
/// In a descriptor.
const USED: usize = 4;
const DATA_OFFSET: usize = 17;
const DATA_SIZE: usize = 25;
const FS_TYPE: usize = 201;
const PART_TYPE: usize = 205;

const PARTITION: u32 = 0x4004;
const SQUASHFS: u32 = 1;
const ENCRYPTED_SQUASHFS: u32 = 5;
const PRIMARY_SYSTEM: u32 = 2;

/// Where the root file system of a SIF file is, of which these are the first bytes and the
/// length: offset and length. Nothing if it is no SIF file.
pub(super) fn payload(start: &[u8], length: u64) -> Result<Option<(u64, u64)>> {
    if start.get(MAGIC.0..MAGIC.0 + MAGIC.1.len()) != Some(MAGIC.1) {
        return Ok(None);
    }
    let broken = || Error::user("the header of this Apptainer image is broken");
    let total = number(start, DESCRIPTORS_TOTAL).ok_or_else(broken)?;
    let offset = number(start, DESCRIPTORS_OFFSET).ok_or_else(broken)?;
    let table = start.get(offset..).ok_or_else(broken)?;
    for descriptor in table.chunks_exact(DESCRIPTOR_SIZE).take(total) {
        let word = |at: usize| descriptor.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b));
        let is_root = word(0) == Some(PARTITION)
            && descriptor.get(USED) == Some(&1)
            && word(PART_TYPE) == Some(PRIMARY_SYSTEM);
        if !is_root {
            continue;
        }
        match word(FS_TYPE) {
            Some(SQUASHFS) => {}
            Some(ENCRYPTED_SQUASHFS) => {
                return Err(Error::user("this Apptainer image is encrypted")
                    .hint("build it without --encrypt, or import a sandbox of it with dir:"));
            }
            _ => {
                return Err(Error::user("what this Apptainer image has inside is no squashfs")
                    .hint("build it again with a current apptainer"));
            }
        }
        let at = |at| number(descriptor, at).map(|number| number as u64);
        let (offset, size) = at(DATA_OFFSET).zip(at(DATA_SIZE)).ok_or_else(broken)?;
        let end = offset.checked_add(size).filter(|&end| end <= length);
        return end.map(|_| Some((offset, size))).ok_or_else(broken);
    }
    Err(Error::user("this Apptainer image has no root file system"))
}

/// A number of eight bytes that is not negative.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let number = i64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header with one descriptor.
    fn sif(offset: i64, size: i64, fs: u32, part: u32) -> Vec<u8> {
        let mut bytes = vec![0; 128 + DESCRIPTOR_SIZE];
        bytes[32..42].copy_from_slice(MAGIC.1);
        bytes[88..96].copy_from_slice(&1i64.to_le_bytes());
        bytes[96..104].copy_from_slice(&128i64.to_le_bytes());
        let descriptor = &mut bytes[128..];
        descriptor[..4].copy_from_slice(&PARTITION.to_le_bytes());
        descriptor[4] = 1;
        descriptor[17..25].copy_from_slice(&offset.to_le_bytes());
        descriptor[25..33].copy_from_slice(&size.to_le_bytes());
        descriptor[201..205].copy_from_slice(&fs.to_le_bytes());
        descriptor[205..209].copy_from_slice(&part.to_le_bytes());
        bytes
    }

    #[test]
    fn the_root_file_system_is_found_if_it_is_in_the_file() {
        assert_eq!(payload(b"hsqs", 4).unwrap(), None);
        assert_eq!(payload(&sif(4096, 100, 1, 2), 4196).unwrap(), Some((4096, 100)));
        for (bytes, length, words) in [
            (sif(4096, 101, 1, 2), 4196, "is broken"),
            (sif(-1, 100, 1, 2), 4196, "is broken"),
            (sif(i64::MAX, i64::MAX, 1, 2), 4196, "is broken"),
            (sif(4096, 100, 5, 2), 4196, "is encrypted"),
            (sif(4096, 100, 2, 2), 4196, "no squashfs"),
            (sif(4096, 100, 1, 3), 4196, "no root file system"),
        ] {
            let error = payload(&bytes, length).unwrap_err();
            assert!(error.what().contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_a_crash_and_nothing_is_outside_the_file(
            changes in prop::collection::vec((0usize..713, any::<u8>()), 0..20), length: u32
        ) {
            let mut bytes = sif(4096, 100, 1, 2);
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(Some((offset, size))) = payload(&bytes, length.into()) {
                prop_assert!(offset + size <= length.into());
            }
        }
    }
}
