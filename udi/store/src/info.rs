//! What an image says of itself, read from inside it.

use std::os::fd::AsFd;

use rustix::io::Errno;
use udi::{Error, ImageInfo, Result};

use crate::beneath;

/// Larger files are not ours.
const MAX_BYTES: u64 = 8 << 20;

impl crate::Store {
    /// Reads `/.shifter/image.json` of the image whose root directory `root` is. An image without
    /// one (not of our making) says nothing.
    ///
    /// Root reads it, and where an image can be written its user may have put anything there: no
    /// link is followed, and only a plain file is read.
    pub fn info_below(root: impl AsFd) -> Result<ImageInfo> {
        let broken = || Error::admin(format!("cannot read the image's {}", ImageInfo::PATH));
        let bytes = match beneath::read(root, &ImageInfo::PATH[1..], MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(Errno::NOENT) => return Ok(ImageInfo::default()),
            Err(errno) => return Err(broken().because(errno)),
        };
        serde_json::from_slice(&bytes).map_err(|e| broken().because(e))
    }
}
