//! What a daemon answers.

use std::io::{self, ErrorKind, Read};

/// The first lines of an answer are not longer.
const MAX_HEAD: usize = 64 << 10;

/// The status of an answer, read up to where its body begins.
pub(crate) fn head(from: &mut impl Read) -> io::Result<u16> {
    let odd = || io::Error::new(ErrorKind::InvalidData, "this is not how docker's daemon answers");
    let mut head = Vec::new();
    // One by one: what comes after belongs to somebody else.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        head.extend(byte);
        if head.len() > MAX_HEAD {
            return Err(odd());
        }
    }
    let text = String::from_utf8_lossy(&head);
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    match (words.next(), words.next().map(str::parse)) {
        (Some(version), Some(Ok(status))) if version.starts_with("HTTP/1.") => Ok(status),
        _ => Err(odd()),
    }
}

/// What the daemon says went wrong, for a terminal.
pub(crate) fn message(said: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(said).ok();
    let text = json.and_then(|json| Some(json.get("message")?.as_str()?.to_owned()));
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(said).into_owned());
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_daemon_says_is_told_and_cannot_reach_the_terminal() {
        assert_eq!(head(&mut &b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody"[..]).unwrap(), 200);
        assert_eq!(message(br#"{"message":"no \u001b[2J such"}"#), "no  [2J such");
        assert_eq!(message(b"plain"), "plain");
    }

    proptest! {
        #[test]
        fn no_answer_is_a_crash(bytes: Vec<u8>) {
            let _ = head(&mut &bytes[..]);
            let _ = head(&mut &[b"HTTP/1.1 ", &bytes[..], b"\r\n\r\n"].concat()[..]);
            prop_assert!(!message(&bytes).contains(char::is_control));
        }
    }
}
