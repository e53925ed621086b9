//! What a failure may do, for each hook in each context: the one table.
//!
//! Slurm's own consequences are far apart: the same -1 is a message in one hook, a drained node in
//! the next, and a slurmd that does not start in a third.

use super::Context;

/// A place where Slurm calls the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented as the methods of Plugin")]
pub enum Hook {
    Init,
    InitPostOpt,
    LocalUserInit,
    UserInit,
    TaskInitPrivileged,
    TaskInit,
    TaskPostFork,
    TaskExit,
    Exit,
    SlurmdExit,
    JobProlog,
    JobEpilog,
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Slurm is told -1 (never a positive number: up to 24.11 that means success).
    Return,
    /// Slurm is told 0; the failure is logged, and returned by the next hook that may.
    Keep,
    /// Slurm is told 0; the failure is logged. There is nobody left to fail.
    Log,
}

impl Hook {
    /// What a failure of this hook does.
    pub(super) fn fate(self, context: Context) -> Fate {
        match self {
            // A command: it cannot know yet whether the user asks for anything. slurmd: it would
            // not start. slurmstepd: a batch step's node would be drained.
            Hook::Init if context == Context::Slurmd => Fate::Log,
            Hook::Init => Fate::Keep,
            // The cheapest place for an error: the command exits 1 and nothing is queued.
            Hook::InitPostOpt if context.is_submission() => Fate::Return,
            Hook::LocalUserInit => Fate::Return,
            // slurmstepd: a batch step's node would be drained, and srun might exit 0 (user_init,
            // up to 23.02).
            Hook::InitPostOpt | Hook::UserInit | Hook::TaskPostFork => Fate::Keep,
            // The rank ends with status 1, the message is on the user's standard error, and the
            // node stays as it is.
            Hook::TaskInitPrivileged | Hook::TaskInit => Fate::Return,
            // Slurm itself only logs these.
            Hook::TaskExit | Hook::Exit | Hook::SlurmdExit => Fate::Log,
            // The node would be drained ("Prolog error", "Epilog error").
            Hook::JobProlog | Hook::JobEpilog => Fate::Log,
        }
    }

    /// Whether this runs inside a rank, so that all ranks of a node say the same.
    pub(super) fn is_in_a_rank(self) -> bool {
        matches!(self, Hook::TaskInitPrivileged | Hook::TaskInit)
    }

    /// Whether the plugin is called although something failed before: what was made must go.
    pub(super) fn is_cleanup(self) -> bool {
        matches!(self, Hook::Exit | Hook::SlurmdExit | Hook::JobEpilog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hook_that_drains_a_node_or_stops_slurmd_returns_a_failure() {
        let drains = [
            (Hook::Init, Context::Remote),
            (Hook::Init, Context::Slurmd),
            (Hook::InitPostOpt, Context::Remote),
            (Hook::UserInit, Context::Remote),
            (Hook::TaskPostFork, Context::Remote),
            (Hook::JobProlog, Context::JobScript),
            (Hook::JobEpilog, Context::JobScript),
        ];
        for (hook, context) in drains {
            assert_ne!(hook.fate(context), Fate::Return, "{hook:?} in {context:?}");
        }
    }

    #[test]
    fn what_is_kept_on_a_node_is_returned_before_the_command_runs() {
        assert_eq!(Hook::TaskInitPrivileged.fate(Context::Remote), Fate::Return);
    }

    #[test]
    fn what_is_kept_at_submission_is_returned_before_anything_is_queued() {
        for context in [Context::Local, Context::Allocator] {
            assert_eq!(Hook::InitPostOpt.fate(context), Fate::Return);
        }
    }
}
