//! The SPANK plugin: every rank of a job wakes up inside its image.
//!
//! One file for each place where Slurm loads us: a command ([`submit`]), slurmstepd
//! ([`remote`]), a rank ([`rank`]), slurmd and the epilog ([`node`]). What a failure may do in
//! each hook is not decided here but in `slurm`'s one table.
#![forbid(unsafe_code)]

mod component;
mod defaults;
mod dry_run;
mod entrypoint;
mod inside;
mod mpirun;
mod node;
mod options;
mod pyxis;
mod rank;
mod remote;
mod submit;

use slurm::spank::{Context, Given, Opt, Origin, Plugin, Spank, StepId};
use udi::Result;

use crate::options::Options;
use crate::remote::Where;
use crate::submit::Submitted;

/// What lives between the hooks of one process.
#[derive(Debug, Default)]
struct Shifter {
    options: Options,
    /// Whether this is a command that was started in an image.
    runs_inside: bool,
    submitted: Option<Submitted>,
    runs: Where,
}

slurm::spank_plugin!(
    name = "shifter",
    type = Shifter,
    hooks = [init, init_post_opt, task_init_privileged, task_init, exit, job_epilog]
);

impl Plugin for Shifter {
    type Error = udi::Error;

    const OPTIONS: &'static [Opt] = options::ALL;

    fn offers(spank: &Spank<'_>, option: &'static Opt) -> bool {
        pyxis::offers(spank, option)
    }

    fn asked_for(spank: &Spank<'_>, given: &Given) -> bool {
        options::asked_for(spank, given)
    }

    fn option(&mut self, option: &'static Opt, value: Option<&str>, _: Origin) -> Result<()> {
        self.options.take(option.name, value.unwrap_or_default())
    }

    fn init(&mut self, spank: &mut Spank<'_>) -> Result<()> {
        match spank.context() {
            Context::Local | Context::Allocator => {
                self.runs_inside = submit::forget_the_jobs_options(spank)?;
            }
            Context::Slurmd => node::start()?,
            _ => {}
        }
        pyxis::check_arguments(spank)
    }

    fn init_post_opt(&mut self, spank: &mut Spank<'_>) -> Result<()> {
        match spank.context() {
            Context::Local | Context::Allocator => {
                let given = std::mem::take(&mut self.options);
                if spank.context() == Context::Local && !self.runs_inside {
                    // What is in the same image finds there what it needs.
                    mpirun::refuse(&given.texts, &options::of_environment(spank)?)?;
                }
                match &mut self.submitted {
                    None => self.submitted = Some(submit::submit(spank, given)?),
                    Some(first) => first.again(spank, given)?,
                }
                submit::forget_the_components_options(spank)
            }
            Context::Remote => {
                self.runs = remote::stage(spank, &self.options)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn task_init_privileged(&mut self, spank: &mut Spank<'_>) -> Result<()> {
        rank::enter(spank, &self.runs)
    }

    fn task_init(&mut self, spank: &mut Spank<'_>) -> Result<()> {
        rank::start(spank, &self.runs)
    }

    fn exit(&mut self, spank: &mut Spank<'_>) -> Result<()> {
        match (spank.context(), spank.step_id()) {
            (Context::Remote, Ok(StepId::Extern)) => node::end_of_extern_step(spank),
            _ => Ok(()),
        }
    }

    fn job_epilog(&mut self, spank: &mut Spank<'_>) -> Result<()> {
        node::end_of_job(spank)
    }
}

/// Where Slurm refused something it always grants: our fault, not the user's.
fn slurm_refused(error: slurm::Error) -> udi::Error {
    udi::Error::bug("Slurm refused").because(error)
}

/// For tests of failure: panics if the site's configuration says so for this place.
fn debug_panic(site: &udi::Config, place: &str) {
    if site.node.debug_panic == place {
        panic!("planted in {place} by node.debug_panic");
    }
}
