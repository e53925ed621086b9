//! Layers: reading their archives, and what they make together.

pub(crate) mod archive;
pub(crate) mod extras;
pub(crate) mod filter;
pub(crate) mod merge;
pub(crate) mod meter;
pub(crate) mod pax;
pub(crate) mod record;
pub(crate) mod sparse;
