//! Docker's archives: `manifest.json` names the configuration and the layers of each image.
//!
//! They have no manifest of the image itself: it is made from what there is, the same one that
//! `skopeo inspect --raw docker-archive:FILE` shows, so that its digest is known elsewhere, too.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::mpsc::SyncSender;

use udi::{Digest, Error, ImageRef, Names, Result};

use super::archive::Archive;
use super::parts::{self, Parts, REPAIR, document, missing};
use crate::source::Source;
use crate::source::decoded::Decoded;
use crate::source::manifest::{Layer, sha256};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIGURATION: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// More than any tool makes.
const MAX_LAYERS: usize = 1000;

/// One image of an archive.
#[derive(Debug)]
pub(super) struct Image {
    archive: Archive,
    path: String,
    manifest: Vec<u8>,
    digest: Digest,
    configuration: Vec<u8>,
    /// By `diff_id`: the layer's name in the archive.
    layers: BTreeMap<Digest, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Configuration {
    rootfs: Option<RootFs>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

impl Image {
    /// The image that was typed, or the only one there is.
    pub(super) fn open(archive: Archive, path: String, reference: Option<&str>) -> Result<Self> {
        let damaged = |what: String| Error::user(format!("{path}: {what}")).hint(REPAIR);
        let bytes = document(&archive, &path, "manifest.json").map_err(|e| {
            e.hint("is it docker's? oci-archive: takes OCI layouts, tar: the archive of a root file system")
        })?;
        let listed = parse(&bytes).map_err(|e| damaged(format!("manifest.json: {e}")))?;
        let one = select(&listed, reference).map_err(|e| e.about(format!("{path}: ")))?;
        let configuration = document(&archive, &path, &one.config)?;
        let parsed: Configuration = serde_json::from_slice(&configuration)
            .map_err(|e| damaged(format!("{}: {e}", one.config)))?;
        let diff_ids = parsed.rootfs.map(|r| r.diff_ids).unwrap_or_default();
        let names = one.layers.unwrap_or_default();
        if diff_ids.len() != names.len() || names.len() > MAX_LAYERS {
            return Err(damaged(
                "manifest.json and the configuration do not fit each other".into(),
            ));
        }
        let mut layers = BTreeMap::new();
        let mut sizes = BTreeMap::new();
        for (diff_id, name) in diff_ids.iter().zip(names) {
            if !sizes.contains_key(diff_id) {
                sizes.insert(diff_id.clone(), unpacked_size(&archive, &path, &name)?);
                layers.insert(diff_id.clone(), name);
            }
        }
        let manifest = manifest(&configuration, diff_ids.iter().map(|d| (d, sizes[d])));
        let digest = sha256(&manifest);
        Ok(Self { archive, path, manifest, digest, configuration, layers })
    }

    /// The digest of the manifest that was made.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }
}

fn parse(bytes: &[u8]) -> std::result::Result<Vec<Listed>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// `NAME:TAG` as docker knows it, or `@N`, the Nth in the archive.
fn select(all: &[Listed], reference: Option<&str>) -> Result<Listed> {
    let names = || {
        let tags = all.iter().flat_map(|one| one.repo_tags.iter().flatten());
        let names = tags.cloned().collect::<Vec<_>>().join(", ");
        if names.is_empty() { "@0, @1, and so on".to_owned() } else { names }
    };
    let full = |text: &str| {
        let names = Names { registry: "docker.io".into(), tag: "latest".into() };
        ImageRef::parse(text, &names).map_or_else(|_| text.to_owned(), |image| image.to_string())
    };
    let found = match reference {
        None => match all {
            [one] => Some(one),
            [] => return Err(Error::user("there is no image in it")),
            _ => {
                return Err(Error::user("there are several images in it")
                    .hint(format!("say which one, after a colon: {}", names())));
            }
        },
        Some(reference) => match reference.strip_prefix('@') {
            Some(number) => number.parse().ok().and_then(|n: usize| all.get(n)),
            None => all.iter().find(|one| {
                let mut tags = one.repo_tags.iter().flatten();
                tags.any(|tag| full(tag) == full(reference))
            }),
        },
    };
    found.cloned().ok_or_else(|| {
        Error::user(format!("there is no image {} in it", reference.unwrap_or_default()))
            .hint(format!("it has: {}", names()))
    })
}

/// How long a layer is when unpacked: what its manifest says of it.
fn unpacked_size(archive: &Archive, path: &str, name: &str) -> Result<u64> {
    let cannot = |e: io::Error| match e.downcast::<Error>() {
        Ok(error) => error,
        Err(e) => Error::user(format!("{path}: {name} cannot be read")).because(e).hint(REPAIR),
    };
    let none = || missing(path, name).hint(REPAIR);
    if let (size, false) = archive.look(name).ok_or_else(none)? {
        return Ok(size);
    }
    let (part, _) = archive.open(name)?.ok_or_else(none)?;
    let mut decoded =
        Decoded::of(BufReader::new(part), &format!("{path}: {name}")).map_err(cannot)?;
    let mut unpacked = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match decoded.read(&mut buffer).map_err(cannot)? {
            0 => return Ok(unpacked),
            n => unpacked += n as u64,
        }
    }
}

/// Byte for byte what containers/image makes: the order of the fields counts.
fn manifest<'a>(configuration: &[u8], layers: impl Iterator<Item = (&'a Digest, u64)>) -> Vec<u8> {
    let described = |kind: &str, size: u64, digest: &Digest| {
        format!(r#"{{"mediaType":"{kind}","size":{size},"digest":"{digest}"}}"#)
    };
    let layers: Vec<String> =
        layers.map(|(diff_id, size)| described(LAYER, size, diff_id)).collect();
    let config = described(CONFIGURATION, configuration.len() as u64, &sha256(configuration));
    let layers = layers.join(",");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layers}]}}"#
    )
    .into_bytes()
}

