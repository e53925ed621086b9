//! What the store knows of a digest.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use udi::{Digest, Error, ImageFormat, ImageInfo, Modes, Result};

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
    /// The file system's name: `squashfs`, `ext4` or `erofs`.
    pub format: String,
    /// Bytes of the file.
    pub size: u64,
    /// What ordinary users cannot read in it, as far as they could want to.
    #[serde(default)]
    pub unreadable: Unreadable,
}

/// Files that ordinary users cannot read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// How many.
    pub files: u64,
    /// The paths of a few of them.
    pub examples: Vec<String>,
}

/// How images are packed by this release. The name changes when the bytes would.
pub fn packing(modes: Modes) -> &'static str {
    match modes {
        Modes::Keep => "squashfs-2",
        Modes::Readable => "squashfs-2-readable",
    }
}

/// How a squashfs file is packed once more as `format`.
pub(crate) fn packing_as(format: ImageFormat, modes: Modes) -> &'static str {
    match (format, modes) {
        (ImageFormat::Squashfs, modes) => packing(modes),
        (ImageFormat::Ext4, Modes::Keep) => "ext4-1",
        (ImageFormat::Ext4, Modes::Readable) => "ext4-1-readable",
        (ImageFormat::Erofs, Modes::Keep) => "erofs-lz4hc-1",
        (ImageFormat::Erofs, Modes::Readable) => "erofs-lz4hc-1-readable",
    }
}

