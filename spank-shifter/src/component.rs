//! The components of a heterogeneous job, each of which may have a request of its own.
//!
//! Slurm gives them one environment, that of srun or of salloc's command. The first component's request stands there
//! as any job's does, and what a later one asks for instead stands beside it under names that end as Slurm's own do:
//! `SLURM_SHIFTER_IMAGE_HET_GROUP_1`. On a node a component is known by its job id, which
//! `SLURM_JOB_ID_HET_GROUP_1` tells.

use std::ffi::{OsStr, OsString};

use slurm::spank::{Context, Spank};
use udi::{Error, Result, Texts, Word};

use crate::slurm_refused;

const GROUP: &str = "_HET_GROUP_";
/// srun that allocates for itself still says so instead.
const OLD_GROUP: &str = "_PACK_GROUP_";

/// The variable that carries `word` for the component with this number.
fn variable(word: Word, number: u32) -> String {
    format!("{}{GROUP}{number}", word.variable())
}

/// Writes down what a component other than the first asks for.
pub(crate) fn write(spank: &mut Spank<'_>, number: u32, texts: &Texts) -> Result<()> {
    for (word, text) in texts.given() {
        spank.setenv(variable(word, number), text).map_err(slurm_refused)?;
    }
    Ok(())
}

/// The names of variables that carry requests of components.
fn names<'a>(environment: &[(&'a OsStr, &'a OsStr)]) -> impl Iterator<Item = (&'a str, &'a OsStr)> {
    environment.iter().filter_map(|(name, value)| {
        let name = name.to_str()?;
        let (word, _) = name.split_once(GROUP)?;
        Word::ALL.iter().any(|known| known.variable() == word).then_some((name, *value))
    })
}

fn borrowed(variables: &[(OsString, OsString)]) -> Vec<(&OsStr, &OsStr)> {
    variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())).collect()
}

/// Whether components of the job that a command runs in have requests of their own.
pub(crate) fn differ() -> bool {
    let variables = std::env::vars_os().collect::<Vec<_>>();
    names(&borrowed(&variables)).next().is_some()
}

/// Takes the requests of components out of a command's environment.
pub(crate) fn forget(spank: &mut Spank<'_>) -> Result<()> {
    let variables = std::env::vars_os().collect::<Vec<_>>();
    for (name, _) in names(&borrowed(&variables)) {
        spank.unsetenv(name).map_err(slurm_refused)?;
    }
    Ok(())
}

/// On a node: what the step's component asks for, if components have requests of their own and this one has.
pub(crate) fn request(spank: &Spank<'_>) -> Result<Option<Texts>> {
    let environment = spank.job_environment().map_err(slurm_refused)?;
    let job = spank.job_id().map_err(slurm_refused)?;
    own(&environment, job)
}

fn own(environment: &[(&OsStr, &OsStr)], job: u32) -> Result<Option<Texts>> {
    if names(environment).next().is_none() {
        return Ok(None);
    }
    let id = job.to_string();
    let number = environment.iter().find_map(|(name, value)| {
        let group = name.to_str()?.strip_prefix("SLURM_JOB_ID")?;
        let number = group.strip_prefix(GROUP).or_else(|| group.strip_prefix(OLD_GROUP))?;
        (*value == id.as_str()).then(|| number.parse::<u32>().ok())?
    });
    // Not the first one's image, and not the host, because something is missing.
    let number = number.ok_or_else(|| {
        Error::user(format!(
            "the components of this heterogeneous job have images of their own, and none of \
             SLURM_JOB_ID_HET_GROUP_… says which of them job {id} is"
        ))
        .hint("start the step with --image, or leave Slurm's variables as they are")
    })?;
    let mut texts = Texts::default();
    for word in Word::ALL {
        let wanted = variable(word, number);
        let found = names(environment).find(|(name, _)| *name == wanted);
        let text = found.map(|(name, value)| value.to_str().ok_or(name)).transpose();
        let text = text.map_err(|name| {
            Error::user(format!("{name} is not UTF-8 text")).hint("type the option again")
        })?;
        texts.set(word, text.map(str::to_owned));
    }
    Ok((!texts.is_empty()).then_some(texts))
}

/// Whether any component names an image: then each may be the one.
pub(crate) fn any_names_image(spank: &Spank<'_>) -> bool {
    spank.context() == Context::Remote
        && spank.job_environment().is_ok_and(|environment| {
            names(&environment).any(|(name, value)| {
                name.starts_with(Word::Image.variable()) && !value.is_empty() && value != "none"
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(variables: &[(&'a str, &'a str)]) -> Vec<(&'a OsStr, &'a OsStr)> {
        variables.iter().map(|(name, value)| (OsStr::new(*name), OsStr::new(*value))).collect()
    }

    const JOBS: [(&str, &str); 3] = [
        ("SLURM_JOB_ID_HET_GROUP_0", "70"),
        ("SLURM_JOB_ID_HET_GROUP_1", "71"),
        ("SLURM_JOB_ID_PACK_GROUP_2", "72"),
    ];

    #[test]
    fn a_component_is_found_by_its_job_and_has_its_own_request_whole() {
        let asked = [
            ("SLURM_SHIFTER_IMAGE", "a:1"),
            ("SLURM_SHIFTER_MODULE", "m"),
            ("SLURM_SHIFTER_IMAGE_HET_GROUP_1", "b:1"),
            ("SLURM_SHIFTER_VOLUME_HET_GROUP_1", "/x:/y"),
            ("SLURM_SHIFTER_IMAGE_HET_GROUP_2", "none"),
        ];
        let environment = environment(&[&JOBS[..], &asked[..]].concat());
        assert_eq!(own(&environment, 70).unwrap(), None);
        assert_eq!(own(&environment, 71).unwrap(), Some(Texts::of("b:1", "/x:/y", "")));
        assert_eq!(own(&environment, 72).unwrap(), Some(Texts::of("none", "", "")));
    }

    #[test]
    fn a_component_that_cannot_be_told_is_an_error_never_the_first_ones_image() {
        let asked = [("SLURM_SHIFTER_IMAGE_HET_GROUP_1", "b:1")];
        for job in [1, 73] {
            let error = own(&environment(&[&JOBS[..], &asked[..]].concat()), job).unwrap_err();
            assert!(error.to_string().contains("which of them job"), "{error}");
        }
        own(&environment(&asked), 71).unwrap_err();
        // Where all have the same, nobody asks.
        assert_eq!(own(&environment(&[("SLURM_SHIFTER_IMAGE", "a:1")]), 71).unwrap(), None);
    }

    #[test]
    fn other_variables_of_components_are_slurms() {
        let others = environment(&[("SLURM_JOB_NAME_HET_GROUP_1", "x"), ("SLURM_SHIFTER_X", "y")]);
        assert_eq!(names(&others).count(), 0);
    }
}