impl Source for Image {
    fn manifest(&self, _: &str) -> Result<Vec<u8>> {
        Ok(self.manifest.clone())
    }

    fn configuration(&self, _: &Digest) -> Result<Vec<u8>> {
        Ok(self.configuration.clone())
    }

    fn fetch(&self, layer: &Layer, progress: &dyn Fn(u64), to: &SyncSender<Result<Vec<u8>>>) {
        let name = self.layers.get(&layer.diff_id).map_or("", String::as_str);
        let part = self.archive.open(name);
        let part = part.and_then(|part| part.ok_or_else(|| missing(&self.path, name).hint(REPAIR)));
        // The configuration has the digest of what is in the layer, and nothing has one of how it
        // is stored.
        parts::fetch(part, (&self.path, name), None, progress, to);
    }

    fn wrong(&self, digest: &str) -> Error {
        parts::wrong(&self.path, digest)
    }

    fn repair(&self) -> &'static str {
        REPAIR
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listed(tags: &[&[&str]]) -> Vec<Listed> {
        let one = |(number, tags): (usize, &&[&str])| Listed {
            config: number.to_string(),
            repo_tags: Some(tags.iter().map(|&tag| tag.to_owned()).collect()),
            layers: None,
        };
        tags.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_image_that_was_typed_is_found_as_docker_would() {
        let all = listed(&[&["app:1", "localhost/b:2"], &["docker.io/library/c:latest"], &[]]);
        let found = |reference| select(&all, Some(reference)).map(|one| one.config);
        assert_eq!(found("app:1").unwrap(), "0");
        assert_eq!(found("localhost/b:2").unwrap(), "0");
        assert_eq!(found("c").unwrap(), "1");
        assert_eq!(found("@2").unwrap(), "2");
        let error = found("x:1").unwrap_err().to_string();
        assert!(error.contains("app:1, localhost/b:2, docker.io/library/c:latest"), "{error}");
        assert!(select(&all, None).unwrap_err().what().contains("several images"));
        assert!(select(&[], None).unwrap_err().what().contains("no image"));
        assert_eq!(select(&all[..1], None).unwrap().config, "0");
    }

    proptest! {
        #[test]
        fn no_manifest_is_a_crash(bytes: Vec<u8>, reference: Option<String>) {
            let _ = parse(&bytes).map(|all| select(&all, reference.as_deref()));
        }
    }
}
