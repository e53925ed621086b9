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
mod script;
mod site;

use slurm::job_submit::{JobDescription, JobSubmit, Rejection, Text};
use udi::{Ask, Batch, Blame, Config, Error, ImageRef, Request, Texts, Word};
use udi_store::provenance;

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
        let texts = asked.texts()?;
        let request = match Request::parse(&texts, &site)? {
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
        let request = self.pinned(request, &texts, &site, job.is_batch(), (uid, gid))?;
        let enters = job.is_batch() && request.batch_enters(&site);
        let failed =
            |error: slurm::Error| Error::bug("cannot write the image into the job").because(error);
        let modules = provenance::definitions(&request.modules(&site)?);
        pin::write(job, &texts, &request, &site.names(), (enters, &modules)).map_err(failed)?;
        let comment = job.text(Text::AdminComment).map(|text| text.to_string_lossy());
        if let Some(comment) = record::with(comment.as_deref(), &request, &modules) {
            job.set_text(Text::AdminComment, &comment).map_err(failed)?;
        }
        let runs_nothing_inside =
            !enters && job.text(Text::Script).is_some_and(|script| !script::has_srun(script));
        Ok(runs_nothing_inside.then(|| {
            let or = match site.inside.batch {
                Batch::Ask => ", or submit the script with --image-batch",
                Batch::Never | Batch::Always => "",
            };
            format!(
                "note: the script runs on the host, not in the image, and has no srun in it: start \
                 programs in the image by srun{or}"
            )
        }))
    }

    /// The request with digests, if they can be had without waiting.
    fn pinned(
        &self,
        request: Request,
        typed: &Texts,
        site: &Config,
        is_batch: bool,
        user: (u32, u32),
    ) -> udi::Result<Request> {
        let named = Named::all(&request, typed.text(Word::Image));
        if named.is_empty() {
            return Ok(request);
        }
        let names: Vec<String> = named.iter().map(|named| named.name.clone()).collect();
        let silence = match self.helper.ask(&names, user) {
            Ok(Answer::Digests(digests)) => {
                let mut digests = digests.into_iter();
                let mut next = || digests.next().ok_or_else(|| Error::bug("a digest is missing"));
                let request = match request.image() {
                    ImageRef::Local(_) => request,
                    _ => request.pinned(&next()?),
                };
                return request.data_pinned(|_, _| next());
            }
            Ok(Answer::No { at, blame, what, hint }) => {
                let about = named.get(at).map(|named| named.about.as_str()).unwrap_or_default();
                let error = match blame {
                    Blame::User => Error::user(format!("{about}{what}")),
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
        let Some(named) = named.iter().find(|named| is_batch && !named.is_pinned) else {
            return Ok(request);
        };
        // Each node would look the name up for itself, and might find another image than its
        // neighbour.
        let why = match silence {
            Silence::NoAnswer => {
                format!("the image store {} does not answer", site.store.path.display())
            }
            Silence::Broken(why) => why,
        };
        let Named { about, name, .. } = named;
        let option = if about.is_empty() { "--image=" } else { "" };
        Err(Error::admin(format!("{about}{name} cannot be looked up now: {why}")).hint(format!(
            "try again in a minute, or name the image by its digest: {option}{name}@sha256:…"
        )))
    }
}

/// An image of the store that a request names.
struct Named {
    /// What a message about it begins with.
    about: String,
    /// The name, as typed where that is known.
    name: String,
    is_pinned: bool,
}

impl Named {
    /// The request's own image first, then its data images.
    fn all(request: &Request, typed: &str) -> Vec<Self> {
        let own = match request.image() {
            ImageRef::Local(_) => None,
            image => Some(Self {
                about: String::new(),
                name: typed.to_owned(),
                is_pinned: image.digest().is_some(),
            }),
        };
        let data = request.data_images().map(|(volume, image)| Self {
            about: format!("--volume={volume}: "),
            name: image.to_string(),
            is_pinned: image.digest().is_some(),
        });
        own.into_iter().chain(data).collect()
    }
}

fn reject(error: &Error) -> Rejection {
    match error.blame() {
        Blame::User => Rejection::mistake(error.to_string()),
        Blame::Admin | Blame::Bug => Rejection::fault(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use udi::Digest;

    pub(crate) fn digest(letter: &str) -> Digest {
        format!("sha256:{}", letter.repeat(64)).parse().unwrap()
    }

    pub(crate) fn request(image: &str, volumes: &str) -> Request {
        let text = "[store]\npath = \"/x\"\n[images]\nlocal = [\"/srv\"]";
        let site = Config::parse(text, Path::new("shifter.toml")).unwrap();
        match Request::parse(&Texts::of(image, volumes, ""), &site).unwrap() {
            Ask::Image(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_helper_is_asked_for_every_image_of_the_store_and_no_other() {
        let names = |image, volumes| -> Vec<String> {
            Named::all(&request(image, volumes), image).into_iter().map(|n| n.name).collect()
        };
        assert_eq!(names("a:1", "/x:/y"), ["a:1"]);
        assert_eq!(
            names("a:1", "b:1:/b:squashfs;c:1:/c:squashfs"),
            ["a:1", "docker:docker.io/library/b:1", "docker:docker.io/library/c:1"]
        );
        assert_eq!(names("local:/srv/a", "/x:/y"), [""; 0]);
        assert_eq!(names("local:/srv/a", "b:1:/b:squashfs"), ["docker:docker.io/library/b:1"]);
    }
}
