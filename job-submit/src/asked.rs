//! The request as a client leaves it in a job description.
//!
//! Clients differ: sbatch sends an environment, srun and salloc do not; with our SPANK plugin a
//! client leaves a checked request, without it only what its user wrote. All of it is text that a
//! user can forge, so it is parsed from zero.

use std::ffi::OsString;

use slurm::job_submit::Variables;
use udi::{Error, Result};

/// A place of a request: a list of variables, and the names of image, volume and module in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) list: Variables,
    pub(crate) image: &'static str,
    volume: &'static str,
    module: &'static str,
}

/// In the order in which they count: what the job will see, what our SPANK plugin leaves for
/// Prolog and Epilog, what the options say.
pub(crate) const PLACES: [Place; 5] = [
    Place {
        list: Variables::Environment,
        image: "SLURM_SHIFTER_IMAGE",
        volume: "SLURM_SHIFTER_VOLUME",
        module: "SLURM_SHIFTER_MODULE",
    },
    Place {
        list: Variables::SpankJob,
        image: "SHIFTER_IMAGE",
        volume: "SHIFTER_VOLUME",
        module: "SHIFTER_MODULE",
    },
    Place {
        list: Variables::SpankJob,
        image: "_SLURM_SPANK_OPTION_shifter_image",
        volume: "_SLURM_SPANK_OPTION_shifter_volume",
        module: "_SLURM_SPANK_OPTION_shifter_module",
    },
    Place {
        list: Variables::Environment,
        image: "_SLURM_SPANK_OPTION_shifter_image",
        volume: "_SLURM_SPANK_OPTION_shifter_volume",
        module: "_SLURM_SPANK_OPTION_shifter_module",
    },
    Place {
        list: Variables::Environment,
        image: "SLURM_SPANK__SLURM_SPANK_OPTION_shifter_image",
        volume: "SLURM_SPANK__SLURM_SPANK_OPTION_shifter_volume",
        module: "SLURM_SPANK__SLURM_SPANK_OPTION_shifter_module",
    },
];

/// Image, volumes and modules as they were found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked([OsString; 3]);

impl Asked {
    /// The request that counts, if there is one: the first with an image, else the first with
    /// anything (which is a mistake to tell). A job that asks for the host asks for nothing.
    pub(crate) fn of(variable: impl Fn(Variables, &str) -> Option<OsString>) -> Option<Asked> {
        let found = PLACES.map(|place| {
            let get = |name| variable(place.list, name).unwrap_or_default();
            Asked([get(place.image), get(place.volume), get(place.module)])
        });
        let mut with_something = None;
        for asked in found {
            if !asked.0[0].is_empty() {
                return (asked.0[0] != "none").then_some(asked);
            }
            if with_something.is_none() && asked.0.iter().any(|text| !text.is_empty()) {
                with_something = Some(asked);
            }
        }
        with_something
    }

    /// The three as text.
    pub(crate) fn texts(&self) -> Result<[&str; 3]> {
        let text = |at: usize, option: &str| {
            self.0[at].to_str().ok_or_else(|| {
                Error::user(format!("--{option}={}: not UTF-8 text", self.0[at].display()))
            })
        };
        Ok([text(0, "image")?, text(1, "volume")?, text(2, "module")?])
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

    fn texts(variables: &[(Variables, &str, &str)]) -> Option<[String; 3]> {
        asked(variables).map(|asked| asked.texts().unwrap().map(str::to_owned))
    }

    #[test]
    fn a_job_without_a_request_asks_for_nothing() {
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[(ENV, "PATH", "/bin"), (SPANK, "OTHER", "x")]), None);
        assert_eq!(asked(&[(ENV, "SLURM_SHIFTER_IMAGE", ""), (SPANK, "SHIFTER_VOLUME", "")]), None);
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
            let found =
                texts(&[(place.list, place.image, "a:1"), (place.list, place.volume, "/a:/b")]);
            assert_eq!(found.unwrap(), ["a:1", "/a:/b", ""], "{place:?}");
        }
    }

    #[test]
    fn what_our_own_plugin_left_counts_more_than_the_options_it_came_from() {
        let found = texts(&[
            (SPANK, "_SLURM_SPANK_OPTION_shifter_image", "a:1"),
            (SPANK, "_SLURM_SPANK_OPTION_shifter_volume", "/only:/last"),
            (SPANK, "SHIFTER_IMAGE", "docker:r/a:1"),
            (SPANK, "SHIFTER_VOLUME", "/a:/b;/only:/last"),
        ]);
        assert_eq!(found.unwrap(), ["docker:r/a:1", "/a:/b;/only:/last", ""]);
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
