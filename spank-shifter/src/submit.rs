//! In srun, sbatch and salloc, as the user: options become a request, the request is checked
//! and pinned to a digest, and the job's environment carries it. A mistake found here costs
//! nobody anything.

use std::path::Path;

use slurm::spank::{Context, Spank};
use udi::{Ask, Blame, Config, Error, Request, Result, Word};
use udi_store::Store;

use crate::options::Options;
use crate::slurm_refused;

/// Set in a step's environment when its request is not its job's.
pub(crate) const VAR_STEP: &str = "SLURM_SHIFTER_STEP";

/// Keeps Slurm from repeating the surrounding job's options as if they had been typed again.
///
/// srun inherits the job's request from our own variables, option by option. A nested sbatch
/// or salloc is a new job and inherits nothing.
pub(crate) fn forget_the_jobs_options(spank: &mut Spank<'_>) -> Result<()> {
    for option in crate::options::ALL {
        let name = format!("_SLURM_SPANK_OPTION_shifter_{}", option.name);
        for name in [format!("SLURM_SPANK_{name}"), name] {
            spank.unsetenv(&name).map_err(slurm_refused)?;
        }
    }
    for word in Word::ALL {
        spank.unsetenv(&format!("SLURM_SPANK_{}", word.short_variable())).map_err(slurm_refused)?;
    }
    if spank.context() == Context::Allocator && in_a_job(spank)? {
        forget_the_request(spank)?;
    }
    Ok(())
}

fn in_a_job(spank: &Spank<'_>) -> Result<bool> {
    Ok(spank.getenv_os("SLURM_JOB_ID").map_err(slurm_refused)?.is_some())
}

fn forget_the_request(spank: &mut Spank<'_>) -> Result<()> {
    for name in Word::ALL.map(Word::variable).into_iter().chain([VAR_STEP]) {
        spank.unsetenv(name).map_err(slurm_refused)?;
    }
    Ok(())
}

/// What a command asked for, kept for the further components of a heterogeneous job or step:
/// Slurm calls for each of them, and they all share the command's environment.
#[derive(Debug)]
pub(crate) struct Submitted {
    given: Options,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// Nothing new: whatever the job asked for.
    AsJob,
    Host,
    Image {
        request: Request,
        /// Whether it is not what the job asked for.
        of_step: bool,
    },
}

/// Checks what was asked for and puts it into the environment of job or step.
pub(crate) fn submit(spank: &mut Spank<'_>, given: Options) -> Result<Submitted> {
    given.check_named()?;
    let outcome = check(spank, &given)?;
    outcome.write(spank)?;
    Ok(Submitted { given, outcome })
}

impl Submitted {
    /// For a further component: what it repeats is fine, anything else is refused, for there is
    /// no environment of its own to carry it.
    pub(crate) fn again(&self, spank: &mut Spank<'_>, given: &Options) -> Result<()> {
        given.check_named()?;
        if let Some((name, value)) = given.not_in(&self.given) {
            return Err(Error::user(format!(
                "--{name}={value}: all components of a heterogeneous job or step have one request, \
                 that of the first"
            ))
            .hint(format!(
                "move --{name} before the first colon; for another image, start another srun"
            )));
        }
        self.outcome.write(spank)
    }
}

fn check(spank: &Spank<'_>, given: &Options) -> Result<Outcome> {
    let job = Options::of_environment(spank)?;
    if given.is_empty() && (job.is_empty() || in_a_job(spank)?) {
        // Nothing new: the job's request was checked when it was submitted, and will be again
        // on the node.
        return Ok(Outcome::AsJob);
    }
    let site = udi_store::site::load(Path::new(Config::PATH))?;
    crate::debug_panic(&site, "submit");
    let step = given.clone().or(job.clone());
    Ok(match step.parse(&site)? {
        Ask::Nothing => Outcome::AsJob,
        Ask::Host => Outcome::Host,
        Ask::Image(request) => {
            let request = pin(step.image.as_deref().unwrap_or_default(), &request, &site)?;
            let same_as_job = matches!(
                job.parse(&site), Ok(Ask::Image(of_job)) if of_job.identity() == request.identity()
            );
            let of_step = in_a_job(spank)? && !same_as_job;
            Outcome::Image { request, of_step }
        }
    })
}

impl Outcome {
    fn write(&self, spank: &mut Spank<'_>) -> Result<()> {
        match self {
            Outcome::AsJob => Ok(()),
            Outcome::Host => host(spank),
            Outcome::Image { request, of_step } => write(spank, request, *of_step),
        }
    }
}

/// `--image=none`.
fn host(spank: &mut Spank<'_>) -> Result<()> {
    forget_the_request(spank)?;
    if spank.context() == Context::Local {
        // The job may have an image; this step has none.
        spank.setenv(Word::Image.variable(), "none").map_err(slurm_refused)?;
    }
    Ok(())
}

/// Finds the image in the store, with the user's own rights, and pins the request to its
/// digest: later pulls of the name change nothing for this job.
fn pin(typed: &str, request: &Request, site: &Config) -> Result<Request> {
    let store = Store::open(&site.store)?;
    let uid = udi_mount::own_uid();
    let digest =
        store.resolve_as(typed, request.image(), &site.images.platform, uid).map_err(|error| {
            if error.blame() == Blame::User { error.about("--image=") } else { error }
        })?;
    store.open_image(&digest).map_err(|error| match error.blame() {
        // Not there, or another user's: the same words for both.
        Blame::User => Error::user(format!("--image={typed}: no such image in the store"))
            .hint("shifterimg images lists those that you can use"),
        _ => error,
    })?;
    Ok(request.pinned(&digest))
}

fn write(spank: &mut Spank<'_>, request: &Request, of_step: bool) -> Result<()> {
    let texts = request.to_texts();
    for (word, value) in texts.given() {
        spank.setenv(word.variable(), value).map_err(slurm_refused)?;
    }
    if of_step {
        return spank.setenv(VAR_STEP, "own").map_err(slurm_refused);
    }
    spank.unsetenv(VAR_STEP).map_err(slurm_refused)?;
    for (word, value) in texts.given() {
        spank.job_control_setenv(word.short_variable(), value).map_err(|error| {
            Error::bug(format!("cannot record --{} for slurmctld", word.option())).because(error)
        })?;
    }
    Ok(())
}
