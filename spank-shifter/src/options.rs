//! The options of srun, sbatch and salloc, and the request they make up.

use std::ffi::OsString;

use slurm::spank::{Argument, Context, Given, Opt, Spank, StepId};
use udi::{Error, Result, Texts, Word, after_none};

use crate::{component, pyxis};

/// What `srun --help` shows; the last ones only where the site wants them.
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
        arginfo: "FROM:TO[:FLAG]",
        usage: "show the host's FROM as TO inside the image; several with ; between, or repeated",
    },
    Opt {
        name: "module",
        argument: Argument::Required,
        arginfo: "NAME",
        usage: "add the site's module NAME to the image; several with , between; none: no default",
    },
    Opt {
        name: "image-writable",
        argument: Argument::Required,
        arginfo: "SIZE",
        usage: "let programs write into the image, up to SIZE; it is kept in memory and then gone",
    },
    Opt {
        name: "image-batch",
        argument: Argument::None,
        arginfo: "",
        usage: "sbatch: run the script inside the image as well, where the site leaves that to you",
    },
    Opt {
        name: "image-entrypoint",
        argument: Argument::None,
        arginfo: "",
        usage: "have the image's entrypoint run the command, as docker does",
    },
    Opt {
        name: "image-workdir",
        argument: Argument::Required,
        arginfo: "DIR",
        usage: "start in DIR of the image; image: where the image says; job: where the job is",
    },
    Opt {
        name: DRY_RUN,
        argument: Argument::None,
        arginfo: "",
        usage: "print what would be where inside the image, and because of whom; run nothing",
    },
    pyxis::IMAGE,
    pyxis::MOUNTS,
    pyxis::WORKDIR,
];

/// Asks for a table instead of a job. The other options make up the request.
const DRY_RUN: &str = "image-dry-run";

/// The options as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) texts: Texts,
    pub(crate) dry_run: bool,
    /// In an option by another name: told when all are known.
    mistake: Option<pyxis::Mistake>,
}

impl Options {
    /// Notes one occurrence of an option. Volumes and modules accumulate; Slurm may repeat an
    /// occurrence, which adds nothing. `--module=none` takes back the modules before it, so that a
    /// command line can do without those of a script.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<()> {
        if name == DRY_RUN {
            self.dry_run = true;
            return Ok(());
        }
        let ours = Word::ALL.into_iter().find(|word| word.option() == name);
        let (word, value) = match (ours, pyxis::word(name)) {
            (Some(word), _) => (word, value.to_owned()),
            (None, Some(word)) => match pyxis::translated(word, value) {
                Ok(value) => (word, value),
                Err(mistake) => {
                    self.mistake.get_or_insert(mistake);
                    return Ok(());
                }
            },
            (None, None) => return Err(Error::bug(format!("unknown option {name}"))),
        };
        let separator = match word {
            Word::Volume => Some(';'),
            Word::Module => Some(','),
            _ => None,
        };
        let text = match (word.is_flag(), separator, self.texts.get(word)) {
            (true, _, _) => "1".to_owned(),
            (_, Some(separator), Some(before)) => {
                let is_repeated = before.split(separator).any(|one| one == value);
                match is_repeated && value != "none" {
                    true => before.to_owned(),
                    false => format!("{before}{separator}{value}"),
                }
            }
            _ => value,
        };
        let text = match word {
            Word::Module => after_none(&text),
            _ => text,
        };
        self.texts.set(word, Some(text));
        Ok(())
    }

    /// Refuses options that were given without a value: `--image=$IMAGE` with a misspelled
    /// variable must not mean the host.
    ///
    /// Not where they are taken: there Slurm would add words of its own, and exit with 255.
    pub(crate) fn check_named(&self) -> Result<()> {
        if let Some((what, hint)) = &self.mistake {
            return Err(Error::user(what).hint(*hint));
        }
        match self.texts.given().find(|(_, text)| text.is_empty()) {
            None => Ok(()),
            Some((word, _)) => {
                let name = word.option();
                Err(Error::user(format!("--{name}=: nothing is named"))
                    .hint(format!("name something, or leave --{name} out")))
            }
        }
    }

    /// The first option that says something else than the same one of `other`.
    pub(crate) fn not_in(&self, other: &Self) -> Option<(Word, &str)> {
        self.texts.given().find(|(word, text)| other.texts.get(*word) != Some(text))
    }
}

/// The request in the job's environment.
pub(crate) fn of_environment(spank: &Spank<'_>) -> Result<Texts> {
    let mut texts = Texts::default();
    for word in Word::ALL {
        texts.set(word, spank.getenv(word.variable()).map_err(crate::slurm_refused)?);
    }
    Ok(texts)
}

/// The kinds of steps, by what may enter an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its ranks enter.
    Ranks,
    /// The batch script enters if the site, or the user where the site asks, wants it.
    Batch,
    /// salloc's shell and adopted processes stay on the host, so that `srun` works there.
    Host,
}

/// What may enter in this step.
pub(crate) fn kind(spank: &Spank<'_>) -> Kind {
    match spank.step_id() {
        Ok(StepId::Number(_)) => Kind::Ranks,
        Ok(StepId::Batch) => Kind::Batch,
        _ => Kind::Host,
    }
}

