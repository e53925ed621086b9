//! Sparse files in PAX archives: GNU tar's formats 0.0, 0.1 and 1.0; in [`old`] the one before.

pub(crate) mod old;

use std::io::{self, Read};

/// More pieces than any file of ours has.
const MAX_PIECES: usize = 1 << 20;

/// Where the bytes of the archive belong in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) size: u64,
    /// Offset and length, in order, not overlapping.
    pub(crate) pieces: Vec<(u64, u64)>,
}

impl Map {
    /// The map of a file of `size` bytes, if these can be its pieces.
    fn of(size: u64, pieces: Vec<(u64, u64)>) -> io::Result<Self> {
        let mut end = 0;
        for (offset, length) in &pieces {
            if *offset < end {
                return Err(broken());
            }
            end = offset.checked_add(*length).filter(|&end| end <= size).ok_or_else(broken)?;
        }
        Ok(Self { size, pieces })
    }

    /// Bytes that the archive has of it.
    pub(crate) fn stored(&self) -> u64 {
        // They are in order, within the file.
        self.pieces.iter().map(|(_, length)| length).sum()
    }
}

/// What the PAX headers of an entry say of its being sparse.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    major: u64,
    real_size: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    numbers: Vec<u64>,
    is_sparse: bool,
}

impl Headers {
    /// Takes one PAX header, if it is about this.
    pub(crate) fn see(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"GNU.sparse.major" => self.major = number(value)?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.real_size = Some(number(value)?),
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.numbers.push(number(value)?),
            b"GNU.sparse.map" => {
                self.numbers =
                    value.split(|&b| b == b',').map(number).collect::<io::Result<_>>()?;
            }
            _ => return Ok(()),
        }
        if self.numbers.len() > 2 * MAX_PIECES {
            return Err(broken());
        }
        self.is_sparse = true;
        Ok(())
    }

    /// The map, if the file is sparse; format 1.0 has it at the start of the data.
    pub(crate) fn map(mut self, data: &mut impl Read) -> io::Result<Option<Map>> {
        if !self.is_sparse {
            return Ok(None);
        }
        let size = self.real_size.ok_or_else(broken)?;
        if self.major == 1 {
            self.numbers = embedded(data)?;
        }
        let (pairs, rest) = self.numbers.as_chunks::<2>();
        let pieces: Vec<(u64, u64)> =
            pairs.iter().map(|[offset, length]| (*offset, *length)).collect();
        if rest.is_empty() { Map::of(size, pieces).map(Some) } else { Err(broken()) }
    }
}

/// Format 1.0: a count and that many pairs, one number a line, padded to 512 bytes.
fn embedded(data: &mut impl Read) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let mut line = Vec::new();
    let mut wanted = 1;
    while numbers.len() < wanted {
        let mut block = [0; 512];
        data.read_exact(&mut block)?;
        for byte in block {
            if numbers.len() == wanted {
                break;
            }
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(broken());
                }
                continue;
            }
            numbers.push(number(&line)?);
            line.clear();
            if numbers.len() == 1 {
                let pieces = usize::try_from(numbers[0])
                    .ok()
                    .filter(|&n| n <= MAX_PIECES)
                    .ok_or_else(broken)?;
                wanted = 1 + 2 * pieces;
            }
        }
    }
    numbers.remove(0);
    Ok(numbers)
}

fn number(text: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(broken)
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a sparse file's map is broken")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(headers: &[(&str, &str)], mut data: &[u8]) -> io::Result<Option<Map>> {
        let mut all = Headers::default();
        for (key, value) in headers {
            all.see(key.as_bytes(), value.as_bytes())?;
        }
        all.map(&mut data)
    }

    #[test]
    fn the_three_formats_give_the_same_map() {
        let expected = Some(Map { size: 100, pieces: vec![(0, 10), (50, 5)] });
        let size = ("GNU.sparse.realsize", "100");
        let oldest = [
            ("GNU.sparse.size", "100"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "10"),
            ("GNU.sparse.offset", "50"),
            ("GNU.sparse.numbytes", "5"),
        ];
        assert_eq!(map(&oldest, b"").unwrap(), expected);
        assert_eq!(
            map(&[("GNU.sparse.size", "100"), ("GNU.sparse.map", "0,10,50,5")], b"").unwrap(),
            expected
        );
        let mut data = b"2\n0\n10\n50\n5\n".to_vec();
        data.resize(512, 0);
        assert_eq!(map(&[("GNU.sparse.major", "1"), size], &data).unwrap(), expected);
        assert_eq!(map(&[("path", "x")], b"").unwrap(), None);
    }

    #[test]
    fn maps_that_overlap_or_leave_the_file_are_refused() {
        for pieces in ["5,10,0,3", "0,10,5,10", "90,11", "0,18446744073709551615", "1", "x,1"] {
            assert!(
                map(&[("GNU.sparse.size", "100"), ("GNU.sparse.map", pieces)], b"").is_err(),
                "{pieces}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_map_is_a_crash(data: Vec<u8>, text in "[0-9,\\n]{0,40}") {
            let _ = map(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "100")], &data);
            let mut data = text.clone().into_bytes();
            data.resize(1024, b'\n');
            let _ = map(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "100")], &data);
            let _ = map(&[("GNU.sparse.size", "100"), ("GNU.sparse.map", &text)], b"");
        }
    }
}
