//! What a name means: the small file behind a reference.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use udi::{Digest, Error, ImageRef, Result};

/// Larger files are no references.
pub(crate) const MAX_BYTES: u64 = 256 << 10;

/// The meaning of one name, per platform (`os/architecture[/variant]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// By platform.
    pub platforms: BTreeMap<String, Entry>,
}

/// Where one meaning of a name comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The platform manifest.
    pub digest: Digest,
    /// When it was written last, in seconds since 1970.
    pub when: u64,
    /// The login of whoever wrote the name first, and may remove it.
    pub by: String,
    /// The same as a number, which does not change hands with the login.
    pub uid: u32,
    /// Where the image came from: the registry that was asked, or its mirror.
    pub from: String,
}

impl Reference {
    pub(crate) fn parse(bytes: &[u8], path: &str) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| {
            Error::admin(format!("the image store's refs/{path} is broken")).because(e)
        })
    }
}

/// The path below `refs/` of what everybody sees, if the name has one.
///
/// A name with a digest has a path of its own, tag or not: people copy the digests of indexes
/// from `docker images --digests`. It never is the tag's: whoever pulls one image by digest
/// must not change what the tag means to others, nor be given what it means.
pub(crate) fn public_path(image: &ImageRef) -> Option<String> {
    match (image, image.digest()) {
        (_, None) => image.ref_path(),
        (ImageRef::Docker(d), Some(digest)) => {
            Some(format!("{}/{}/@{digest}", d.registry(), d.repository()))
        }
        _ => None,
    }
}

/// The path below `refs/` of what only `uid` sees.
pub(crate) fn private_path(image: &ImageRef, uid: u32) -> Option<String> {
    public_path(image).map(|path| format!("{PRIVATE}/{uid}/{path}"))
}

/// No registry's name starts with a dot.
pub(crate) const PRIVATE: &str = ".private";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use udi::Names;

    fn parse(text: &str) -> ImageRef {
        ImageRef::parse(text, &Names { registry: "docker.io".into(), tag: "latest".into() })
            .unwrap()
    }

    #[test]
    fn private_and_public_names_never_meet() {
        let image = parse("reg.site:5000/app:1");
        assert_eq!(public_path(&image).unwrap(), "reg.site:5000/app/:1");
        assert_eq!(private_path(&image, 1000).unwrap(), ".private/1000/reg.site:5000/app/:1");
        let hex = "a".repeat(64);
        let index = parse(&format!("app@sha256:{hex}"));
        assert_eq!(public_path(&index).unwrap(), format!("docker.io/library/app/@sha256:{hex}"));
        let both = parse(&format!("app:1@sha256:{hex}"));
        assert_eq!(public_path(&both), public_path(&index));
        assert_eq!(public_path(&parse(&format!("id:sha256:{hex}"))), None);
    }

    proptest! {
        #[test]
        fn no_file_is_a_crash(bytes: Vec<u8>) {
            let _ = Reference::parse(&bytes, "x");
        }

        #[test]
        fn what_is_written_is_read(
            platform in "[a-z0-9/]{1,20}", when: u64, by in "\\PC{0,20}", uid: u32, from in "\\PC{0,20}", bytes: [u8; 32]
        ) {
            let entry = Entry { digest: Digest::from_bytes(&bytes), when, by, uid, from };
            let reference = Reference { platforms: [(platform, entry)].into() };
            let json = serde_json::to_vec(&reference).unwrap();
            prop_assert_eq!(Reference::parse(&json, "x").unwrap(), reference);
        }
    }
}
