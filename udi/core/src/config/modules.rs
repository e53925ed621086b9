//! What a module is made of, besides mounts and environment.

use serde::Deserialize;
use std::path::PathBuf;

use crate::{GuestPath, Hook, Result};

/// `[[modules.NAME.copy]]`: a file of the host's that lies over the image's, read with root's
/// rights when the UDI is staged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteCopy {
    /// The host's path.
    pub from: PathBuf,
    /// Where it appears inside; by default at the same path.
    #[serde(default)]
    pub to: Option<GuestPath>,
    /// Its permissions inside; by default the host's, without write for others than root.
    #[serde(default)]
    pub mode: Option<Permissions>,
    /// Whether a node without it is fine.
    #[serde(default)]
    pub optional: bool,
}

impl SiteCopy {
    /// Where it appears inside.
    pub fn target(&self) -> Result<GuestPath> {
        match &self.to {
            Some(to) => Ok(to.clone()),
            None => GuestPath::parse(&self.from.to_string_lossy()),
        }
    }
}

/// Permissions of a file, as chmod(1) takes them in digits. Never set-user-ID or the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// What everybody may read and only root write.
    pub const PLAIN: Self = Self(0o644);

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.strip_prefix('0').unwrap_or(&text);
        let is_plain = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
        let bits = u32::from_str_radix(digits, 8).ok().filter(|_| is_plain);
        bits.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("{text}: not permissions such as \"644\" or \"755\""))
        })
    }
}

/// `[modules.NAME.hooks]`: the site's programs for jobs with this module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModuleHooks {
    /// Run as root on the host before anything is mounted, after those of `[hooks]`.
    pub before: Vec<Hook>,
    /// Run as root on the host when the UDI is complete, after those of `[hooks]`.
    pub after: Vec<Hook>,
    /// Run inside, as the user, before the commands of a step's ranks: once on each node.
    pub user: Vec<Hook>,
}

/// The C library of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Libc {
    /// GNU's: of most distributions.
    Glibc,
    /// Alpine's.
    Musl,
}
