//! The only code that mounts, enters, pins and drops a UDI.
//!
//! A UDI is a mount namespace, and a mount namespace is a file descriptor: whoever holds it
//! or its pin keeps it, and when nobody does the kernel unmounts everything. So there is no
//! list of things to undo. A short-lived thread assembles it ([`Node::stage`]), the first
//! step of a job pins it below `/run/shifter/jobs`, ranks enter it ([`Udi::enter`]), and the
//! epilog drops the pin ([`Node::drop_job`]).

mod absent;
mod account;
mod assemble;
mod cache;
mod fault;
mod guest;
mod hook;
mod idmap;
mod image;
mod job;
mod kernel;
mod kind;
mod late;
mod layers;
mod loader;
mod local;
mod loopdev;
mod mountinfo;
mod namespace;
mod node;
mod open;
mod opened;
mod piece;
mod proc;
mod source;
mod sys;
mod targets;
mod udi;

pub use crate::account::{own_uid, own_user};
pub use crate::image::ImageFile;
pub use crate::job::{Dropped, Ids, JobKey};
pub use crate::kernel::check as check_kernel;
pub use crate::node::Node;
pub use crate::open::{as_account, open_image};
pub use crate::opened::{BaseFile, Opened};
pub use crate::udi::Udi;

/// Shared libraries as tests make them.
#[cfg(test)]
#[path = "../../core/src/elf/made.rs"]
mod made;
#[cfg(test)]
mod tests;
