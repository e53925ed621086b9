//! In slurmstepd, as root, before tasks fork: the step's UDI is found or staged.
//!
//! Everything is parsed and checked again from the environment, which is the user's to edit.

use std::collections::BTreeMap;
use std::path::Path;

use slurm::log;
use slurm::spank::Spank;
use udi::{Ask, Base, Config, Error, Facts, ImageRef, Plan, Request, Result, Word};
use udi_mount::{Ids, JobKey, Node, Opened, Udi, UserHooks};
use udi_store::provenance;

use crate::component;
use crate::inside::Inside;
use crate::options::{self, Kind, Options};
use crate::submit::VAR_STEP;
use crate::{debug_panic, slurm_refused};

/// A UDI, and what its ranks must know.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) udi: Udi,
    pub(crate) inside: Inside,
    pub(crate) site: Config,
    /// What the modules run inside, if anything.
    pub(crate) hooks: Option<UserHooks>,
}

/// Where a step's commands run.
#[derive(Debug, Default)]
pub(crate) enum Where {
    /// Nobody has decided that: something failed.
    #[default]
    Undecided,
    /// On the host: no image was asked for, or not for this step.
    Host,
    Inside(Box<Staged>),
}

/// Finds or stages the UDI of a step that has one.
pub(crate) fn stage(spank: &Spank<'_>, given: &Options) -> Result<Where> {
    let kind = options::kind(spank);
    if kind == Kind::Host {
        return Ok(Where::Host);
    }
    given.check_named()?;
    // srun has put the whole request into the environment; its options are there as well, but
    // Slurm forwards only the last of each.
    let mut texts = match component::request(spank)? {
        Some(own) => own,
        None => Some(options::of_environment(spank)?)
            .filter(|in_environment| in_environment.get(Word::Image).is_some())
            .unwrap_or_else(|| given.texts.clone()),
    };
    if kind == Kind::Ranks {
        // What was decided for the script is nothing to its steps.
        texts.set(Word::Batch, None);
    }
    if texts.is_empty() || texts.text(Word::Image) == "none" {
        return Ok(Where::Host);
    }
    check_release()?;
    let mut site = udi_store::site::load(Path::new(Config::PATH))?;
    debug_panic(&site, "stage");
    match Request::parse(&texts, &site)? {
        Ask::Nothing | Ask::Host => Ok(Where::Host),
        Ask::Image(request) if kind == Kind::Batch && !request.batch_enters(&site) => {
            Ok(Where::Host)
        }
        Ask::Image(request) => {
            udi_mount::read_devices(&mut site, &request)?;
            let udi = udi(spank, &request, &site)?;
            let inside = Inside::of(&udi.info()?, &request, &site, (spank, kind))?;
            slurm::launcher::execute_scripts_directly();
            let hooks = UserHooks::new(request.user_hooks(&site)?)?;
            Ok(Where::Inside(Box::new(Staged { udi, inside, site, hooks })))
        }
    }
}

/// The boundary loads on every release; what it was not built for is refused here.
fn check_release() -> Result<()> {
    let (running, built) = (slurm::running(), slurm::BUILT_FOR);
    if running.same_release(built) {
        return Ok(());
    }
    Err(Error::admin(format!("this is Slurm {running}, and the plugin is for Slurm {built}"))
        .hint(format!("install the package of shifter for Slurm {running}")))
}

fn udi(spank: &Spank<'_>, request: &Request, site: &Config) -> Result<Udi> {
    let node = Node::prepare(Node::BASE)?.logging(|line| log::info(&format!("shifter: {line}")));
    let uid = spank.uid().map_err(slurm_refused)?;
    let gid = spank.gid().map_err(slurm_refused)?;
    let groups = spank.supplementary_gids().map_err(slurm_refused)?;
    let ids = Ids { uid, gid, groups };
    let variables = variables(spank, request)?;
    let job = JobKey {
        id: spank.job_id().map_err(slurm_refused)?,
        run: format!("uid={uid} restart={}", spank.restart_count().unwrap_or(0)),
        // With other values it is another inside.
        identity: format!("{} {variables:?}", request.identity()),
        of_job: spank.getenv_os(VAR_STEP).map_err(slurm_refused)?.is_none(),
        ids: ids.clone(),
    };
    let late = Plan::late(request, site, &variables)?;
    node.stage(&job, site, late, || {
        let user = node.user(uid, gid, ids.groups, &request.accounts(site)?)?;
        let plan = Plan::make(request, site, &Facts { image: base(request)?, user, variables })?;
        log::debug(&format!("shifter: job {}\n{plan}", job.id));
        log_modules(spank, request, site, job.id)?;
        let opened = Opened::of(&plan, site)?;
        Ok((plan, opened))
    })
}

/// Says in the node's log which modules a job gets here, and which of them were others when it was
/// submitted: `shifter.toml` is read anew by each job.
fn log_modules(spank: &Spank<'_>, request: &Request, site: &Config, job: u32) -> Result<()> {
    let modules = request.modules(site)?;
    if modules.is_empty() {
        return Ok(());
    }
    log::info(&format!("shifter: job {job}: modules={}", provenance::definitions(&modules)));
    let then = spank.getenv_os(provenance::VARIABLE).map_err(slurm_refused)?.unwrap_or_default();
    for (name, was) in provenance::changed(&modules, &then.to_string_lossy()) {
        log::info(&format!(
            "shifter: job {job}: module {name} is not what it was when the job was submitted: {was}"
        ));
    }
    Ok(())
}

/// What everything else lies over.
pub(crate) fn base(request: &Request) -> Result<Base> {
    match request.image() {
        ImageRef::Local(path) => Ok(Base::Local(path.clone())),
        image => Ok(Base::Store(image.digest().cloned().ok_or_else(|| unpinned(request))?)),
    }
}

/// The values that the variables in the request's volumes have here.
pub(crate) fn variables(spank: &Spank<'_>, request: &Request) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for name in request.variables() {
        if let Some(value) = spank.getenv_os(name).map_err(slurm_refused)? {
            let value = value.into_string().map_err(|value| {
                Error::user(format!("--volume=${name}: {} is not UTF-8 text", value.display()))
                    .hint(format!("set {name} to a path"))
            })?;
            values.insert(name.to_owned(), value);
        }
    }
    Ok(values)
}

/// A name may mean another image on the next node, or a moment later.
fn unpinned(request: &Request) -> Error {
    Error::user(format!("--image={}: nobody pinned the image to its digest", request.image()))
        .hint("name the digest: NAME:TAG@sha256:… (shifterimg lookup NAME:TAG prints it)")
}
