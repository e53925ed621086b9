//! SPANK: a plugin in srun, sbatch, salloc, slurmd and slurmstepd.

mod argv;
mod boundary;
mod environment;
mod export;
mod handle;
mod item;
mod option;
mod policy;

use std::fmt;

pub use boundary::Slot;
pub use handle::Spank;
pub use item::StepId;
pub use option::{Argument, Given, Opt, Origin, option_variable};
pub use policy::Hook;

#[doc(hidden)]
pub use boundary::{Exported, run_hook};

/// The program that loaded the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Context {
    /// srun, as the user.
    Local,
    /// sbatch or salloc, as the user.
    Allocator,
    /// slurmstepd on a node, as root.
    Remote,
    /// slurmd, as root.
    Slurmd,
    /// The short process that slurmd starts for `job_prolog` and `job_epilog`, as root. It shares
    /// no state with anything, and `init` is not called in it.
    JobScript,
    /// Slurm does not know, or a later release has another.
    Other,
}

impl Context {
    /// Whether this is a command that a user typed.
    pub fn is_submission(self) -> bool {
        matches!(self, Context::Local | Context::Allocator)
    }
}

/// A SPANK plugin: one method for each hook, all optional.
///
/// One value lives from `init` to the end of the process (in [`Context::JobScript`] for the one
/// hook only). [`spank_plugin!`](crate::spank_plugin) says which hooks Slurm gets to see; a method
/// that is not listed there is never called.
///
/// What an error does is decided by the boundary, for every hook and context (`policy.rs`): it
/// never drains a node. It is *returned* (the command exits 1, the rank fails) in a submission's
/// `init_post_opt` and `local_user_init` and in `task_init_privileged` and `task_init`. In the
/// other hooks on a node, and in `init`, it is *kept*: logged, remembered, and after it no hook but
/// `exit` reaches the plugin; if [`asked_for`](Plugin::asked_for) says so, it is returned at the
/// next hook that may return it. A panic is treated like an error in words of its own, except that
/// it is never returned for a job that did not ask.
#[allow(unused_variables, reason = "the defaults do nothing")]
pub trait Plugin: Default + Send + 'static {
    /// Why a hook failed, in the words that are shown and logged: each line behind the plugin's
    /// name. An error that displays as nothing is silent.
    type Error: fmt::Display;

    /// The options that srun, sbatch and salloc show in `--help`. They are registered before
    /// [`init`](Plugin::init).
    const OPTIONS: &'static [Opt] = &[];

    /// Whether an option of [`OPTIONS`](Plugin::OPTIONS) is there at all: asked before `init`, in
    /// every command and step, so it must be small and never fail.
    fn offers(spank: &Spank<'_>, option: &'static Opt) -> bool {
        true
    }

    /// Whether this job or step asked for what the plugin does. Must be small and pure: it is what
    /// the boundary relies on when the plugin itself has panicked. A panic in it counts as yes.
    fn asked_for(spank: &Spank<'_>, given: &Given) -> bool;

    /// An option was given: on the command line or in the environment of a command, or in a step's
    /// launch message or environment on the node. Called for each occurrence, possibly more than
    /// once for one, so it must be idempotent; Slurm passes no handle here and forwards only the
    /// last occurrence to the node. An error at submission becomes "Invalid --name argument".
    fn option(
        &mut self,
        option: &'static Opt,
        value: Option<&str>,
        origin: Origin,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// All contexts but [`Context::JobScript`]: the plugin was loaded.
    fn init(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Submission and [`Context::Remote`]: all options are known.
    fn init_post_opt(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::Local`]: srun has its step, and knows job and step id.
    fn local_user_init(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::Remote`]: as the user (effective), once on each node of a step.
    fn user_init(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::Remote`]: in each rank, just forked, single-threaded, still root.
    fn task_init_privileged(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::Remote`]: in each rank, as the user, before the command is executed.
    fn task_init(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::Remote`]: in slurmstepd, root, after each rank was forked.
    fn task_post_fork(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::Remote`]: in slurmstepd, root, after each rank ended.
    fn task_exit(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Submission and [`Context::Remote`]: the end. Not called when the step failed early or
    /// slurmstepd was killed.
    fn exit(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::Slurmd`]: slurmd stops.
    fn slurmd_exit(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::JobScript`]: before the job's first step on this node. Exporting it makes slurmd
    /// start a process for every job.
    fn job_prolog(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// [`Context::JobScript`]: after the job's last process on this node. Exporting it makes slurmd
    /// start a process for every job.
    fn job_epilog(&mut self, spank: &mut Spank<'_>) -> Result<(), Self::Error> {
        Ok(())
    }
}
