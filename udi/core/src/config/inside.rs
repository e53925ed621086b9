//! What the site puts into every image.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::{GuestPath, Result, Size};

/// `[inside]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InsideConfig {
    /// Whether batch scripts run inside.
    pub batch: Batch,
    /// What `/tmp` is.
    pub tmp: Scratch,
    /// What `/var/tmp` is.
    pub var_tmp: Scratch,
    /// What the user's home directory is.
    pub home: Home,
    /// Where ranks start.
    pub workdir: Workdir,
}

/// Whether batch scripts run inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Batch {
    /// On the host, so that `srun` works in them.
    #[default]
    Never,
    /// Inside.
    Always,
    /// On the host, unless submitted with `--image-batch`.
    Ask,
}

/// What a directory for temporary files is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scratch {
    /// What the job would see without an image: its own, where Slurm gives it one
    /// (job_container/tmpfs), else the node's.
    #[default]
    Job,
    /// The node's, always.
    Host,
    /// Memory, empty, as long as the UDI.
    Tmpfs(Size),
}

/// What the user's home directory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// What the image and the site's mounts show there.
    #[default]
    Site,
    /// The host's, opened with the user's rights.
    Mount,
    /// Memory, empty, as long as the UDI.
    Tmpfs(Size),
}

/// Where ranks start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workdir {
    /// The job's directory, if it is there inside, else `/tmp`, as Slurm has it.
    #[default]
    Job,
    /// The image's, if it names one.
    Image,
}

fn tmpfs(text: &str) -> Option<std::result::Result<Size, String>> {
    text.strip_prefix("tmpfs=").map(|size| size.parse::<Size>())
}

impl<'de> Deserialize<'de> for Scratch {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.as_str() {
            "job" => Ok(Self::Job),
            "host" => Ok(Self::Host),
            other => match tmpfs(other) {
                Some(size) => size.map(Self::Tmpfs).map_err(serde::de::Error::custom),
                None => Err(serde::de::Error::custom("not \"job\", \"host\" or \"tmpfs=SIZE\"")),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Home {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.as_str() {
            "site" => Ok(Self::Site),
            "mount" => Ok(Self::Mount),
            other => match tmpfs(other) {
                Some(size) => size.map(Self::Tmpfs).map_err(serde::de::Error::custom),
                None => Err(serde::de::Error::custom("not \"site\", \"mount\" or \"tmpfs=SIZE\"")),
            },
        }
    }
}

/// `[etc]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcConfig {
    /// Files of the host that replace the image's of the same name, if they exist.
    pub copy: Vec<GuestPath>,
    /// Files that replace the image's, by the path inside: each a file of the host that must
    /// exist. `/etc/passwd` and the like are then not made.
    pub replace: BTreeMap<GuestPath, PathBuf>,
    /// Accounts besides root and the user's that the made `passwd` and `group` have.
    pub users: Vec<String>,
}

impl Default for EtcConfig {
    fn default() -> Self {
        let files = ["/etc/hosts", "/etc/resolv.conf", "/etc/localtime"];
        let copy = files.iter().filter_map(|file| GuestPath::parse(file).ok()).collect();
        Self { copy, replace: BTreeMap::new(), users: Vec::new() }
    }
}

/// `[[mount]]`: a host directory or file, looked up with root's rights.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteMount {
    /// The host's path.
    pub from: PathBuf,
    /// Where it appears inside; by default at the same path.
    #[serde(default)]
    pub to: Option<GuestPath>,
    /// Whether it can only be read inside.
    #[serde(default)]
    pub read_only: bool,
    /// Whether a node without it is fine.
    #[serde(default)]
    pub optional: bool,
    /// Whether what the host mounts or unmounts below it later changes inside too.
    #[serde(default = "yes")]
    pub slave: bool,
    /// Whether what is mounted below it comes along.
    #[serde(default = "yes")]
    pub recursive: bool,
}

fn yes() -> bool {
    true
}

impl SiteMount {
    /// Where it appears inside.
    pub fn target(&self) -> Result<GuestPath> {
        match &self.to {
            Some(to) => Ok(to.clone()),
            None => GuestPath::parse(&self.from.to_string_lossy()),
        }
    }
}

/// Changes to the environment: `[environment]`, `[modules.NAME.env]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvConfig {
    /// Variables of the job that do not get in, by name or by prefix and `*`
    /// (`[environment]` only).
    pub strip: Option<Vec<String>>,
    /// Variables to set.
    pub set: BTreeMap<String, String>,
    /// Text to put before a variable's value, with a colon between.
    pub prepend: BTreeMap<String, String>,
    /// Text to put after a variable's value, with a colon between.
    pub append: BTreeMap<String, String>,
    /// Variables to remove.
    pub unset: Vec<String>,
}
