//! What an image says of itself, read from inside it.

use std::fs::File;

use udi::{Error, ImageInfo, Result};

use crate::beneath;

/// Larger files are not ours.
const MAX_BYTES: u64 = 8 << 20;

fn broken() -> Error {
    Error::admin(format!("cannot read the image's {}", ImageInfo::PATH))
}

impl crate::Store {
    /// Reads `/.shifter/image.json` of the calling process's root, which is the image's.
    /// An image without one (not of our making) says nothing.
    pub fn info_inside() -> Result<ImageInfo> {
        let file = match File::open(ImageInfo::PATH) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(ImageInfo::default());
            }
            Err(error) => return Err(broken().because(error)),
        };
        Self::info_in(&file)
    }

    /// Reads what [`ImageInfo::PATH`] of an image says.
    pub fn info_in(file: &File) -> Result<ImageInfo> {
        let length = file.metadata().map_err(|e| broken().because(e))?.len();
        let bytes = beneath::content(file, length, MAX_BYTES).map_err(|e| broken().because(e))?;
        let bytes = bytes.ok_or_else(|| broken().because("larger than 8 MiB"))?;
        serde_json::from_slice(&bytes).map_err(|e| broken().because(e))
    }
}
