//! The options of srun, sbatch and salloc, and the request they make up.

use slurm::spank::{Argument, Context, Given, Opt, Spank, StepId};
use udi::{Result, Texts, Word};

/// What `srun --help` shows.
pub(crate) const ALL: &[Opt] = &[
    Opt {
        name: "image",
        argument: Argument::Required,
        arginfo: "NAME:TAG",
        usage: "run inside this container image, for example docker:ubuntu:24.04; none: on the host",
    },
    Opt {
        name: "volume",
        argument: Argument::Required,
        arginfo: "FROM:TO[:ro]",
        usage: "show the host's FROM as TO inside the image; several with ; between, or repeated",
    },
    Opt {
        name: "module",
        argument: Argument::Required,
        arginfo: "NAME",
        usage: "add the site's module NAME to the image; several with , between; none: no default",
    },
];

/// The options as text. What was not given is absent, which is not the same as empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) image: Option<String>,
    pub(crate) volume: Option<String>,
    pub(crate) module: Option<String>,
}

impl Options {
    /// Notes one occurrence of an option. Volumes and modules accumulate; Slurm may repeat an
    /// occurrence, which adds nothing.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<()> {
        let (slot, separator) = match name {
            "image" => {
                self.image = Some(value.to_owned());
                return Ok(());
            }
            "volume" => (&mut self.volume, ';'),
            "module" => (&mut self.module, ','),
            other => return Err(udi::Error::bug(format!("unknown option {other}"))),
        };
        *slot = Some(match slot.take() {
            None => value.to_owned(),
            Some(before) if before.split(separator).any(|one| one == value) => before,
            Some(before) => format!("{before}{separator}{value}"),
        });
        Ok(())
    }

    /// Refuses options that were given without a value: `--image=$IMAGE` with a misspelled
    /// variable must not mean the host.
    ///
    /// Not where they are taken: there Slurm would add words of its own, and exit with 255.
    pub(crate) fn check_named(&self) -> Result<()> {
        let given = [("image", &self.image), ("volume", &self.volume), ("module", &self.module)];
        match given.iter().find(|(_, value)| value.as_deref() == Some("")) {
            None => Ok(()),
            Some((name, _)) => Err(udi::Error::user(format!("--{name}=: nothing is named"))
                .hint(format!("name something, or leave --{name} out"))),
        }
    }

    /// The request in the job's environment.
    pub(crate) fn of_environment(spank: &Spank<'_>) -> Result<Self> {
        let get = |name| spank.getenv(name).map_err(crate::slurm_refused);
        Ok(Self {
            image: get(Word::Image.variable())?,
            volume: get(Word::Volume.variable())?,
            module: get(Word::Module.variable())?,
        })
    }

    /// These options where given, else those of `job`.
    pub(crate) fn or(self, job: Self) -> Self {
        Self {
            image: self.image.or(job.image),
            volume: self.volume.or(job.volume),
            module: self.module.or(job.module),
        }
    }

    /// The first option that says something else than the same one of `other`.
    pub(crate) fn not_in(&self, other: &Self) -> Option<(&'static str, &str)> {
        let pairs = [
            ("image", &self.image, &other.image),
            ("volume", &self.volume, &other.volume),
            ("module", &self.module, &other.module),
        ];
        pairs.into_iter().find_map(|(name, ours, theirs)| {
            ours.as_deref().filter(|_| ours != theirs).map(|ours| (name, ours))
        })
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The request that these options make up.
    pub(crate) fn parse(&self, site: &udi::Config) -> Result<udi::Ask> {
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let (image, volume, module) = (text(&self.image), text(&self.volume), text(&self.module));
        udi::Request::parse(&Texts::of(&image, &volume, &module), site)
    }
}

/// Whether the step runs the user's commands, which belong into the image. The batch script
/// and salloc's shell run on the host, so that `srun` works in them.
pub(crate) fn is_ranks(spank: &Spank<'_>) -> bool {
    matches!(spank.step_id(), Ok(StepId::Number(_)))
}

/// Whether the job or step asked for an image: pure and small, for it is relied upon after a
/// panic.
pub(crate) fn asked_for(spank: &Spank<'_>, given: &Given) -> bool {
    if spank.context() == Context::Remote && !is_ranks(spank) {
        return false;
    }
    let from_job = spank.getenv_os(Word::Image.variable()).ok().flatten();
    let image = match (spank.context(), from_job, given.value("image")) {
        // srun has put what it asks for into the step's environment.
        (Context::Remote, Some(from_job), _) => from_job.to_string_lossy().into_owned(),
        (_, _, Some(given)) => return given != "none",
        (_, Some(from_job), None) => from_job.to_string_lossy().into_owned(),
        (_, None, None) => {
            return given.value("volume").is_some() || given.value("module").is_some();
        }
    };
    !matches!(image.as_str(), "" | "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> Options {
        let mut options = Options::default();
        for (name, value) in given {
            options.take(name, value).unwrap();
        }
        options
    }

    #[test]
    fn repeated_volumes_accumulate_and_repeated_calls_do_not() {
        let twice = options(&[("volume", "/a:/b"), ("volume", "/c:/d"), ("volume", "/c:/d")]);
        assert_eq!(twice.volume.unwrap(), "/a:/b;/c:/d");
        let images = options(&[("image", "a"), ("image", "b")]);
        assert_eq!(images.image.unwrap(), "b");
    }

    #[test]
    fn an_empty_option_is_a_mistake_never_the_host() {
        for name in ["image", "volume", "module"] {
            let error = options(&[(name, "")]).check_named().unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{name}=: nothing is named")), "{error}");
        }
    }

    #[test]
    fn what_another_component_repeats_or_leaves_out_is_the_same_request() {
        let first = options(&[("image", "a"), ("volume", "/a:/b")]);
        for same in [vec![], vec![("image", "a")], vec![("volume", "/a:/b"), ("image", "a")]] {
            assert_eq!(options(&same).not_in(&first), None, "{same:?}");
        }
        for (name, value) in [("image", "none"), ("volume", "/c:/d"), ("module", "m")] {
            assert_eq!(options(&[(name, value)]).not_in(&first), Some((name, value)));
        }
    }

    #[test]
    fn sruns_own_options_replace_the_jobs_one_by_one() {
        let job = options(&[("image", "a"), ("volume", "/old:/x"), ("module", "m")]);
        let step = options(&[("volume", "/new:/x")]).or(job);
        assert_eq!(step, options(&[("image", "a"), ("volume", "/new:/x"), ("module", "m")]));
    }
}
