//! The environment inside: job, image, user, modules, site; the later wins.

use std::collections::BTreeMap;

use crate::config::EnvConfig;
use crate::{Config, ImageInfo, Module};

/// One change to the job's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Set the variable to the value; an empty value is a value.
    Set(String, String),
    /// Remove the variable.
    Unset(String),
}

/// PATH of an image that names none, as Docker has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A variable `SHIFTERENV_NAME` of the job's sets NAME inside.
const FROM_USER: &str = "SHIFTERENV_";

/// By these Slurm tells a job which GPUs it has.
const OF_GPUS: [&str; 4] =
    ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"];

/// Whether an image may set the variable: who the user is, and what Slurm and the MPI
/// launcher say of the job, is not the image's to decide.
fn images_own(name: &str) -> bool {
    let of_job = ["SLURM", "SLURM_", "PMI_", "PMIX_", "SHIFTER"];
    !matches!(name, "HOME" | "USER" | "LOGNAME" | "SHELL" | "PWD")
        && !OF_GPUS.contains(&name)
        && !of_job.iter().any(|prefix| name.starts_with(prefix))
}

/// What must change in `job`'s environment for a rank inside the image.
pub fn edits(
    job: &BTreeMap<String, String>,
    image: &ImageInfo,
    modules: &[(String, &Module)],
    site: &Config,
    about: &[(&str, String)],
) -> Vec<Edit> {
    let mut inside = job.clone();
    let default_strip = [String::from("LD_*")];
    let strip = site.environment.strip.as_deref().unwrap_or(&default_strip);
    inside.retain(|name, _| !strip.iter().any(|pattern| matches(pattern, name)));
    inside.insert("PATH".into(), PATH.into());
    let own = image.variables().filter(|(name, _)| images_own(name));
    inside.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for (name, value) in job {
        if let Some(name) = name.strip_prefix(FROM_USER).filter(|name| !name.is_empty()) {
            inside.insert(name.to_owned(), value.clone());
        }
    }
    for (_, module) in modules {
        apply(&module.env, &mut inside);
    }
    apply(&site.environment, &mut inside);
    inside.extend(about.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let gone = job.keys().filter(|name| !inside.contains_key(*name)).cloned().map(Edit::Unset);
    let set = inside.iter().filter(|(name, value)| job.get(*name) != Some(value));
    gone.chain(set.map(|(name, value)| Edit::Set(name.clone(), value.clone()))).collect()
}

fn apply(change: &EnvConfig, inside: &mut BTreeMap<String, String>) {
    inside.extend(change.set.clone());
    let join = |a: &str, b: &str| match (a, b) {
        ("", one) | (one, "") => one.to_owned(),
        (a, b) => format!("{a}:{b}"),
    };
    for (name, text) in &change.prepend {
        let value = inside.entry(name.clone()).or_default();
        *value = join(text, value);
    }
    for (name, text) in &change.append {
        let value = inside.entry(name.clone()).or_default();
        *value = join(value, text);
    }
    for name in &change.unset {
        inside.remove(name);
    }
}

pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn site(environment: &str) -> Config {
        let text = format!("[store]\npath = \"/x\"\n{environment}");
        Config::parse(&text, Path::new("shifter.toml")).unwrap()
    }

    fn inside(job: &[(&str, &str)], image: &[&str], site: &Config) -> BTreeMap<String, String> {
        let mut env: BTreeMap<String, String> =
            job.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let image =
            ImageInfo { env: image.iter().map(|e| e.to_string()).collect(), ..Default::default() };
        let modules: Vec<_> = site.modules.iter().map(|(n, m)| (n.clone(), m)).collect();
        for edit in edits(&env.clone(), &image, &modules, site, &[("SHIFTER_RUNTIME", "1".into())])
        {
            match edit {
                Edit::Set(name, value) => env.insert(name, value),
                Edit::Unset(name) => env.remove(&name),
            };
        }
        env
    }

    #[test]
    fn the_image_wins_over_the_job() {
        let env = inside(&[("A", "job"), ("B", "job")], &["A=image", "C=", "D=x=y"], &site(""));
        assert_eq!((env["A"].as_str(), env["B"].as_str()), ("image", "job"));
        assert_eq!((env["C"].as_str(), env["D"].as_str()), ("", "x=y"));
    }

    #[test]
    fn path_is_the_images_never_the_hosts() {
        let job = [("PATH", "/host/bin")];
        assert_eq!(inside(&job, &["PATH=/opt/bin"], &site(""))["PATH"], "/opt/bin");
        assert_eq!(inside(&job, &[], &site(""))["PATH"], PATH);
    }

    #[test]
    fn the_image_does_not_say_who_the_user_is() {
        let job = [("HOME", "/home/alice"), ("SLURM_PROCID", "3")];
        let env = inside(&job, &["HOME=/root", "SLURM_PROCID=0", "PMI_FD=1"], &site(""));
        assert_eq!((env["HOME"].as_str(), env["SLURM_PROCID"].as_str()), ("/home/alice", "3"));
        assert!(!env.contains_key("PMI_FD"));
    }

    #[test]
    fn the_image_does_not_say_which_gpus_the_job_has() {
        let gpus =
            ["CUDA_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=all"];
        let env = inside(&[("ROCR_VISIBLE_DEVICES", "2")], &gpus, &site(""));
        assert!(env["ROCR_VISIBLE_DEVICES"] == "2" && env["NVIDIA_VISIBLE_DEVICES"] == "all");
        assert!(!env.contains_key("CUDA_VISIBLE_DEVICES"));
    }

    #[test]
    fn the_hosts_libraries_are_not_forced_on_the_image() {
        assert!(!inside(&[("LD_PRELOAD", "/x.so")], &[], &site("")).contains_key("LD_PRELOAD"));
        let kept = site("[environment]\nstrip = [\"FOO\"]");
        let env = inside(&[("LD_PRELOAD", "/x.so"), ("FOO", "1"), ("FOOD", "2")], &[], &kept);
        assert!(
            env.contains_key("LD_PRELOAD") && !env.contains_key("FOO") && env.contains_key("FOOD")
        );
    }

    #[test]
    fn user_then_modules_then_site_have_the_last_word() {
        let site = site(
            "[environment]\nset = { S = \"site\" }\nunset = [\"GONE\"]
             [modules.m.env]\nset = { S = \"module\", M = \"module\" }
             prepend = { LD_LIBRARY_PATH = \"/opt/mpi/lib\", M = \"first\" }\nappend = { PATH = \"/opt/bin\" }",
        );
        let job = [
            ("SHIFTERENV_S", "user"),
            ("SHIFTERENV_U", "user"),
            ("SHIFTERENV_PATH", "/u"),
            ("GONE", "x"),
        ];
        let env = inside(&job, &["U=image", "M=image"], &site);
        assert_eq!((env["S"].as_str(), env["U"].as_str()), ("site", "user"));
        assert_eq!((env["M"].as_str(), env["PATH"].as_str()), ("first:module", "/u:/opt/bin"));
        assert_eq!(env["LD_LIBRARY_PATH"], "/opt/mpi/lib");
        assert!(!env.contains_key("GONE"));
        assert_eq!(env["SHIFTER_RUNTIME"], "1");
    }
}
