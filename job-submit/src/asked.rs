//! The request as a client leaves it in a job description.
//!
//! Clients differ: sbatch sends an environment, srun and salloc do not; with our SPANK plugin a
//! client leaves a checked request, without it only what its user wrote. All of it is text that a
//! user can forge, so it is parsed from zero.

use std::ffi::{OsStr, OsString};

use slurm::{job_submit::Variables, spank::option_variable};
use udi::{Error, Result, Texts, Word};

/// A place of a request: a list of variables, and how the words of a request are called in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) list: Variables,
    spelling: Spelling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// As in a job's environment.
    Variable,
    /// As our SPANK plugin records it.
    Short,
    /// As Slurm carries options.
    Option,
    /// As Slurm carries options to commands within the job.
    Inherited,
}

/// In the order in which they count: what the job will see, what our SPANK plugin leaves for
/// Prolog and Epilog, what the options say.
pub(crate) const PLACES: [Place; 5] = [
    Place { list: Variables::Environment, spelling: Spelling::Variable },
    Place { list: Variables::SpankJob, spelling: Spelling::Short },
    Place { list: Variables::SpankJob, spelling: Spelling::Option },
    Place { list: Variables::Environment, spelling: Spelling::Option },
    Place { list: Variables::Environment, spelling: Spelling::Inherited },
];

impl Place {
    /// The variable that carries `word` here.
    pub(crate) fn variable(self, word: Word) -> String {
        let option = || option_variable("shifter", word.option());
        match self.spelling {
            Spelling::Variable => word.variable().to_owned(),
            Spelling::Short => word.short_variable().to_owned(),
            Spelling::Option => option(),
            Spelling::Inherited => format!("SLURM_SPANK_{}", option()),
        }
    }

    /// Whether it is what the job's steps will see.
    pub(crate) fn is_jobs_environment(self) -> bool {
        self.spelling == Spelling::Variable
    }

    /// What `word` says here.
    fn says(self, word: Word, value: OsString) -> OsString {
        // Slurm carries a flag as nothing, or as "(null)".
        let is_option = matches!(self.spelling, Spelling::Option | Spelling::Inherited);
        if word.is_flag() && is_option { "1".into() } else { value }
    }
}

/// The words of a request as they were found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked(Vec<(Word, OsString)>);

impl Asked {
    /// The request that counts, if there is one: the first with an image, else the first with
    /// anything (which is a mistake to tell). A job that asks for the host asks for nothing.
    pub(crate) fn of(variable: impl Fn(Variables, &str) -> Option<OsString>) -> Option<Asked> {
        let mut with_something = None;
        for place in PLACES {
            let get = |word| {
                let value = variable(place.list, &place.variable(word))?;
                Some((word, place.says(word, value))).filter(|(_, text)| !text.is_empty())
            };
            let asked = Asked(Word::ALL.into_iter().filter_map(get).collect());
            if let Some(image) = asked.text(Word::Image) {
                return (image != "none").then_some(asked);
            }
            if with_something.is_none() && !asked.0.is_empty() {
                with_something = Some(asked);
            }
        }
        with_something
    }

    fn text(&self, word: Word) -> Option<&OsStr> {
        self.0.iter().find(|(found, _)| *found == word).map(|(_, text)| text.as_os_str())
    }

    /// The words as text.
    pub(crate) fn texts(&self) -> Result<Texts> {
        let mut texts = Texts::default();
        for (word, text) in &self.0 {
            let text = text.to_str().ok_or_else(|| {
                Error::user(format!("--{}={}: not UTF-8 text", word.option(), text.display()))
                    .hint("type it again")
            })?;
            texts.set(*word, Some(text.to_owned()));
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    const ENV: Variables = Variables::Environment;
    const SPANK: Variables = Variables::SpankJob;

    fn asked(variables: &[(Variables, &str, &str)]) -> Option<Asked> {
        Asked::of(|list, name| {
            let found = variables.iter().find(|(l, n, _)| *l == list && *n == name);
            found.map(|(_, _, value)| value.into())
        })
    }

    fn texts(variables: &[(Variables, &str, &str)]) -> Option<Texts> {
        asked(variables).map(|asked| asked.texts().unwrap())
    }

    #[test]
    fn a_job_without_a_request_asks_for_nothing() {
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[(ENV, "PATH", "/bin"), (SPANK, "OTHER", "x")]), None);
        assert_eq!(asked(&[(ENV, "SLURM_SHIFTER_IMAGE", ""), (SPANK, "SHIFTER_VOLUME", "")]), None);
        // The user's default is for the client to know.
        assert_eq!(asked(&[(ENV, "SHIFTER_IMAGE", "a:1")]), None);
    }

    #[test]
    fn a_job_that_asks_for_the_host_asks_for_nothing() {
        assert_eq!(asked(&[(ENV, "SLURM_SHIFTER_IMAGE", "none")]), None);
        let option = (SPANK, "_SLURM_SPANK_OPTION_shifter_image", "old:1");
        assert_eq!(asked(&[(ENV, "SLURM_SHIFTER_IMAGE", "none"), option]), None);
    }

    #[test]
    fn a_request_is_found_wherever_a_client_leaves_it() {
        for place in PLACES {
            let (image, volume) = (place.variable(Word::Image), place.variable(Word::Volume));
            let found = texts(&[(place.list, &image, "a:1"), (place.list, &volume, "/a:/b")]);
            assert_eq!(found.unwrap(), Texts::of("a:1", "/a:/b", ""), "{place:?}");
        }
    }

    #[test]
    fn an_option_with_a_dash_is_found_as_slurm_spells_it() {
        let found = texts(&[
            (SPANK, "_SLURM_SPANK_OPTION_shifter_image", "a:1"),
            (SPANK, "_SLURM_SPANK_OPTION_shifter_image_writable", "1G"),
            (SPANK, "_SLURM_SPANK_OPTION_shifter_image_batch", "(null)"),
        ]);
        let found = found.unwrap();
        assert_eq!((found.text(Word::Writable), found.text(Word::Batch)), ("1G", "1"));
        let flag = "SLURM_SPANK__SLURM_SPANK_OPTION_shifter_image_batch";
        assert_eq!(texts(&[(ENV, flag, "")]).unwrap().text(Word::Batch), "1");
    }

    #[test]
    fn what_our_own_plugin_left_counts_more_than_the_options_it_came_from() {
        let found = texts(&[
            (SPANK, "_SLURM_SPANK_OPTION_shifter_image", "a:1"),
            (SPANK, "_SLURM_SPANK_OPTION_shifter_volume", "/only:/last"),
            (SPANK, "SHIFTER_IMAGE", "docker:r/a:1"),
            (SPANK, "SHIFTER_VOLUME", "/a:/b;/only:/last"),
        ]);
        assert_eq!(found.unwrap(), Texts::of("docker:r/a:1", "/a:/b;/only:/last", ""));
    }

    #[test]
    fn a_volume_without_an_image_is_a_request_so_that_the_mistake_is_told() {
        assert!(asked(&[(SPANK, "_SLURM_SPANK_OPTION_shifter_volume", "/a:/b")]).is_some());
    }

    #[test]
    fn text_that_is_not_utf8_is_the_users_mistake() {
        let bytes = OsString::from_vec(vec![0xff]);
        let asked =
            Asked::of(|_, name| (name == "SLURM_SHIFTER_IMAGE").then(|| bytes.clone())).unwrap();
        assert_eq!(asked.texts().unwrap_err().blame(), udi::Blame::User);
    }
}
