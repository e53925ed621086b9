//! Manifests: what an image consists of.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

use udi::{Digest, Error, ImageInfo, Result};

use super::Source;

/// More layers than any tool makes.
const MAX_LAYERS: usize = 1000;
/// An index in an index in an index is no image.
const MAX_NESTING: usize = 3;
/// More addresses of one layer than anybody keeps up.
const MAX_URLS: usize = 8;

/// An image, chosen for a platform.
#[derive(Clone, Debug)]
pub(crate) struct Picked {
    pub(crate) digest: Digest,
    pub(crate) info: ImageInfo,
    /// The base first.
    pub(crate) layers: Vec<Layer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// The digest of what is in it, uncompressed.
    pub(crate) diff_id: Digest,
    /// Where else it is, if those who have the image may not pass it on.
    pub(crate) urls: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    #[serde(default, rename = "schemaVersion")]
    schema: u32,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Descriptor {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    pub(crate) digest: String,
    size: u64,
    pub(crate) platform: Option<Platform>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    urls: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Configuration {
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    config: Option<Process>,
    rootfs: Option<RootFs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Process {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

impl Platform {
    fn name(&self) -> String {
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => {
                format!("{}/{}/{variant}", self.os, self.architecture)
            }
            _ => format!("{}/{}", self.os, self.architecture),
        }
    }
}

/// Whether it is a platform as people type it: `OS/ARCHITECTURE[/VARIANT]`.
pub(crate) fn is_platform(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let good = |part: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(plain)
    };
    (2..=3).contains(&parts.len()) && parts.iter().all(good)
}

/// Asks the source what `reference` (a tag or a digest) is on `platform`.
pub(crate) fn pick(source: &dyn Source, reference: &str, platform: &str) -> Result<Picked> {
    let mut reference = reference.to_owned();
    for _ in 0..MAX_NESTING {
        let bytes = source.manifest(&reference)?;
        let digest = sha256(&bytes);
        if reference.starts_with("sha256:") && digest.as_str() != reference {
            return Err(source.wrong(&reference));
        }
        let document = parse(&bytes)?;
        if document.manifests.is_empty() {
            return image(source, digest, &document, platform);
        }
        reference = choose(&document.manifests, platform)?.as_str().to_owned();
    }
    Err(Error::user("the image is an index of an index of an index")
        .hint("name one of the images in it by digest"))
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Document> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|e| Error::user("there is no image manifest where one should be").because(e))?;
    if document.schema == 1 {
        return Err(Error::user(
            "the image has a manifest of version 1, which docker gave up in 2016",
        )
        .hint("pull and push it once with a current docker or podman"));
    }
    Ok(document)
}

/// The manifest for `platform`: without a variant if there is one such.
pub(crate) fn choose(manifests: &[Descriptor], platform: &str) -> Result<Digest> {
    let named = |m: &&Descriptor| m.platform.as_ref().map(Platform::name).unwrap_or_default();
    let exact = manifests.iter().find(|m| named(m) == platform);
    let close = || manifests.iter().find(|m| named(m).starts_with(&format!("{platform}/")));
    match exact.or_else(close) {
        Some(found) => found.digest.parse(),
        None => {
            let others: Vec<String> = manifests
                .iter()
                .map(|m| named(&m))
                .filter(|n| !n.is_empty() && !n.contains("unknown"))
                .collect();
            Err(Error::user(format!(
                "the image is for {} only, not for {platform}",
                others.join(", ")
            ))
            .hint("ask whoever made it for one, or build it for that platform"))
        }
    }
}

fn image(
    source: &dyn Source,
    digest: Digest,
    document: &Document,
    platform: &str,
) -> Result<Picked> {
    let not_one =
        || Error::user("this is not a container image (a chart, a signature or the like)");
    let config = document.config.as_ref().ok_or_else(not_one)?;
    let config_digest: Digest = config.digest.parse()?;
    let bytes = source.configuration(&config_digest)?;
    if sha256(&bytes) != config_digest {
        return Err(source.wrong(config_digest.as_str()));
    }
    let configuration: Configuration =
        serde_json::from_slice(&bytes).map_err(|e| not_one().because(e))?;
    let diff_ids = configuration.rootfs.ok_or_else(not_one)?.diff_ids;
    let found = Platform {
        os: configuration.os.unwrap_or_default(),
        architecture: configuration.architecture.unwrap_or_default(),
        variant: configuration.variant,
    }
    .name();
    let fits = found == platform || found.starts_with(&format!("{platform}/"))
        // Many builders leave the variant out.
        || platform.starts_with(&format!("{found}/"));
    if !fits {
        return Err(Error::user(format!("the image is for {found}, not for {platform}"))
            .hint("ask whoever made it for one, or build it for that platform"));
    }
    if diff_ids.len() != document.layers.len() || diff_ids.len() > MAX_LAYERS {
        return Err(Error::user("the image's manifest and configuration do not fit each other")
            .hint(source.repair()));
    }
    let layers = document
        .layers
        .iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| {
            if layer.media_type.contains("encrypted") {
                return Err(Error::user("the image is encrypted")
                    .hint("decrypt it first, with skopeo copy --decryption-key"));
            }
            let urls = layer.urls.iter().flatten().take(MAX_URLS).cloned().collect();
            Ok(Layer { digest: layer.digest.parse()?, size: layer.size, diff_id, urls })
        })
        .collect::<Result<Vec<Layer>>>()?;
    let process = configuration.config.unwrap_or_default();
    let info = ImageInfo {
        digest: Some(digest.clone()),
        platform: found,
        env: process.env.unwrap_or_default(),
        entrypoint: process.entrypoint.unwrap_or_default(),
        cmd: process.cmd.unwrap_or_default(),
        workdir: process.working_dir.unwrap_or_default(),
        user: process.user.unwrap_or_default(),
        labels: process.labels.unwrap_or_default(),
        layers: layers.iter().map(|layer| layer.digest.clone()).collect(),
    };
    Ok(Picked { digest, info, layers })
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(&Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(platforms: &[(&str, Option<&str>)]) -> Vec<Descriptor> {
        let digest = |n: usize| Digest::from_bytes(&[n as u8; 32]).to_string();
        let descriptors =
            platforms.iter().enumerate().map(|(n, (architecture, variant))| Descriptor {
                media_type: String::new(),
                digest: digest(n),
                size: 1,
                platform: Some(Platform {
                    os: if *architecture == "unknown" { "unknown" } else { "linux" }.into(),
                    architecture: (*architecture).into(),
                    variant: variant.map(str::to_owned),
                }),
                annotations: None,
                urls: None,
            });
        descriptors.collect()
    }

    #[test]
    fn a_platform_has_two_or_three_parts() {
        assert!(["linux/amd64", "linux/arm64/v8"].into_iter().all(is_platform));
        for bad in ["", "linux", "linux/", "/amd64", "linux/a/b/c", "linux/a b", "linux/é"] {
            assert!(!is_platform(bad), "{bad}");
        }
    }

    #[test]
    fn the_sites_platform_is_chosen() {
        let all = index(&[
            ("unknown", None),
            ("arm64", Some("v8")),
            ("amd64", Some("v3")),
            ("amd64", None),
        ]);
        let chosen = |platform| choose(&all, platform).map(|d| d.short()[..2].to_owned());
        assert_eq!(chosen("linux/amd64").unwrap(), "03");
        assert_eq!(chosen("linux/arm64").unwrap(), "01");
        assert_eq!(chosen("linux/amd64/v3").unwrap(), "02");
        let error = chosen("linux/riscv64").unwrap_err().what();
        assert_eq!(
            error,
            "the image is for linux/arm64/v8, linux/amd64/v3, linux/amd64 only, not for linux/riscv64"
        );
    }

    #[test]
    fn ancient_manifests_are_refused_in_words() {
        assert!(parse(br#"{"schemaVersion":1}"#).unwrap_err().what().contains("version 1"));
    }

    proptest! {
        #[test]
        fn no_answer_is_a_crash(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = serde_json::from_slice::<Configuration>(&bytes);
        }
    }
}
