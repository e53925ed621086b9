//! The image store, and what image names mean.

use serde::Deserialize;
use std::path::PathBuf;

use crate::GuestPath;

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The store's directory on the shared file system.
    pub path: PathBuf,
    /// The account that owns everything in it, and nothing else.
    #[serde(default = "default_owner")]
    pub owner: String,
}

fn default_owner() -> String {
    "shifter".into()
}

/// `[images]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesConfig {
    /// The registry of a name without one.
    pub default_registry: String,
    /// The tag of a name without one.
    pub default_tag: String,
    /// The nodes' platform, `os/architecture[/variant]`.
    pub platform: String,
    /// What kinds of names users may give.
    pub types: Vec<ImageType>,
    /// Root's own directories below which `local:PATH` may name an image.
    pub local: Vec<GuestPath>,
    /// What becomes of files that ordinary users could not read.
    pub modes: Modes,
    /// What file systems users may have images packed as, besides squashfs.
    pub formats: Vec<ImageFormat>,
    /// Where images are unpacked to be packed as something else than squashfs: a directory that
    /// the store's owner can write.
    pub scratch: PathBuf,
}

/// The file system in an image's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// What every image is packed as at first.
    #[default]
    Squashfs,
    /// Made of the squashfs file, by `mke2fs`.
    Ext4,
    /// Made of the squashfs file, by `mkfs.erofs`.
    Erofs,
}

impl ImageFormat {
    /// All, the one first that is mounted if there are several.
    pub const ALL: [Self; 3] = [Self::Erofs, Self::Ext4, Self::Squashfs];

    /// The name, as the kernel has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Ext4 => "ext4",
            Self::Erofs => "erofs",
        }
    }

    /// The format of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// A kind of image name, by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageType {
    /// `[docker:]NAME:TAG`, of a registry.
    Docker,
    /// `id:sha256:…`.
    Id,
    /// `user:LOGIN/NAME`.
    User,
    /// `local:PATH`.
    Local,
}

/// Modes of an image's files, as the import packs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modes {
    /// As the image has them.
    #[default]
    Keep,
    /// Readable for everybody.
    Readable,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            default_registry: "docker.io".into(),
            default_tag: "latest".into(),
            platform: "linux/amd64".into(),
            types: vec![ImageType::Docker, ImageType::Id, ImageType::User, ImageType::Local],
            local: Vec::new(),
            modes: Modes::Keep,
            formats: vec![ImageFormat::Squashfs],
            scratch: "/var/tmp".into(),
        }
    }
}

/// `[[registry]]`: how images below a prefix are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryRule {
    /// `REGISTRY[/PATH]`, compared by component.
    pub prefix: String,
    /// `REGISTRY[/PATH]` to ask instead: the site's mirror.
    #[serde(default)]
    pub mirror: Option<String>,
    /// Whether to talk plain HTTP.
    #[serde(default)]
    pub http: bool,
    /// A file of certificates (PEM) to trust besides the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}
