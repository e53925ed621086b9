//! What two sites tell each other before and after an image is copied: one line each.

use serde::{Deserialize, Serialize};
use std::io::{self, Read};

use udi::{Digest, Error, ImageInfo, Result};

/// A line from one side to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Announced {
    /// From the sender, before the bytes of the file from where the other side wants them.
    File { digest: Digest, size: u64, info: ImageInfo },
    /// The receiver has that many bytes already.
    Have(u64),
    /// It is published.
    Done { image: String, digest: Digest, size: u64 },
}

/// What a line begins with: a login shell may say something of its own before.
const START: &str = "shifterimg-copy-1 ";
/// An image's labels are the largest part.
const MAX_LINE: u64 = 8 << 20;
/// What a login shell may say.
const MAX_LINES: usize = 100;

impl Announced {
    pub(crate) fn line(&self) -> Result<String> {
        let json = serde_json::to_string(self);
        Ok(format!("{START}{}", json.map_err(|e| Error::bug("cannot write JSON").because(e))?))
    }

    /// The next one; nothing if the other side says no more.
    pub(crate) fn next(from: &mut impl Read) -> io::Result<Option<Self>> {
        for _ in 0..MAX_LINES {
            let mut line = Vec::new();
            // Byte by byte: after the line come others' bytes.
            loop {
                let mut byte = [0];
                match from.read(&mut byte) {
                    Ok(0) if line.is_empty() => return Ok(None),
                    Ok(0) => break,
                    Ok(_) if byte[0] == b'\n' => break,
                    Ok(_) => line.push(byte[0]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                if line.len() as u64 > MAX_LINE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            if let Some(json) = line.strip_prefix(START.as_bytes()) {
                return serde_json::from_slice(json).map(Some).map_err(io::Error::other);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_announced_is_understood_also_after_a_shells_greeting(size: u64, greeting in "[a-z ]{0,20}") {
            let digest = Digest::from_bytes(&[7; 32]);
            for one in [
                Announced::Have(size),
                Announced::File { digest: digest.clone(), size, info: ImageInfo::default() },
                Announced::Done { image: greeting.clone(), digest, size },
            ] {
                let text = format!("{greeting}\n{}\nrest", one.line().unwrap());
                let mut from = text.as_bytes();
                prop_assert_eq!(Announced::next(&mut from).unwrap(), Some(one));
                prop_assert_eq!(from, b"rest");
            }
        }

        #[test]
        fn nothing_that_comes_is_a_crash(bytes: Vec<u8>) {
            let _ = Announced::next(&mut &bytes[..]);
            let _ = Announced::next(&mut &[START.as_bytes(), &bytes[..]].concat()[..]);
        }
    }
}