/// Whether the job or step asked for an image: pure and small, for it is relied upon after a
/// panic.
pub(crate) fn asked_for(spank: &Spank<'_>, given: &Given) -> bool {
    let variable = |name: &str| spank.getenv_os(name).ok().flatten();
    let names_image = |text: OsString| !text.is_empty() && text != "none";
    let in_environment = variable(Word::Image.variable());
    let image = || {
        let names = [Word::Image.option(), pyxis::IMAGE.name];
        names.into_iter().find_map(|name| given.value(name))
    };
    let by_options = || match image() {
        Some(image) => image != "none",
        None => ALL.iter().any(|option| given.value(option.name).is_some()),
    };
    if spank.context() != Context::Remote {
        // A dry run must not become a job.
        if given.value(DRY_RUN).is_some() || by_options() {
            return true;
        }
        let default = || variable(Word::Image.short_variable());
        let typed_none = image().is_some();
        return !typed_none && in_environment.or_else(default).is_some_and(names_image);
    }
    match kind(spank) {
        Kind::Host => return false,
        // Whoever checked the request wrote down whether the script enters. Where nobody did, it
        // cannot be known any more: rather no script than one on the host by accident.
        Kind::Batch if variable(Word::Batch.variable()).is_some_and(|says| says != "1") => {
            return false;
        }
        Kind::Batch | Kind::Ranks => {}
    }
    // srun has put what it asks for into the step's environment.
    in_environment.map_or_else(by_options, names_image) || component::any_names_image(spank)
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
    fn every_word_of_a_request_has_an_option_and_the_dry_run_is_no_word() {
        let words = Word::ALL.map(Word::option);
        let options: Vec<_> = ALL.iter().map(|option| option.name).collect();
        let others = ["container-image", "container-mounts", "container-workdir"];
        assert_eq!(options, [&words[..], &[DRY_RUN], &others].concat());
    }

    #[test]
    fn repeated_volumes_accumulate_and_repeated_calls_do_not() {
        let twice = options(&[("volume", "/a:/b"), ("volume", "/c:/d"), ("volume", "/c:/d")]);
        assert_eq!(twice.texts.text(Word::Volume), "/a:/b;/c:/d");
        let images = options(&[("image", "a"), ("image", "b")]);
        assert_eq!(images.texts.text(Word::Image), "b");
    }

    #[test]
    fn the_module_none_takes_back_those_before_it_and_not_those_behind_it() {
        for (given, counts) in [
            (&["a", "none"][..], "none"),
            (&["none", "a"], "a"),
            (&["none", "a", "none"], "none"),
            (&["a,none", "a"], "a"),
            (&["a", "none", "b", "a", "none", "b"], "b"),
        ] {
            let given: Vec<_> = given.iter().map(|names| ("module", *names)).collect();
            assert_eq!(options(&given).texts.text(Word::Module), counts, "{given:?}");
        }
    }

    #[test]
    fn a_flag_has_no_value_and_counts_once() {
        let twice = options(&[("image-batch", ""), ("image-batch", ""), (DRY_RUN, "")]);
        assert_eq!((twice.texts.text(Word::Batch), twice.dry_run), ("1", true));
        twice.check_named().unwrap();
    }

    #[test]
    fn an_empty_option_is_a_mistake_never_the_host() {
        for name in ["image", "volume", "module", "image-writable", "image-workdir"] {
            let error = options(&[(name, "")]).check_named().unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{name}=: nothing is named")), "{error}");
        }
    }

    #[test]
    fn pyxis_names_say_the_same_and_a_mistake_in_one_is_told_like_any_other() {
        let theirs = options(&[
            ("container-image", "nvcr.io#a/b:1"),
            ("container-mounts", "/a:/b,/c:/d:ro"),
            ("container-workdir", "/b"),
            ("volume", "/e:/f"),
        ]);
        assert_eq!(theirs.texts.text(Word::Image), "docker:nvcr.io/a/b:1");
        assert_eq!(theirs.texts.text(Word::Volume), "/a:/b;/c:/d:ro;/e:/f");
        assert_eq!(theirs.texts.text(Word::Workdir), "/b");
        theirs.check_named().unwrap();
        let error = options(&[("container-image", "/x.sqsh")]).check_named().unwrap_err();
        assert!(error.what().starts_with("--container-image=/x.sqsh: "), "{error}");
    }

    #[test]
    fn what_another_component_repeats_or_leaves_out_is_the_same_request() {
        let first = options(&[("image", "a"), ("volume", "/a:/b")]);
        for same in [vec![], vec![("image", "a")], vec![("volume", "/a:/b"), ("image", "a")]] {
            assert_eq!(options(&same).not_in(&first), None, "{same:?}");
        }
        for (word, value) in
            [(Word::Image, "none"), (Word::Volume, "/c:/d"), (Word::Writable, "1G")]
        {
            let other = options(&[(word.option(), value)]);
            assert_eq!(other.not_in(&first), Some((word, value)));
        }
    }
}
