//! job_submit: a plugin that sees every job before slurmctld queues it.

mod array;
mod boundary;
mod description;
mod export;
#[cfg(test)]
mod fake;
mod layout;
mod memory;
#[cfg(test)]
mod tests;

use std::ffi::c_int;

pub use description::{JobDescription, Text, Variables};

#[doc(hidden)]
pub use boundary::{Exported, modify, submit};

use crate::raw;

/// A job_submit plugin.
///
/// slurmctld calls it under its locks, since 23.02 from several threads at once: it must not wait
/// for anything that can take long, and must be [`Sync`].
#[allow(unused_variables, reason = "the defaults do nothing")]
pub trait JobSubmit: Default + Sync + Send + 'static {
    /// Whether the job asked for what the plugin does. Small and pure: if the plugin panics, a job
    /// that asked is rejected and any other passes. A panic in it counts as yes.
    fn asked_for(job: &JobDescription<'_>) -> bool;

    /// A job is submitted by `uid`. Some text is shown to the user, with the job accepted.
    ///
    /// # Errors
    /// The job is rejected; the user sees why.
    fn submit(&self, job: &mut JobDescription<'_>, uid: u32) -> Result<Option<String>, Rejection>;

    /// A job that is queued or runs is changed by `uid`; `job` has only what is changed.
    ///
    /// # Errors
    /// The change is rejected. Before 23.02 slurmctld passes no words on.
    fn modify(&self, job: &mut JobDescription<'_>, uid: u32) -> Result<Option<String>, Rejection> {
        Ok(None)
    }
}

/// Why a job is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    message: String,
    code: Code,
}

/// What the client prints behind the message, "Batch job submission failed: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// "Requested operation not supported on this system"
    NotSupported,
    /// "Access/permission denied"
    Denied,
    /// "Unspecified error"
    Unspecified,
}

impl Rejection {
    /// The request cannot be met as it stands; each line of `message` is shown behind the plugin's
    /// name.
    pub fn mistake(message: impl Into<String>) -> Rejection {
        Rejection { message: message.into(), code: Code::NotSupported }
    }

    /// The user may not have what is asked for.
    pub fn denied(message: impl Into<String>) -> Rejection {
        Rejection { message: message.into(), code: Code::Denied }
    }

    /// Nothing is wrong with the request: the site, or the plugin, is at fault.
    pub fn fault(message: impl Into<String>) -> Rejection {
        Rejection { message: message.into(), code: Code::Unspecified }
    }

    /// What is said to the user.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Slurm's number. None of these makes a client try again by itself.
    fn number(&self) -> c_int {
        let number = match self.code {
            Code::NotSupported => raw::ESLURM_NOT_SUPPORTED,
            Code::Denied => raw::ESLURM_ACCESS_DENIED,
            Code::Unspecified => return raw::SLURM_ERROR,
        };
        c_int::try_from(number).unwrap_or(raw::SLURM_ERROR)
    }
}
