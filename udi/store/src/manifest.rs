//! What the store knows of a digest.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use udi::{Digest, Error, ImageInfo, Result};

/// Larger files are no manifests; an image's labels are the largest part.
pub(crate) const MAX_BYTES: u64 = 8 << 20;

/// The file behind a digest: how it is packed, and what the image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The same as `/.shifter/image.json` inside.
    pub info: ImageInfo,
    /// Files by packing options: the same image may be packed in several ways.
    pub files: BTreeMap<String, Packed>,
}

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// The sha256 of its bytes.
    pub id: Digest,
    /// The file system's name: `squashfs`.
    pub format: String,
    /// Bytes of the file.
    pub size: u64,
}

/// How images are packed by this release. The name changes when the bytes would.
pub const PACKING: &str = "squashfs-zstd-128k-1";

impl Manifest {
    pub(crate) fn parse(bytes: &[u8], digest: &Digest) -> Result<Self> {
        let broken = |why: String| {
            Error::admin(format!("the image store's record of {digest} is broken: {why}"))
        };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
        if manifest.info.digest.as_ref() != Some(digest) {
            return Err(broken("it is about another digest".into()));
        }
        // The format becomes part of a path.
        if manifest.files.values().any(|f| f.format != "squashfs") {
            return Err(broken("an unknown file format".into()));
        }
        Ok(manifest)
    }

    /// The file to mount: the newest way of packing that is there.
    pub fn preferred(&self) -> Option<&Packed> {
        self.files.get(PACKING).or_else(|| self.files.values().next_back())
    }
}

/// `manifests/AA/DIGEST`
pub(crate) fn path(digest: &Digest) -> String {
    format!("manifests/{}/{}", &digest.hex()[..2], digest.hex())
}

/// `images/AA/FILE.FORMAT`
pub(crate) fn image_path(id: &Digest, format: &str) -> String {
    format!("images/{}/{}.{format}", &id.hex()[..2], id.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest(format: &str) -> (Digest, Vec<u8>) {
        let digest = Digest::from_bytes(&[1; 32]);
        let packed = Packed { id: Digest::from_bytes(&[2; 32]), format: format.into(), size: 4096 };
        let info = ImageInfo { digest: Some(digest.clone()), ..ImageInfo::default() };
        let manifest = Manifest { info, files: [(PACKING.to_owned(), packed)].into() };
        (digest, serde_json::to_vec(&manifest).unwrap())
    }

    #[test]
    fn a_record_of_another_image_or_with_a_path_in_it_is_refused() {
        let (digest, bytes) = manifest("squashfs");
        assert!(Manifest::parse(&bytes, &digest).unwrap().preferred().is_some());
        assert!(Manifest::parse(&bytes, &Digest::from_bytes(&[3; 32])).is_err());
        let (digest, bytes) = manifest("/../../etc/passwd");
        assert!(Manifest::parse(&bytes, &digest).is_err());
    }

    proptest! {
        #[test]
        fn no_file_is_a_crash(bytes: Vec<u8>) {
            let _ = Manifest::parse(&bytes, &Digest::from_bytes(&[1; 32]));
        }
    }
}
