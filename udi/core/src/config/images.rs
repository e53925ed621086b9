//! The image store, and what image names mean.

use serde::Deserialize;
use std::path::PathBuf;

use crate::{GuestPath, Size};

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
    /// Whose files are.
    pub owners: Owners,
    /// What becomes of extended attributes; only those of users (`user.*`) can be kept.
    pub xattrs: Extra,
    /// What becomes of device nodes, which cannot be opened in any case.
    pub devices: Extra,
    /// `http://HOST:PORT`: the proxy through which registries are asked by HTTPS; empty: none.
    pub proxy: String,
    /// Hosts and domains that are asked without it.
    pub no_proxy: Vec<String>,
    /// How much of a file is compressed at once: what is read of it is read in such pieces.
    pub block_size: BlockSize,
    /// How contents of files are compressed.
    pub compression: Compression,
    /// The compressor's level.
    pub compression_level: CompressionLevel,
    /// How many bytes of layers are kept for other images that have them; nothing: none are.
    pub layer_cache: Option<Size>,
    /// What file systems users may have images packed as, besides squashfs.
    pub formats: Vec<ImageFormat>,
    /// Where images are unpacked to be packed as something else than squashfs: a directory that
    /// the store's owner can write.
    pub scratch: PathBuf,
}

/// Bytes of a squashfs block: a power of two from 4 KiB to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Size")]
pub struct BlockSize(u32);

impl BlockSize {
    /// The number of bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for BlockSize {
    fn default() -> Self {
        Self(128 << 10)
    }
}

impl TryFrom<Size> for BlockSize {
    type Error = String;

    fn try_from(size: Size) -> Result<Self, String> {
        let fits = |bytes: &u32| bytes.is_power_of_two() && (4 << 10..=1 << 20).contains(bytes);
        let bytes = u32::try_from(size.bytes()).ok().filter(fits);
        bytes.map(Self).ok_or_else(|| format!("a block has 4K, 8K, 16K … or 1M, not {size}"))
    }
}

/// How contents of files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// With zstd.
    #[default]
    Zstd,
    /// Not at all; only the names are.
    None,
}

/// A level of zstd, 1 to 19: the higher, the smaller and slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct CompressionLevel(u8);

impl CompressionLevel {
    /// The level as zstd has it.
    pub fn level(self) -> i32 {
        i32::from(self.0)
    }
}

impl Default for CompressionLevel {
    fn default() -> Self {
        Self(3)
    }
}

impl TryFrom<i64> for CompressionLevel {
    type Error = String;

    fn try_from(level: i64) -> Result<Self, String> {
        let level = u8::try_from(level).ok().filter(|level| (1..=19).contains(level));
        level.map(Self).ok_or_else(|| "a level of compression is a number from 1 to 19".into())
    }
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

/// Owners and groups of an image's files, as the import packs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owners {
    /// As the image has them.
    #[default]
    Keep,
    /// All is root's.
    Root,
}

/// What becomes of what few images need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extra {
    /// It is left out.
    #[default]
    Drop,
    /// It is packed as the image has it.
    Keep,
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
            owners: Owners::Keep,
            xattrs: Extra::Drop,
            devices: Extra::Drop,
            proxy: String::new(),
            no_proxy: Vec::new(),
            block_size: BlockSize::default(),
            compression: Compression::default(),
            compression_level: CompressionLevel::default(),
            layer_cache: None,
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
    /// Whether to ask the registry itself for what the mirror does not give.
    #[serde(default)]
    pub fallback: bool,
    /// Whether to talk plain HTTP.
    #[serde(default)]
    pub http: bool,
    /// A file of certificates (PEM) to trust besides the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_or_level_that_squashfs_does_not_have_is_refused() {
        let parse = |text: &str| toml::from_str::<ImagesConfig>(text);
        for bad in [
            "block_size = \"2K\"",
            "block_size = \"96K\"",
            "block_size = \"2M\"",
            "compression_level = 0",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let config =
            parse("block_size = \"1M\"\ncompression = \"none\"\ncompression_level = 19").unwrap();
        assert_eq!((config.block_size.bytes(), config.compression_level.level()), (1 << 20, 19));
        assert_eq!(config.compression, Compression::None);
    }
}
