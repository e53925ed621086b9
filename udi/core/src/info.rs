//! What an image says of itself: `/.shifter/image.json` inside it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::Digest;

/// Written into the image by the import; only what follows from the manifest, so that the
/// same digest always packs to the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageInfo {
    /// The platform manifest's digest.
    pub digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Environment as `NAME=VALUE`, in the image's order.
    pub env: Vec<String>,
    /// The image's entrypoint; not run unless asked for.
    pub entrypoint: Vec<String>,
    /// The image's default command; not run unless asked for.
    pub cmd: Vec<String>,
    /// The image's working directory, empty if it names none.
    pub workdir: String,
    /// The account the image would run as elsewhere; here it is always the user.
    pub user: String,
    /// The image's labels.
    pub labels: BTreeMap<String, String>,
    /// The layers' digests, base first.
    pub layers: Vec<Digest>,
}

impl ImageInfo {
    /// Where it stands inside the image.
    pub const PATH: &str = "/.shifter/image.json";

    /// The environment as pairs; an entry without `=`, or with a NUL byte, is no variable.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.env.iter().filter_map(|entry| entry.split_once('='));
        pairs.filter(|(name, value)| {
            !name.is_empty() && !name.contains('\0') && !value.contains('\0')
        })
    }
}
