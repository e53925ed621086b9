//! Where an image is exported to, as users type it.

use std::path::PathBuf;

use udi::{Error, Result};

/// `KIND:FILE[:TAG]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// Nothing: standard output.
    pub(super) path: Option<PathBuf>,
    pub(super) tag: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OciArchive,
    Squashfs,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OciArchive => "oci-archive",
            Self::Squashfs => "squashfs",
        }
    }
}

impl Target {
    pub(super) fn parse(typed: &str) -> Result<Self> {
        let kinds = [Kind::OciArchive, Kind::Squashfs];
        let found = kinds
            .into_iter()
            .find_map(|kind| Some((kind, typed.strip_prefix(kind.name())?.strip_prefix(':')?)));
        let Some((kind, rest)) = found else {
            return Err(Error::user(format!("{typed}: what kind of file shall it be?"))
                .hint("put one of these before the path: oci-archive:, squashfs:"));
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) if kind == Kind::OciArchive => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if path.is_empty() || path.contains('\0') {
            return Err(Error::user(format!("{typed}: there is no path in it"))
                .hint(format!("{}:FILE", kind.name())));
        }
        if let Some(tag) = &tag
            && !is_tag(tag)
        {
            return Err(Error::user(format!("{typed}: {tag} is no tag"))
                .hint("a tag has letters, digits, and . _ - between them"));
        }
        Ok(Self { kind, path: (path != "-").then(|| path.into()), tag })
    }
}

fn is_tag(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    starts && text.len() <= 128 && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_are_typed_as_sources_are() {
        for (typed, kind, path, tag) in [
            ("oci-archive:a.oci", Kind::OciArchive, Some("a.oci"), None),
            ("oci-archive:/x/a.oci:1.0", Kind::OciArchive, Some("/x/a.oci"), Some("1.0")),
            ("oci-archive:-", Kind::OciArchive, None, None),
            ("oci-archive:-:1", Kind::OciArchive, None, Some("1")),
            ("squashfs:a:b", Kind::Squashfs, Some("a:b"), None),
            ("squashfs:-", Kind::Squashfs, None, None),
        ] {
            let found = Target::parse(typed).unwrap();
            assert_eq!(found.kind, kind, "{typed}");
            assert_eq!(found.path, path.map(PathBuf::from), "{typed}");
            assert_eq!(found.tag.as_deref(), tag, "{typed}");
        }
        for (typed, hint) in [
            ("a.oci", "oci-archive:, squashfs:"),
            ("docker-archive:a", "oci-archive:, squashfs:"),
            ("squashfs:", "squashfs:FILE"),
            ("oci-archive:a:b:c", "a tag has"),
            ("oci-archive:a:", "a tag has"),
        ] {
            let error = Target::parse(typed).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_is_a_crash(typed: String, rest: String) {
            let _ = Target::parse(&typed);
            let _ = Target::parse(&format!("oci-archive:{rest}"));
        }
    }
}
