//! `--volume=FROM:TO[:ro]`.

use std::fmt;

use crate::{Error, GuestPath, Result};

/// A host file or directory that the user wants inside the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Volume {
    /// Where it appears inside. First, so that volumes sort by target: parents first.
    pub to: GuestPath,
    /// What appears: an absolute path on the node, opened with the user's own rights.
    pub from: String,
    /// Whether it can only be read inside.
    pub read_only: bool,
}

impl Volume {
    /// Parses what a user typed after `--volume=`: one volume, or several separated by `;`.
    /// A backslash keeps the `:`, `;` or backslash after it.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        let refuse = |one: &str, why: &str| {
            Error::user(format!("--volume={one}: {why}"))
                .hint("use FROM:TO or FROM:TO:ro, for example --volume=/scratch/me:/data")
        };
        let mut volumes = Vec::new();
        for one in split(text, ';').map_err(|why| refuse(text, why))? {
            if one.is_empty() {
                continue;
            }
            volumes.push(Self::parse(one).map_err(|why| refuse(one, &why))?);
        }
        if volumes.is_empty() { Err(refuse(text, "no volume")) } else { Ok(volumes) }
    }

    fn parse(one: &str) -> std::result::Result<Self, String> {
        let parts = split(one, ':')?;
        let (from, to, flags) = match parts.as_slice() {
            [from, to] => (from, to, &[][..]),
            [from, to, flags @ ..] => (from, to, flags),
            _ => return Err("TO is missing".into()),
        };
        let from = unescape(from);
        if !from.starts_with('/') {
            return Err("FROM must be an absolute path".into());
        }
        if from.contains(['\0', '\n']) || from.len() > 4095 {
            return Err("FROM is not a path".into());
        }
        let to = GuestPath::parse(&unescape(to)).map_err(|e| e.what())?;
        let mut volume = Self { to, from, read_only: false };
        for flag in flags {
            match *flag {
                "ro" => volume.read_only = true,
                "rec" | "slave" | "private" => {
                    return Err(format!("the flag {flag} is for the site's own mounts"));
                }
                other => return Err(format!("unknown flag {other:?}")),
            }
        }
        Ok(volume)
    }

    /// Volumes in the order in which they are mounted; two on one target are refused.
    pub fn in_order(mut volumes: Vec<Self>) -> Result<Vec<Self>> {
        volumes.sort();
        volumes.dedup();
        for pair in volumes.windows(2) {
            if let [a, b] = pair
                && a.to == b.to
            {
                let what = format!("--volume: both {} and {} want to be {}", a.from, b.from, a.to);
                return Err(Error::user(what).hint("give each volume a target of its own"));
            }
        }
        Ok(volumes)
    }
}

/// Splits at `separator` where no backslash precedes it; the escapes stay in the parts.
fn split(text: &str, separator: char) -> std::result::Result<Vec<&str>, &'static str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == separator {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    if escaped {
        return Err("a backslash at the end");
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn unescape(text: &str) -> String {
    let (mut plain, mut escaped) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            plain.push(c);
        }
    }
    plain
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if matches!(c, ':' | ';' | '\\') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

impl fmt::Display for Volume {
    /// As `--volume=` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", escape(&self.from), escape(self.to.as_str()))?;
        if self.read_only { f.write_str(":ro") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_volume_is_from_to_and_flags() {
        let list = Volume::parse_list("/scratch/me:/data;/a\\:b:/c\\;d:ro").unwrap();
        assert_eq!(list[0].to_string(), "/scratch/me:/data");
        assert_eq!((list[1].from.as_str(), list[1].to.as_str()), ("/a:b", "/c;d"));
        assert!(list[1].read_only && !list[0].read_only);
    }

    #[test]
    fn a_malformed_volume_says_how_to_write_one() {
        for bad in
            ["", ";", "/a", "a:/b", "/a:b", "/a:/b:rw2", "/a:/b:slave", "/a:/../b", "/a:/b\\", ":"]
        {
            let error = Volume::parse_list(bad).unwrap_err().to_string();
            assert!(
                error.contains("--volume=") && error.contains("hint: use FROM:TO"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn order_does_not_matter_and_one_target_is_for_one_volume() {
        let ordered = |text| Volume::in_order(Volume::parse_list(text).unwrap());
        assert_eq!(ordered("/x:/b;/y:/a").unwrap(), ordered("/y:/a;/x:/b;/x:/b").unwrap());
        let error = ordered("/x:/a;/y://a/").unwrap_err().to_string();
        assert!(error.contains("both /x and /y want to be /a"), "{error}");
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_the_same(from in "/[a-z:;\\\\ é]{0,12}", to in "/[a-z:;\\\\ é]{0,12}", read_only: bool) {
            let volume = Volume { from, to: GuestPath::parse(&to).unwrap(), read_only };
            prop_assert_eq!(Volume::parse_list(&volume.to_string()).unwrap(), vec![volume]);
        }

        #[test]
        fn no_input_is_a_crash(text in "\\PC{0,40}") {
            let _ = Volume::parse_list(&text);
        }
    }
}
