//! PAX records: `LENGTH KEY=VALUE`, a line each, where the value may have anything in it.
//!
//! The `tar` crate takes every new line for the end of a record; an extended attribute with a
//! 10 among its bytes then breaks the archive.

use std::io;

/// The records of a PAX header, in order.
pub(crate) fn records(mut bytes: &[u8]) -> impl Iterator<Item = io::Result<(&[u8], &[u8])>> {
    std::iter::from_fn(move || {
        if matches!(bytes.first(), None | Some(0)) {
            return None;
        }
        let record = one(bytes);
        bytes = record.map_or(&[], |(_, _, rest)| rest);
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "a PAX header is broken");
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(broken))
    })
}

/// Key and value of the first record, and what follows it.
fn one(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&b| b == b' ')?;
    let length = number(&bytes[..space])?;
    let (record, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// A decimal number, with nothing around it.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_as_they_were(
            all in prop::collection::vec(("[a-zA-Z.]{1,20}", any::<Vec<u8>>()), 0..5),
        ) {
            let mut bytes = Vec::new();
            for (key, value) in &all {
                let rest = key.len() + value.len() + 3;
                let digits = |n: usize| n.to_string().len();
                let length = rest + digits(rest + digits(rest));
                bytes.extend(format!("{length} {key}=").as_bytes());
                bytes.extend(value);
                bytes.push(b'\n');
            }
            let found: Vec<_> = records(&bytes).map(Result::unwrap).collect();
            let expected: Vec<_> = all.iter().map(|(k, v)| (k.as_bytes(), &v[..])).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_header_is_a_crash_or_a_loop(bytes: Vec<u8>, text in "[0-9 =a\n]{0,40}") {
            prop_assert!(records(&bytes).count() <= bytes.len());
            prop_assert!(records(text.as_bytes()).count() <= text.len());
        }
    }
}
