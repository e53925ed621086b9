//! OCI image layouts: `index.json` and `blobs/`, in a directory or an archive.

use std::sync::mpsc::SyncSender;

use udi::{Digest, Error, Result};

use super::parts::{self, Parts, REPAIR, document, missing};
use crate::source::Source;
use crate::source::manifest::{Descriptor, Layer, choose, parse};

/// Tags, as tools write them into the index: the specification's, and containerd's full name.
const TAGS: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// A layout.
#[derive(Debug)]
pub(super) struct Layout {
    parts: Box<dyn Parts>,
    /// What messages call it.
    path: String,
}

impl Layout {
    pub(super) fn open(parts: Box<dyn Parts>, path: String) -> Self {
        Self { parts, path }
    }

    /// The manifest or index that is `tag`, or the only one there is.
    pub(super) fn find(&self, tag: Option<&str>, platform: &str) -> Result<Digest> {
        let bytes = document(&*self.parts, &self.path, "index.json").map_err(|e| {
            e.hint("is it an OCI layout? docker save's archives are docker-archive:")
        })?;
        let index = parse(&bytes).map_err(|e| e.about(format!("{}: index.json: ", self.path)))?;
        select(&index.manifests, tag, platform).map_err(|e| e.about(format!("{}: ", self.path)))
    }

    fn blob(&self, digest: &Digest) -> String {
        format!("blobs/sha256/{}", digest.hex())
    }
}

fn select(all: &[Descriptor], tag: Option<&str>, platform: &str) -> Result<Digest> {
    let tags = |descriptor: &Descriptor| -> Vec<String> {
        let annotations = descriptor.annotations.iter().flatten();
        annotations
            .filter(|(key, _)| TAGS.contains(&key.as_str()))
            .map(|(_, v)| v.clone())
            .collect()
    };
    let fitting: Vec<&Descriptor> = match tag {
        Some(tag) => all.iter().filter(|d| tags(d).iter().any(|t| t == tag)).collect(),
        None => all.iter().collect(),
    };
    let names = || {
        let mut names: Vec<String> =
            all.iter().filter_map(|d| tags(d).into_iter().next()).collect();
        names.dedup();
        names.join(", ")
    };
    match (&fitting[..], tag) {
        ([], Some(tag)) => Err(Error::user(format!("there is no image {tag} in it"))
            .hint(format!("it has: {}", names()))),
        ([], None) => Err(Error::user("there is no image in it")),
        ([one], _) => one.digest.parse(),
        // Some tools have no index for the platforms but this one.
        (several, _) if several.iter().all(|d| d.platform.is_some()) && same(several, &tags) => {
            let several: Vec<Descriptor> = several.iter().copied().cloned().collect();
            choose(&several, platform)
        }
        _ => Err(Error::user("there are several images in it")
            .hint(format!("say which one, after a colon: {}", names()))),
    }
}

/// Whether all have the same tags.
fn same(several: &[&Descriptor], tags: &impl Fn(&Descriptor) -> Vec<String>) -> bool {
    several.windows(2).all(|two| tags(two[0]) == tags(two[1]))
}

impl Source for Layout {
    fn manifest(&self, reference: &str) -> Result<Vec<u8>> {
        self.configuration(&reference.parse()?)
    }

    fn configuration(&self, digest: &Digest) -> Result<Vec<u8>> {
        document(&*self.parts, &self.path, &self.blob(digest))
    }

    fn fetch(&self, layer: &Layer, progress: &dyn Fn(u64), to: &SyncSender<Result<Vec<u8>>>) {
        let name = self.blob(&layer.digest);
        let part = self.parts.open(&name);
        let part =
            part.and_then(|part| part.ok_or_else(|| missing(&self.path, &name).hint(REPAIR)));
        parts::fetch(part, (&self.path, &name), Some(&layer.digest), progress, to);
    }

    fn wrong(&self, digest: &str) -> Error {
        parts::wrong(&self.path, digest)
    }

    fn repair(&self) -> &'static str {
        REPAIR
    }
}
