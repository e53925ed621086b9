//! Slurm for Rust: what a plugin needs, without a line of unsafe code in the plugin.
//!
//! - [`spank`]: the [`Plugin`](spank::Plugin) trait and [`spank_plugin!`], for a plugin in srun,
//!   sbatch, salloc, slurmd and slurmstepd.
//! - [`job_submit`]: the [`JobSubmit`](job_submit::JobSubmit) trait and [`job_submit_plugin!`], for
//!   one in slurmctld.
//! - [`launcher`]: how slurmstepd runs a task's scripts.
//! - [`log`]: Slurm's log.
//! - [`running`] and [`BUILT_FOR`]: releases.
//!
//! All code that Slurm calls runs behind a boundary that no panic crosses, and that decides for
//! each hook what a failure may do.
#![allow(unsafe_code)] // this crate is where it lives

#[cfg(panic = "abort")]
compile_error!(
    "build with panic = \"unwind\": an abort in a plugin ends slurmctld, or leaves srun hanging"
);

#[doc(hidden)]
mod export;
pub mod job_submit;
pub mod launcher;
pub mod log;
pub mod process;
pub mod spank;

mod error;
mod panic;
mod raw;
mod symbol;
mod text;
mod version;

pub use error::{Error, ErrorKind};
pub use version::{BUILT_FOR, Version, running};

/// For the macros.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        export::{BUILT_FOR_TEXT, array, set_version},
        raw::{job_descriptor, spank_handle},
    };
}
