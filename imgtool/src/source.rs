//! Where an image's manifest, configuration and layers come from.

pub(crate) mod decoded;
mod kept;
pub(crate) mod manifest;
mod origin;
pub(crate) mod stream;

pub(crate) use kept::{Keep, Kept};
pub(crate) use origin::{MAX_DOCUMENT, Source};
