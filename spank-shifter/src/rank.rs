//! In a rank: entering the image while it is still root, and what it finds there as the user.

use slurm::spank::Spank;
use udi::{Error, Result};

use crate::remote::Where;
use crate::{debug_panic, options, slurm_refused};

/// Takes the rank into the image. What Slurm does next (working directory, becoming the user,
/// finding and executing the command) then happens inside.
pub(crate) fn enter(spank: &Spank<'_>, runs: &Where) -> Result<()> {
    match runs {
        Where::Inside(staged) => {
            debug_panic(&staged.site, "enter");
            staged.udi.enter()
        }
        Where::Host => Ok(()),
        // Never on the host because something was forgotten.
        Where::Undecided if options::asked_for(spank, &slurm::spank::Given::default()) => {
            Err(Error::bug("the image was not staged"))
        }
        Where::Undecided => Ok(()),
    }
}

/// What a rank does inside, as the user, before its command: it gets its environment, goes where it
/// starts, and lets the modules' programs run.
pub(crate) fn start(spank: &mut Spank<'_>, runs: &Where) -> Result<()> {
    let Where::Inside(staged) = runs else { return Ok(()) };
    debug_panic(&staged.site, "environment");
    staged.inside.apply(spank)?;
    match &staged.hooks {
        Some(hooks) => hooks.run(&spank.job_environment().map_err(slurm_refused)?),
        None => Ok(()),
    }
}
