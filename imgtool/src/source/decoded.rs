//! Decompressing what strangers compressed.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use udi::Error;

/// What no honest layer does: more than a thousand bytes for one, and many of them.
const BOMB_BYTES: u64 = 64 << 30;
const BOMB_RATIO: u64 = 1100;

/// What we decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

/// What something is compressed with that begins so.
pub(crate) fn compression(start: &[u8]) -> Option<Compression> {
    if start.starts_with(&[0x1f, 0x8b]) {
        Some(Compression::Gzip)
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Some(Compression::Zstd)
    } else {
        None
    }
}

/// What comes out of a decompressor, unless it is a bomb. What the input is compressed with
/// its first bytes say; media types and file names are often wrong.
pub(crate) struct Decoded<'a> {
    decoder: Box<dyn Read + 'a>,
    taken: Rc<Cell<u64>>,
    given: u64,
    name: String,
}

impl std::fmt::Debug for Decoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoded").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Decoded<'a> {
    /// `name` is what messages call it.
    pub(crate) fn of(from: impl BufRead + 'a, name: &str) -> io::Result<Self> {
        let taken = Rc::new(Cell::new(0));
        let mut from = Counted { from, taken: Rc::clone(&taken) };
        let start = from.fill_buf()?;
        let compression = compression(start);
        for (magic, program) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh", "bzip2")] {
            if start.starts_with(magic) {
                let error = Error::user(format!("{name}: is compressed with {program}"));
                let hint = format!("use gzip or zstd, or decompress it first: {program} -d");
                return Err(io::Error::other(error.hint(hint)));
            }
        }
        let decoder: Box<dyn Read + 'a> = match compression {
            Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
            Some(Compression::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(from)?),
            None => Box::new(BufReader::with_capacity(0, from)),
        };
        Ok(Self { decoder, taken, given: 0, name: name.to_owned() })
    }
}

impl Read for Decoded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.decoder.read(buffer)?;
        self.given += n as u64;
        refuse_bomb(&self.name, self.taken.get(), self.given)?;
        Ok(n)
    }
}

/// Refuses what no honest compressor makes.
pub(crate) fn refuse_bomb(name: &str, taken: u64, given: u64) -> io::Result<()> {
    if given > BOMB_BYTES && given / taken.max(1) > BOMB_RATIO {
        let bomb = Error::user(format!("{name}: unpacks to a thousand times its size"))
            .hint("such an image is made to do harm; if it is honest, make its files sparse");
        return Err(io::Error::other(bomb));
    }
    Ok(())
}

/// Counts what is taken from a reader.
struct Counted<R> {
    from: R,
    taken: Rc<Cell<u64>>,
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken.set(self.taken.get() + amount as u64);
        self.from.consume(amount);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.taken.set(self.taken.get() + n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decompressor that is done with as many bytes as are wanted, of `taken` ones.
    struct Quick;

    impl Read for Quick {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }
    }

    /// Bytes that come out of so many, up to a terabyte, and the error behind them.
    fn unpacked(taken: u64) -> (u64, Option<Error>) {
        let taken = Rc::new(Cell::new(taken));
        let mut decoded =
            Decoded { decoder: Box::new(Quick), taken, given: 0, name: "layer x".into() };
        let mut buffer = vec![0; 1 << 30];
        let mut given = 0;
        while given < 1 << 40 {
            match decoded.read(&mut buffer) {
                Ok(n) => given += n as u64,
                Err(error) => return (given, error.downcast().ok()),
            }
        }
        (given, None)
    }

    #[test]
    fn a_thousand_bytes_for_one_are_a_bomb_where_they_are_many() {
        // Of a megabyte, and of so much that a thousand times as much is more than 64 GiB.
        for (taken, most) in [(1 << 20, 64 << 30), (100 << 20, 107 << 30)] {
            let (given, error) = unpacked(taken);
            assert_eq!(given, most);
            let error = error.unwrap().to_string();
            assert!(error.contains("layer x: unpacks to a thousand times its size"), "{error}");
            assert!(error.contains("hint: "), "{error}");
        }
        // An honest layer may be as large.
        assert!(matches!(unpacked(2 << 30), (all, None) if all == 1 << 40));
    }
}
