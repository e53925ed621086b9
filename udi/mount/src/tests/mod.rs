//! Promises about real mounts, as root, each in a mount namespace of its own.
//!
//! `cargo test -p udi-mount -- --ignored` runs them; testbed/kernels runs the same binary on
//! old and new kernels, and with the feature `guest` those that need what is made there.

mod cache;
mod formats;
mod hooks;
mod hostile;
mod inside;
mod jobs_files;
mod jobs_own;
mod libraries;
mod life;
#[cfg(any(feature = "guest", clippy))]
mod nfs;
mod own;
mod place;
mod race;
mod sources;
mod strange_roots;
pub(crate) mod world;
mod writable;
