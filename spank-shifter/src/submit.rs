//! In srun, sbatch and salloc, as the user: options become a request, the request is checked
//! and pinned to a digest, and the job's environment carries it. A mistake found here costs
//! nobody anything.

use std::path::{Path, PathBuf};

use slurm::spank::{Context, Spank, option_variable};
use udi::{Ask, Blame, Config, Digest, Error, ImageRef, Request, Result, Texts, Word};
use udi_store::{Store, provenance};

use crate::defaults::{asked, defaults, told_where_from};
use crate::inside::{RUNTIME, SAID_INSIDE};
use crate::options::{self, Options};
use crate::{component, dry_run, slurm_refused};

/// Set in a step's environment when its request is not its job's.
pub(crate) const VAR_STEP: &str = "SLURM_SHIFTER_STEP";

/// Keeps Slurm from repeating the surrounding job's options as if they had been typed again.
///
/// srun inherits the job's request from our own variables, option by option. A nested sbatch
/// or salloc is a new job and inherits nothing. What we said of the image that this command
/// itself runs in is nobody's default. Gives whether it runs in one.
pub(crate) fn forget_the_jobs_options(spank: &mut Spank<'_>) -> Result<bool> {
    for option in options::ALL {
        let name = option_variable("shifter", option.name);
        for name in [format!("SLURM_SPANK_{name}"), name] {
            spank.unsetenv(&name).map_err(slurm_refused)?;
        }
    }
    for word in Word::ALL {
        let name = format!("SLURM_SPANK_{}", word.short_variable());
        spank.unsetenv(name).map_err(slurm_refused)?;
    }
    let runs_inside =
        spank.getenv_os(RUNTIME).map_err(slurm_refused)?.is_some_and(|says| says == "1");
    if runs_inside {
        for name in SAID_INSIDE {
            spank.unsetenv(name).map_err(slurm_refused)?;
        }
    }
    if spank.context() == Context::Allocator && in_a_job(spank)? {
        forget_the_request(spank)?;
    }
    Ok(runs_inside)
}

/// Keeps salloc and sbatch from repeating a component's options as if the next one had typed them:
/// they put what slurmctld is told of one into their environment, and read options from there.
///
/// Our own words say more than they: Slurm has the last occurrence of each alone.
pub(crate) fn forget_the_components_options(spank: &mut Spank<'_>) -> Result<()> {
    for option in options::ALL {
        let name = option_variable("shifter", option.name);
        spank.job_control_unsetenv(&name).map_err(slurm_refused)?;
    }
    Ok(())
}

fn in_a_job(spank: &Spank<'_>) -> Result<bool> {
    Ok(spank.getenv_os("SLURM_JOB_ID").map_err(slurm_refused)?.is_some())
}

fn forget_the_request(spank: &mut Spank<'_>) -> Result<()> {
    let more = [VAR_STEP, provenance::VARIABLE];
    for name in Word::ALL.map(Word::variable).into_iter().chain(more) {
        spank.unsetenv(name).map_err(slurm_refused)?;
    }
    component::forget(spank)
}

/// What a command asked for, kept for the further components of a heterogeneous job or step:
/// Slurm calls for each of them, and they all share the command's environment.
#[derive(Debug)]
pub(crate) struct Submitted {
    given: Options,
    outcome: Outcome,
    /// The number of the component that was asked about last.
    component: u32,
}

#[derive(Debug)]
enum Outcome {
    /// Nothing new: whatever the job asked for.
    AsJob,
    Host,
    Image {
        request: Box<Request>,
        /// As the environment carries it.
        texts: Box<Texts>,
        /// What its modules are now, as [`provenance::definitions`] says it.
        modules: String,
        /// Whether it is not what the job asked for.
        of_step: bool,
    },
}

/// Checks what was asked for and puts it into the environment of job or step.
pub(crate) fn submit(spank: &mut Spank<'_>, given: Options) -> Result<Submitted> {
    given.check_named()?;
    let outcome = check(spank, &given)?;
    outcome.act(spank, &given)?;
    Ok(Submitted { given, outcome, component: 0 })
}

