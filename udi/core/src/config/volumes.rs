//! What users may mount.

use serde::Deserialize;
use std::path::PathBuf;

use crate::{CacheFs, GuestPath, Size};

/// `[volumes]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumesConfig {
    /// Whether users may mount anything.
    pub allowed: bool,
    /// Host directories whose content users may mount.
    pub from: Vec<GuestPath>,
    /// Host directories whose content users may not mount.
    pub not_from: Vec<GuestPath>,
    /// Directories inside at or below which volumes may appear.
    pub to: Vec<GuestPath>,
    /// Places inside, besides the built-in ones, that volumes may not cover.
    pub protected: Vec<GuestPath>,
    /// Variables of the job's environment that FROM may name as `$NAME`: names, or a prefix
    /// and `*`.
    pub variables: Vec<String>,
}

impl Default for VolumesConfig {
    fn default() -> Self {
        Self {
            allowed: true,
            from: GuestPath::parse("/").into_iter().collect(),
            not_from: Vec::new(),
            to: GuestPath::parse("/").into_iter().collect(),
            protected: Vec::new(),
            variables: Vec::new(),
        }
    }
}

impl VolumesConfig {
    /// Whether FROM may name the variable.
    pub fn has_variable(&self, name: &str) -> bool {
        self.variables.iter().any(|pattern| crate::env::matches(pattern, name.as_bytes()))
    }
}

/// `[cache]`: per-node caches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Where their files are: directories that the store's owner has for itself (0700), on
    /// any file system. None: no caches.
    pub directories: Vec<PathBuf>,
    /// The file system in a cache, if the user names none.
    pub fs: CacheFs,
    /// The largest cache.
    pub max: Size,
    /// The most that a user may have on a node at a time.
    pub max_user: Size,
    /// The most that a node may have at a time.
    pub max_node: Size,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let tib = |n: u64| Size::from_bytes(n << 40);
        let (max, max_user, max_node) = (tib(1), tib(2), tib(8));
        Self { directories: Vec::new(), fs: CacheFs::Xfs, max, max_user, max_node }
    }
}

/// `[limits]`: of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// How many volumes.
    pub volumes: usize,
    /// The largest tmpfs, of a volume or of `--image-writable`.
    pub tmpfs: Size,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { volumes: 64, tmpfs: Size::from_bytes(16 << 30) }
    }
}