/// Whether a way of packing, of whatever release, has made files readable.
fn is_readable(packing: &str) -> bool {
    packing.ends_with("-readable")
}

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
        if manifest.files.values().any(|f| ImageFormat::of(&f.format).is_none()) {
            return Err(broken("an unknown file format".into()));
        }
        Ok(manifest)
    }

    /// The file to mount: the readable one, if somebody made it, so that nobody's pull takes
    /// from others what they could read; of those another format than squashfs, which is there
    /// only if somebody asked for it; else the newest way of packing that is there.
    pub fn preferred(&self) -> Option<&Packed> {
        self.best(&ImageFormat::ALL).map(|(_, file)| file)
    }

    /// The same, of squashfs files alone.
    pub(crate) fn squashfs(&self) -> Option<&Packed> {
        self.best(&[ImageFormat::Squashfs]).map(|(_, file)| file)
    }

    /// The best of these formats, as this release or an older one packed it, and its name.
    fn best(&self, formats: &[ImageFormat]) -> Option<(&str, &Packed)> {
        [Modes::Readable, Modes::Keep].into_iter().find_map(|modes| {
            let mut current = formats
                .iter()
                .filter_map(|format| self.files.get_key_value(packing_as(*format, modes)));
            let mut older = self.files.iter().rev().filter(|(name, file)| {
                is_readable(name) == (modes == Modes::Readable)
                    && formats.iter().any(|format| format.name() == file.format)
            });
            current.next().or_else(|| older.next()).map(|(name, file)| (name.as_str(), file))
        })
    }

    /// The squashfs file that is good enough for who wants `modes`.
    pub fn packed(&self, modes: Modes) -> Option<&Packed> {
        let readable = self.files.get(packing(Modes::Readable));
        match modes {
            Modes::Readable => readable,
            Modes::Keep => readable.or_else(|| self.files.get(packing(Modes::Keep))),
        }
    }

    /// The modes of the files that nodes mount.
    pub fn modes(&self) -> Modes {
        if self.is_made_readable() { Modes::Readable } else { Modes::Keep }
    }

    /// Whether users can read the files that nodes mount because somebody wanted them to.
    pub fn is_made_readable(&self) -> bool {
        self.best(&ImageFormat::ALL).is_some_and(|(name, _)| is_readable(name))
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

    fn packed(id: u8, format: &str) -> Packed {
        let unreadable = Unreadable { files: 1, examples: vec!["/app/a".into()] };
        Packed { id: Digest::from_bytes(&[id; 32]), format: format.into(), size: 4096, unreadable }
    }

    fn manifest(format: &str) -> (Digest, Vec<u8>) {
        let digest = Digest::from_bytes(&[1; 32]);
        let info = ImageInfo { digest: Some(digest.clone()), ..ImageInfo::default() };
        let files = [(packing(Modes::Keep).to_owned(), packed(2, format))].into();
        let manifest = Manifest { info, files };
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

    #[test]
    fn the_readable_packing_goes_before_the_image_as_it_is() {
        let (digest, bytes) = manifest("squashfs");
        let mut record = Manifest::parse(&bytes, &digest).unwrap();
        assert_eq!(record.packed(Modes::Readable), None);
        assert_eq!(record.packed(Modes::Keep), record.preferred());
        let readable = packed(9, "squashfs");
        record.files.insert(packing(Modes::Readable).to_owned(), readable.clone());
        for found in
            [record.preferred(), record.packed(Modes::Keep), record.packed(Modes::Readable)]
        {
            assert_eq!(found, Some(&readable));
        }
    }

    #[test]
    fn another_format_is_mounted_if_it_is_there_but_not_before_what_is_readable() {
        let (digest, bytes) = manifest("squashfs");
        let mut record = Manifest::parse(&bytes, &digest).unwrap();
        let mut add = |format: ImageFormat, modes, id| {
            let packed = packed(id, format.name());
            record.files.insert(packing_as(format, modes).to_owned(), packed);
            let json = serde_json::to_vec(&record).unwrap();
            let read = Manifest::parse(&json, &digest).unwrap();
            (read.preferred().unwrap().id.clone(), read.packed(Modes::Keep).unwrap().format.clone())
        };
        let id = |id| Digest::from_bytes(&[id; 32]);
        for (format, modes, number) in [
            (ImageFormat::Ext4, Modes::Keep, 11),
            (ImageFormat::Erofs, Modes::Keep, 12),
            (ImageFormat::Squashfs, Modes::Readable, 13),
            (ImageFormat::Ext4, Modes::Readable, 14),
        ] {
            assert_eq!(add(format, modes, number), (id(number), "squashfs".to_owned()));
        }
    }

    #[test]
    fn a_record_of_an_older_release_is_read() {
        let (digest, bytes) = manifest("squashfs");
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let file = &mut json["files"][packing(Modes::Keep)];
        file.as_object_mut().unwrap().remove("unreadable").unwrap();
        let record = Manifest::parse(&serde_json::to_vec(&json).unwrap(), &digest).unwrap();
        assert_eq!(record.preferred().unwrap().unreadable, Unreadable::default());
    }

    #[test]
    fn what_an_older_release_made_readable_stays_so_until_this_one_makes_it() {
        let (digest, bytes) = manifest("squashfs");
        let mut record = Manifest::parse(&bytes, &digest).unwrap();
        let keep = record.preferred().unwrap().id.clone();
        record.files.insert("squashfs-1-readable".into(), packed(11, "squashfs"));
        record.files.insert("squashfs-1".into(), packed(12, "squashfs"));
        assert_eq!(record.preferred().unwrap().id, Digest::from_bytes(&[11; 32]));
        assert_eq!(record.squashfs().unwrap().id, Digest::from_bytes(&[11; 32]));
        assert!(record.is_made_readable());
        // But it is packed anew when it is wanted again.
        assert!(record.packed(Modes::Readable).is_none());
        assert_eq!(record.packed(Modes::Keep).unwrap().id, keep);
        record.files.insert(packing(Modes::Readable).into(), packed(13, "squashfs"));
        assert_eq!(record.preferred().unwrap().id, Digest::from_bytes(&[13; 32]));
    }

    proptest! {
        #[test]
        fn no_file_is_a_crash(bytes: Vec<u8>) {
            let _ = Manifest::parse(&bytes, &Digest::from_bytes(&[1; 32]));
        }
    }
}
