//! In slurmstepd, as root, before tasks fork: the step's UDI is found or staged.
//!
//! Everything is parsed and checked again from the environment, which is the user's to edit.

use std::collections::BTreeMap;
use std::path::Path;

use slurm::log;
use slurm::spank::{Spank, StepId};
use udi::{Ask, Base, Config, Error, Facts, ImageRef, Plan, Request, Result};
use udi_mount::{JobKey, Node, Opened, Udi};

use crate::options::Options;
use crate::submit::VAR_STEP;
use crate::{debug_panic, slurm_refused};

/// A UDI, and what its ranks must know.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) udi: Udi,
    pub(crate) request: Request,
    pub(crate) site: Config,
}

/// The step's UDI; nothing for a step that runs on the host.
pub(crate) fn stage(spank: &Spank<'_>, given: &Options) -> Result<Option<Staged>> {
    if !matches!(spank.step_id(), Ok(StepId::Number(_))) {
        return Ok(None);
    }
    given.check_named()?;
    let in_environment = Options::of_environment(spank)?;
    // srun has put the whole request into the environment; its options are there as well, but
    // Slurm forwards only the last of each.
    let options = if in_environment.image.is_some() { in_environment } else { given.clone() };
    if options.is_empty() || options.image.as_deref() == Some("none") {
        return Ok(None);
    }
    check_release()?;
    let site = udi_store::site::load(Path::new(Config::PATH))?;
    debug_panic(&site, "stage");
    match options.parse(&site)? {
        Ask::Nothing | Ask::Host => Ok(None),
        Ask::Image(request) => {
            let udi = udi(spank, &request, &site)?;
            Ok(Some(Staged { udi, request, site }))
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
    let job = JobKey {
        id: spank.job_id().map_err(slurm_refused)?,
        run: format!("uid={uid} restart={}", spank.restart_count().unwrap_or(0)),
        identity: request.identity(),
        of_job: spank.getenv_os(VAR_STEP).map_err(slurm_refused)?.is_none(),
    };
    node.stage(&job, site, &Plan::per_job(site)?, || {
        let image = match request.image() {
            ImageRef::Local(path) => Base::Local(path.clone()),
            image => Base::Store(image.digest().cloned().ok_or_else(|| unpinned(request))?),
        };
        let gid = spank.gid().map_err(slurm_refused)?;
        let groups = spank.supplementary_gids().map_err(slurm_refused)?;
        let user = node.user(uid, gid, groups, &site.etc.users)?;
        let plan = Plan::make(request, site, &Facts { image, user, variables: BTreeMap::new() })?;
        log::debug(&format!("shifter: job {}\n{plan}", job.id));
        let opened = Opened::of(&plan, site)?;
        Ok((plan, opened))
    })
}

/// A name may mean another image on the next node, or a moment later.
fn unpinned(request: &Request) -> Error {
    Error::user(format!("--image={}: nobody pinned the image to its digest", request.image()))
        .hint("name the digest: NAME:TAG@sha256:… (shifterimg lookup NAME:TAG prints it)")
}
