//! What only a job may have.

use udi::{Blame, Error, GuestPath, Mount, Result, Source};

/// A volume that the host does not have, or has no place for: a job may, in directories of its
/// own (see [`crate::late`]). Until then it is an error, and an empty directory inside.
#[derive(Debug)]
pub(crate) struct Absent {
    target: GuestPath,
    what: String,
    hint: String,
}

impl Absent {
    /// What the user did wrong, if it is nobody's own; any other error is one at once.
    pub(crate) fn new(mount: &Mount, error: Error) -> Result<Self> {
        let may_be_own = mount.is_users() && matches!(mount.source, Source::Host(_));
        if !may_be_own || error.blame() != Blame::User {
            return Err(error);
        }
        let hint = error.next_steps().concat();
        let hint = hint.strip_prefix("hint: ").unwrap_or(&hint).to_owned();
        Ok(Self { target: mount.target.clone(), what: error.what(), hint })
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, mount: &Mount) -> bool {
        self.target == mount.target
    }

    /// The error that it is, unless the job has it.
    pub(crate) fn error(&self) -> Error {
        Error::user(&self.what).hint(&self.hint)
    }
}