impl Submitted {
    /// For a further component, which may repeat the first one's request, or have its own where the environment can
    /// carry it to its nodes.
    pub(crate) fn again(&mut self, spank: &mut Spank<'_>, given: Options) -> Result<()> {
        self.component += 1;
        given.check_named()?;
        let Some((word, value)) = given.not_in(&self.given) else {
            // Only what slurmctld is told is each component's own.
            return match &self.outcome {
                outcome if given.dry_run => outcome.act(spank, &given),
                Outcome::Image { texts, of_step: false, .. } => record(spank, texts),
                Outcome::Host => record(spank, &Texts::of("none", "", "")),
                Outcome::Image { .. } | Outcome::AsJob => Ok(()),
            };
        };
        if let Some(instead) = has_one_request(spank)? {
            let name = word.option();
            return Err(Error::user(format!(
                "--{name}={value}: all components have one request here, that of the first"
            ))
            .hint(format!("move --{name} before the first colon, or {instead}")));
        }
        if matches!(self.outcome, Outcome::AsJob) {
            // Else its nodes would take the options for theirs, of which Slurm forwards the last.
            host(spank)?;
            self.outcome = Outcome::Host;
        }
        let outcome = check(spank, &given)?;
        let texts = match &outcome {
            _ if given.dry_run => return outcome.act(spank, &given),
            Outcome::Image { texts, .. } => texts.clone(),
            Outcome::AsJob | Outcome::Host => Texts::of("none", "", "").into(),
        };
        component::write(spank, self.component, &texts)?;
        record(spank, &texts)
    }
}

