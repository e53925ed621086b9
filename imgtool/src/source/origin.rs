//! What every place that images come from can do.

use std::sync::mpsc::SyncSender;

use udi::{Digest, Error, Result};

use super::manifest::Layer;

/// Larger manifests and configurations are refused by registries, too.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;

/// Something that has images in parts: a registry, an archive, a layout in a directory.
pub(crate) trait Source: Send + Sync + 'static {
    /// The manifest or index that `reference`, a tag or a digest, names.
    fn manifest(&self, reference: &str) -> Result<Vec<u8>>;

    /// A configuration. Whoever asks checks the digest.
    fn configuration(&self, digest: &Digest) -> Result<Vec<u8>>;

    /// Hands a layer's bytes to `to` as they are stored, then an empty piece; or an error.
    /// `progress` is told of each byte.
    fn fetch(&self, layer: &Layer, progress: &dyn Fn(u64), to: &SyncSender<Result<Vec<u8>>>);

    /// Whether everybody would be given the layer, and the caller is: asked before it is taken from
    /// where it was kept, or kept. Files are the caller's own.
    fn gives_everybody(&self, _layer: &Layer) -> bool {
        false
    }

    /// What came is not what `digest` names.
    fn wrong(&self, digest: &str) -> Error;

    /// What helps if the image is damaged.
    fn repair(&self) -> &'static str;
}
