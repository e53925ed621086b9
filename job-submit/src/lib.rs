//! The job_submit plugin: checks a job's image request inside slurmctld, pins its digest if the
//! client did not, and records both for accounting.
//!
//! It runs under slurmctld's locks as SlurmUser: it never touches the image store, but asks
//! `shifter-check`, which may hang without harm. A wrong yes costs nothing, because the node
//! checks everything again.
#![forbid(unsafe_code)]

mod asked;
mod helper;
mod pin;
mod protocol;
mod record;
mod site;

use slurm::job_submit::{JobDescription, JobSubmit, Rejection, Text};
use udi::{Ask, Blame, Config, Error, Request, Texts};

use crate::{
    asked::Asked,
    helper::{Helper, Silence},
    protocol::Answer,
    site::Site,
};

/// What all of slurmctld's threads share.
#[derive(Debug, Default)]
struct Shifter {
    site: Site,
    helper: Helper,
}

slurm::job_submit_plugin!(name = "shifter", type = Shifter);

impl JobSubmit for Shifter {
    fn asked_for(job: &JobDescription<'_>) -> bool {
        Asked::of(|which, name| job.variable_os(which, name)).is_some()
    }

    fn submit(&self, job: &mut JobDescription<'_>, _uid: u32) -> Result<Option<String>, Rejection> {
        let Some(asked) = Asked::of(|which, name| job.variable_os(which, name)) else {
            return Ok(None);
        };
        self.check(job, &asked).map_err(|error| reject(&error))
    }

    fn modify(&self, job: &mut JobDescription<'_>, _uid: u32) -> Result<Option<String>, Rejection> {
        if Self::asked_for(job) {
            let error = Error::user("the image of a job cannot be changed after its submission")
                .hint("cancel the job and submit it again");
            return Err(reject(&error));
        }
        Ok(None)
    }
}

impl Shifter {
    fn check(&self, job: &mut JobDescription<'_>, asked: &Asked) -> udi::Result<Option<String>> {
        let site = self.site.load()?;
        if site.node.debug_panic == "job_submit" {
            panic!("planted by node.debug_panic");
        }
        let [image, volumes, modules] = asked.texts()?;
        let request = match Request::parse(&Texts::of(image, volumes, modules), &site)? {
            Ask::Nothing | Ask::Host => return Ok(None),
            Ask::Image(request) => request,
        };
        let (Some(uid), Some(gid)) = (job.user_id(), job.group_id()) else {
            return Err(Error::bug("the job's user cannot be read"));
        };
        if uid == 0 && !site.node.allow_root {
            return Err(Error::user("root's own jobs may not use images on this system")
                .hint("submit as an ordinary user"));
        }
        let request = self.pinned(request, image, &site, job.is_batch(), (uid, gid))?;
        let failed =
            |error: slurm::Error| Error::bug("cannot write the image into the job").because(error);
        if let Some(digest) = request.image().digest() {
            pin::write(job, &request, &site.names()).map_err(failed)?;
            let comment = job.text(Text::AdminComment).map(|text| text.to_string_lossy());
            let comment = record::with(comment.as_deref(), request.image(), digest);
            job.set_text(Text::AdminComment, &comment).map_err(failed)?;
        }
        Ok(None)
    }

    /// The request with a digest, if one can be had without waiting.
    fn pinned(
        &self,
        request: Request,
        typed: &str,
        site: &Config,
        is_batch: bool,
        user: (u32, u32),
    ) -> udi::Result<Request> {
        let silence = match self.helper.ask(typed, user) {
            Ok(Answer::Digest(digest)) => return Ok(request.pinned(&digest)),
            Ok(Answer::No { blame, what, hint }) => {
                let error = match blame {
                    Blame::User => Error::user(what),
                    Blame::Admin => Error::admin(what),
                    Blame::Bug => Error::bug(what),
                };
                return Err(match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                });
            }
            Err(silence) => silence,
        };
        // With a digest the nodes cannot differ, and they look again. Without one, srun pins each
        // of its steps before it starts them.
        if request.image().digest().is_some() || !is_batch {
            return Ok(request);
        }
        // Each node would look the name up for itself, and might find another image than its
        // neighbour.
        let why = match silence {
            Silence::NoAnswer => {
                format!("the image store {} does not answer", site.store.path.display())
            }
            Silence::Broken(why) => why,
        };
        Err(Error::admin(format!("{typed} cannot be looked up now: {why}")).hint(format!(
            "try again in a minute, or name the image by its digest: --image={typed}@sha256:…"
        )))
    }
}

fn reject(error: &Error) -> Rejection {
    match error.blame() {
        Blame::User => Rejection::mistake(error.to_string()),
        Blame::Admin | Blame::Bug => Rejection::fault(error.to_string()),
    }
}
