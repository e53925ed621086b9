//! The image store: immutable files on the shared file system, and names for them.
//!
//! Looking up needs no lock, no list of a directory, and as many opens as the answer has
//! parts; it happens with the calling thread's rights, which is the access check. Writing is
//! for the store's owner: see [`publish`].
//!
//! ```text
//! refs/REGISTRY/REPOSITORY/:TAG    what a name means: per platform a digest, when, by whom
//! refs/.private/UID/…              the same for what only UID may see
//! manifests/AA/DIGEST              what a digest is packed as, and what the image says of itself
//! images/AA/FILE.FORMAT            immutable; FILE is the sha256 of the bytes
//! layers/AA/DIGEST                 layers as registries have them: a cache
//! leases/  tmp/                    writers at work
//! ```
#![forbid(unsafe_code)]

mod acl;
mod beneath;
mod info;
mod layers;
mod manifest;
pub mod provenance;
pub mod publish;
mod reference;
pub mod site;
mod store;

pub use acl::{Access, Principal};
pub use layers::Layers;
pub use manifest::{Manifest, Packed, Unreadable, packing};
pub use reference::{Entry, Reference};
pub use store::{Located, Store};