/// What to do instead where components cannot differ: a batch script has the environment of its first component
/// alone, and in a job nothing tells srun's plugins which component is which.
fn has_one_request(spank: &Spank<'_>) -> Result<Option<&'static str>> {
    Ok(match spank.context() {
        Context::Local if in_a_job(spank)? => Some("start another srun for it, with --het-group"),
        Context::Allocator if !is_salloc() => {
            Some("name it in the script: srun --het-group=1 --image=…")
        }
        _ => None,
    })
}

fn check(spank: &Spank<'_>, given: &Options) -> Result<Outcome> {
    let context = spank.context();
    if given.texts.get(Word::Batch).is_some() {
        has_batch_script(context)?;
    }
    let mut of_job = options::of_environment(spank)?;
    // A nested sbatch is a new job.
    let in_a_job = context == Context::Local && in_a_job(spank)?;
    if in_a_job && !given.texts.is_empty() && component::differ() {
        // Nobody can say which component's request a step of its own would complete.
        of_job = Texts::default();
    }
    if context == Context::Local {
        // Where its job's script runs is decided.
        of_job.set(Word::Batch, None);
    }
    let of_user = match of_job.text(Word::Image) {
        "" | "none" => defaults(spank)?,
        // What a job has asked for is all that its steps have, unless they say otherwise.
        _ if in_a_job => Texts::default(),
        _ => defaults(spank)?,
    };
    let asked = asked(given.texts.clone(), &of_job, &of_user);
    if asked == of_job && !given.dry_run && (asked.is_empty() || in_a_job) {
        // Nothing new: the job's request was checked when it was submitted, and will be again
        // on the node.
        return Ok(Outcome::AsJob);
    }
    let site = udi_store::site::load(Path::new(Config::PATH))?;
    crate::debug_panic(&site, "submit");
    let told = |error| told_where_from(error, &asked, &given.texts, (&of_job, in_a_job));
    Ok(match Request::parse(&asked, &site).map_err(told)? {
        Ask::Nothing if given.dry_run => {
            return Err(Error::user("--image-dry-run needs an image").hint("add --image=NAME:TAG"));
        }
        Ask::Nothing => Outcome::AsJob,
        Ask::Host => Outcome::Host,
        Ask::Image(request) => {
            let request = pin(asked.text(Word::Image), &request, &site).map_err(told)?;
            let same_as_job = matches!(
                Request::parse(&of_job, &site),
                Ok(Ask::Image(of_job)) if of_job.identity() == request.identity()
            );
            let mut texts = request.to_texts();
            if request.batch_enters(&site) {
                // What is written down the node can rely on, whatever happens to it meanwhile.
                texts.set(Word::Batch, Some("1".into()));
            }
            let modules = provenance::definitions(&request.modules(&site)?);
            let of_step = in_a_job && !same_as_job;
            Outcome::Image { request: request.into(), texts: texts.into(), modules, of_step }
        }
    })
}

/// Whether the command starts a script that could run inside.
fn has_batch_script(context: Context) -> Result<()> {
    match context {
        Context::Local => Err(Error::user("--image-batch: srun has no batch script")
            .hint("leave it out: what srun starts runs inside anyway")),
        _ if is_salloc() => Err(Error::user("--image-batch: salloc has no batch script")
            .hint("leave it out, and start programs in the image by srun")),
        _ => Ok(()),
    }
}

/// Slurm tells a plugin no more than whether a command allocates: so do sbatch and salloc.
///
/// Where one brings its own loader (our module `slurm` does), that is the program that runs.
fn is_salloc() -> bool {
    let typed = std::env::args_os().next().map(PathBuf::from);
    let mut paths = typed.into_iter().chain(std::env::current_exe().ok());
    paths.any(|path| path.file_name() == Some("salloc".as_ref()))
}

impl Outcome {
    fn act(&self, spank: &mut Spank<'_>, given: &Options) -> Result<()> {
        if given.dry_run {
            let request = match self {
                Outcome::Image { request, texts, .. } => Some((&**request, &**texts)),
                Outcome::Host | Outcome::AsJob => None,
            };
            return dry_run::show(spank, request);
        }
        match self {
            Outcome::AsJob => Ok(()),
            Outcome::Host => host(spank),
            Outcome::Image { texts, modules, of_step, .. } => {
                write(spank, texts, *of_step)?;
                match modules.as_str() {
                    "" => Ok(()),
                    modules => spank.setenv(provenance::VARIABLE, modules).map_err(slurm_refused),
                }
            }
        }
    }
}

/// `--image=none`. Said, not left out: the job, or the user's default, may name an image.
fn host(spank: &mut Spank<'_>) -> Result<()> {
    forget_the_request(spank)?;
    spank.setenv(Word::Image.variable(), "none").map_err(slurm_refused)
}

/// Finds the images in the store, with the user's own rights, and pins the request to their
/// digests: later pulls of the names change nothing for this job. A `local:` image is the node's.
fn pin(typed: &str, request: &Request, site: &Config) -> Result<Request> {
    let is_local = matches!(request.image(), ImageRef::Local(_));
    if is_local && request.data_images().next().is_none() {
        return Ok(request.clone());
    }
    let store = Store::open(&site.store)?;
    let pinned = match is_local {
        true => request.clone(),
        false => request.pinned(&find(&store, "--image=", typed, request.image(), site)?),
    };
    pinned.data_pinned(|volume, image| {
        find(&store, &format!("--volume={volume}: "), &image.to_string(), image, site)
    })
}

fn find(
    store: &Store,
    about: &str,
    typed: &str,
    image: &ImageRef,
    site: &Config,
) -> Result<Digest> {
    let uid = udi_mount::own_uid();
    let told = |error: Error| match error.blame() {
        Blame::User => error.about(about),
        _ => error,
    };
    let digest = store.resolve_as(typed, image, &site.images.platform, uid).map_err(told)?;
    store.open_image(&digest).map_err(|error| match error.blame() {
        // Not there, or another user's: the same words for both.
        Blame::User => told(Error::user(format!("{typed}: no such image in the store")))
            .hint("shifterimg images lists those that you can use"),
        _ => error,
    })?;
    Ok(digest)
}

fn write(spank: &mut Spank<'_>, texts: &Texts, of_step: bool) -> Result<()> {
    forget_the_request(spank)?;
    for (word, value) in texts.given() {
        spank.setenv(word.variable(), value).map_err(slurm_refused)?;
    }
    if of_step {
        return spank.setenv(VAR_STEP, "own").map_err(slurm_refused);
    }
    record(spank, texts)
}

/// Leaves a request for slurmctld, Prolog and Epilog, in the place of that of the component before.
fn record(spank: &mut Spank<'_>, texts: &Texts) -> Result<()> {
    for word in Word::ALL {
        let name = word.short_variable();
        match texts.get(word) {
            Some(value) => spank.job_control_setenv(name, value),
            None => spank.job_control_unsetenv(name),
        }
        .map_err(|error| {
            Error::bug(format!("cannot record --{} for slurmctld", word.option())).because(error)
        })?;
    }
    Ok(())
}
