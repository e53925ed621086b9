//! Paths inside the image.

use std::fmt;

use crate::{Error, Result};

/// An absolute path inside a UDI, without empty, `.` and `..` components.
///
/// It is a wish, not a place: what it names is decided by resolving it inside the image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestPath(String);

/// The kernel's `PATH_MAX`.
const LONGEST: usize = 4095;

impl GuestPath {
    /// `//a/./b/` is `/a/b`; a relative path and one with `..` are refused, because what
    /// `..` means depends on symbolic links.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::user(format!("{text}: {why}")));
        if !text.starts_with('/') {
            return refuse("a path inside the image must start with /");
        }
        if text.len() > LONGEST || text.contains('\0') {
            return refuse("not a path");
        }
        let mut clean = String::with_capacity(text.len());
        for component in text.split('/') {
            match component {
                "" | "." => {}
                ".." => return refuse("a path inside the image must not contain .."),
                name if name.len() > 255 => return refuse("a component is longer than 255 bytes"),
                name => {
                    clean.push('/');
                    clean.push_str(name);
                }
            }
        }
        if clean.is_empty() {
            clean.push('/');
        }
        Ok(Self(clean))
    }

    /// The path as text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|c| !c.is_empty())
    }

    /// The directory that the path is in, and its last component; the root is in itself.
    pub fn split(&self) -> (GuestPath, &str) {
        let (parent, name) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        (Self(if parent.is_empty() { "/".into() } else { parent.to_owned() }), name)
    }

    /// The path without its leading slash: relative to the root, and `.` for the root itself.
    pub fn relative(&self) -> &str {
        match &self.0[1..] {
            "" => ".",
            relative => relative,
        }
    }

    /// Whether this is `other` or below it, by component: `/etcetera` is not below `/etc`.
    pub fn is_within(&self, other: &GuestPath) -> bool {
        let mut mine = self.components();
        other.components().all(|component| mine.next() == Some(component))
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for GuestPath {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(|e| serde::de::Error::custom(e.what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> GuestPath {
        GuestPath::parse(text).unwrap()
    }

    #[test]
    fn spelling_does_not_matter_but_components_do() {
        assert_eq!(path("//etc/./x/"), path("/etc/x"));
        assert!(path("//etc").is_within(&path("/etc")));
        assert!(path("/./etc/passwd").is_within(&path("/etc")));
        assert!(!path("/etcetera").is_within(&path("/etc")));
        assert!(path("/anything").is_within(&path("/")));
        assert!(!path("/").is_within(&path("/etc")));
        assert_eq!(path("/a/b").split(), (path("/a"), "b"));
        assert_eq!(path("/a").split(), (path("/"), "a"));
        assert_eq!(path("/").relative(), ".");
        assert_eq!(path("/a/b").relative(), "a/b");
    }

    #[test]
    fn dot_dot_and_relative_paths_are_refused() {
        for bad in ["", "a", "./a", "/a/../etc", "/..", "/a\0"] {
            assert!(GuestPath::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_path_has_one_spelling(text in "/[a./]{0,20}") {
            if let Ok(parsed) = GuestPath::parse(&text) {
                prop_assert_eq!(GuestPath::parse(parsed.as_str()).unwrap(), parsed.clone());
                prop_assert!(!parsed.as_str().contains("//"));
            }
        }
    }
}
