//! How much of everything an image may have, whoever sends it.

use udi::{Error, Result};

use super::nonsense;

/// More names than any image has.
const ENTRIES: u64 = 50_000_000;
/// Bytes of all files, holes too.
const BYTES: u64 = 16 << 40;
const DEPTH: u64 = 1024;

/// What came so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    files: u64,
    names: u64,
    bytes: u64,
    depth: u64,
}

impl Bounds {
    /// As many bytes of a file, or zeros, come.
    pub(super) fn bytes(&mut self, more: u64) -> Result<()> {
        let total = self.bytes.checked_add(more).filter(|&total| total <= BYTES);
        self.bytes = total.ok_or_else(|| too_large("16 TiB of files"))?;
        Ok(())
    }

    /// The contents of one more file came.
    pub(super) fn file(&mut self) -> Result<()> {
        self.files = count(self.files, ENTRIES, "50 million files")?;
        Ok(())
    }

    /// One more name comes.
    pub(super) fn name(&mut self) -> Result<()> {
        self.names = count(self.names, ENTRIES, "50 million names")?;
        Ok(())
    }

    /// A directory is entered.
    pub(super) fn enter(&mut self) -> Result<()> {
        self.depth = count(self.depth, DEPTH, "1,024 directories in each other")?;
        Ok(())
    }

    /// And left.
    pub(super) fn leave(&mut self) -> Result<()> {
        let left = self.depth.checked_sub(1);
        self.depth = left.ok_or_else(|| nonsense("left more than entered"))?;
        Ok(())
    }
}

fn count(so_far: u64, most: u64, limit: &str) -> Result<u64> {
    if so_far >= most { Err(too_large(limit)) } else { Ok(so_far + 1) }
}

fn too_large(limit: &str) -> Error {
    Error::user(format!("the image has more than {limit}"))
        .hint("put data sets into a volume, not into an image")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it can be done, and what is said then.
    fn most(mut act: impl FnMut() -> Result<()>) -> (u64, String) {
        let mut done = 0;
        loop {
            match act() {
                Ok(()) => done += 1,
                Err(error) => return (done, error.to_string()),
            }
        }
    }

    #[test]
    fn an_image_has_no_more_names_files_and_directories_than_any_image_needs() {
        let mut bounds = Bounds::default();
        for (found, number, limit) in [
            (most(|| bounds.name()), 50_000_000, "50 million names"),
            (most(|| bounds.file()), 50_000_000, "50 million files"),
            (most(|| bounds.enter()), 1024, "1,024 directories in each other"),
        ] {
            assert_eq!(found.0, number);
            assert!(found.1.contains(limit) && found.1.contains("into a volume"), "{}", found.1);
        }
        assert_eq!(most(|| bounds.leave()).0, 1024);
    }

    #[test]
    fn holes_count_as_bytes_and_no_number_of_them_overflows() {
        let mut bounds = Bounds::default();
        bounds.bytes((16 << 40) - 1).unwrap();
        assert!(bounds.bytes(u64::MAX).unwrap_err().what().contains("16 TiB of files"));
        bounds.bytes(1).unwrap();
        assert!(bounds.bytes(1).is_err());
    }
}
