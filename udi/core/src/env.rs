//! The environment inside: job, image, user, modules, site; the later wins.
//!
//! Names and values are bytes, as they are to the kernel: what is not text counts all the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::config::EnvConfig;
use crate::{Config, ImageInfo};

/// One change to the job's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Set the variable to the value; an empty value is a value.
    Set(Vec<u8>, Vec<u8>),
    /// Remove the variable.
    Unset(Vec<u8>),
}

/// An environment to look things up in.
pub type Variables<'a> = BTreeMap<&'a [u8], &'a [u8]>;

/// PATH of an image that names none, as Docker has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A variable `SHIFTERENV_NAME` of the job's sets NAME inside.
const FROM_USER: &[u8] = b"SHIFTERENV_";

/// What an inside makes of the environment of any process that enters it. It is worked out once
/// for a step; each rank, whose own variables Slurm sets just before it runs, only applies it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Patterns of the job's variables that do not get in.
    strip: Vec<String>,
    /// The image's variables, and a PATH.
    image: BTreeMap<String, String>,
    /// What modules and site do, with the last word.
    last: BTreeMap<String, Change>,
}

/// What becomes of a variable, whatever it was.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Set(String),
    Unset,
    /// Text before and after what it was, with colons between.
    Around(String, String),
}

/// By these Slurm tells a job which GPUs it has.
const OF_GPUS: [&str; 4] =
    ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"];

/// Whether an image may set the variable: who the user is, and what Slurm and the MPI
/// launcher say of the job, is not the image's to decide.
fn images_own(name: &str) -> bool {
    let of_job = ["SLURM", "PMI_", "PMIX_", "SHIFTER"];
    !matches!(name, "HOME" | "USER" | "LOGNAME" | "SHELL" | "PWD")
        && !OF_GPUS.contains(&name)
        && !of_job.iter().any(|prefix| name.starts_with(prefix))
}

impl Environment {
    /// For `image` at `site`. `modules` are the changes of modules, in order; `about` is what is
    /// said of the image, or that nothing is, and nobody can change.
    pub fn new<'a>(
        image: &ImageInfo,
        modules: impl IntoIterator<Item = &'a EnvConfig>,
        site: &'a Config,
        about: &[(&str, Option<String>)],
    ) -> Self {
        let strip = site.environment.strip.clone().unwrap_or_else(|| vec!["LD_*".into()]);
        let own = image.variables().filter(|(name, _)| images_own(name));
        let path = std::iter::once(("PATH", PATH));
        let image = path.chain(own).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut environment = Self { strip, image: image.collect(), last: BTreeMap::new() };
        for changes in modules.into_iter().chain([&site.environment]) {
            environment.add(changes);
        }
        for (name, text) in about {
            let change = text.clone().map_or(Change::Unset, Change::Set);
            environment.last.insert((*name).to_owned(), change);
        }
        environment
    }

    /// Changes behind those there are: they count more.
    fn add(&mut self, changes: &EnvConfig) {
        let sets = changes.set.iter();
        self.last.extend(sets.map(|(name, value)| (name.clone(), Change::Set(value.clone()))));
        for (name, text) in &changes.prepend {
            let change = self.last.entry(name.clone()).or_insert_with(Change::none);
            change.surround(text, "");
        }
        for (name, text) in &changes.append {
            let change = self.last.entry(name.clone()).or_insert_with(Change::none);
            change.surround("", text);
        }
        for name in &changes.unset {
            self.last.insert(name.clone(), Change::Unset);
        }
    }

    /// The whole environment inside, for a process that has `job` outside.
    pub fn inside<'a>(&'a self, job: &Variables<'a>) -> BTreeMap<&'a [u8], Cow<'a, [u8]>> {
        let gets_in = |name: &[u8]| !self.strip.iter().any(|pattern| matches(pattern, name));
        let mut inside: BTreeMap<&[u8], Cow<'_, [u8]>> = BTreeMap::new();
        let of_job = job.iter().filter(|(name, _)| gets_in(name));
        inside.extend(of_job.map(|(name, value)| (*name, Cow::Borrowed(*value))));
        let of_image = self.image.iter();
        inside.extend(
            of_image.map(|(name, value)| (name.as_bytes(), Cow::Borrowed(value.as_bytes()))),
        );
        for (name, value) in job {
            if let Some(name) = name.strip_prefix(FROM_USER).filter(|name| !name.is_empty()) {
                inside.insert(name, Cow::Borrowed(value));
            }
        }
        for (name, change) in &self.last {
            let name = name.as_bytes();
            match change {
                Change::Set(value) => {
                    inside.insert(name, Cow::Borrowed(value.as_bytes()));
                }
                Change::Unset => {
                    inside.remove(name);
                }
                Change::Around(before, after) => {
                    let value = inside.get(name).map(AsRef::as_ref).unwrap_or_default();
                    let value = join(&join(before.as_bytes(), value), after.as_bytes());
                    inside.insert(name, Cow::Owned(value));
                }
            }
        }
        inside
    }

    /// What must change in `job`, the environment that a process has outside.
    pub fn edits(&self, job: &Variables<'_>) -> Vec<Edit> {
        let inside = self.inside(job);
        let gone = job.keys().filter(|name| !inside.contains_key(*name));
        let set = inside.iter().filter(|(name, value)| job.get(*name) != Some(&value.as_ref()));
        gone.map(|name| Edit::Unset(name.to_vec()))
            .chain(set.map(|(name, value)| Edit::Set(name.to_vec(), value.to_vec())))
            .collect()
    }
}

impl Change {
    fn none() -> Self {
        Self::Around(String::new(), String::new())
    }

    fn surround(&mut self, before: &str, after: &str) {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let around =
            |was: &str| text(join(&join(before.as_bytes(), was.as_bytes()), after.as_bytes()));
        *self = match self {
            Self::Set(value) => Self::Set(around(value)),
            Self::Unset => Self::Set(around("")),
            Self::Around(was_before, was_after) => Self::Around(
                text(join(before.as_bytes(), was_before.as_bytes())),
                text(join(was_after.as_bytes(), after.as_bytes())),
            ),
        };
    }
}

/// With a colon between, where both are something.
fn join(a: &[u8], b: &[u8]) -> Vec<u8> {
    match (a, b) {
        ([], one) | (one, []) => one.to_vec(),
        (a, b) => [a, b].join(&b':'),
    }
}

pub(crate) fn matches(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    const ABOUT: [(&str, Option<&str>); 2] =
        [("SHIFTER_RUNTIME", Some("1")), ("SHIFTER_MODULES", None)];

    fn site(environment: &str) -> Config {
        let text = format!("[store]\npath = \"/x\"\n{environment}");
        Config::parse(&text, Path::new("shifter.toml")).unwrap()
    }

    fn environment(image: &[&str], site: &Config) -> Environment {
        let image =
            ImageInfo { env: image.iter().map(|e| e.to_string()).collect(), ..Default::default() };
        let modules = site.modules.values().map(|module| &module.env);
        Environment::new(
            &image,
            modules,
            site,
            &ABOUT.map(|(name, text)| (name, text.map(String::from))),
        )
    }

    fn variables<'a>(pairs: &[(&'a str, &'a str)]) -> Variables<'a> {
        pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
    }

    /// What a process finds that had `job`, once the edits are made.
    fn inside(job: &[(&str, &str)], image: &[&str], site: &Config) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut env: BTreeMap<_, _> =
            job.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        for edit in environment(image, site).edits(&variables(job)) {
            match edit {
                Edit::Set(name, value) => env.insert(text(&name), text(&value)),
                Edit::Unset(name) => env.remove(&text(&name)),
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
    fn what_is_not_text_counts_all_the_same() {
        let environment = environment(&[], &site(""));
        let job: Variables<'_> = [
            (&b"LD_PRELOAD"[..], &b"/\xff.so"[..]),
            (b"LD_\xff", b"x"),
            (b"SHIFTERENV_X", b"\xff"),
            (b"ODD\xff", b"kept"),
        ]
        .into();
        let edits = environment.edits(&job);
        let unset = |name: &[u8]| edits.contains(&Edit::Unset(name.to_vec()));
        assert!(unset(b"LD_PRELOAD") && unset(b"LD_\xff") && !unset(b"ODD\xff"), "{edits:?}");
        assert!(edits.contains(&Edit::Set(b"X".to_vec(), b"\xff".to_vec())), "{edits:?}");
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

    #[test]
    fn nobody_else_says_what_is_said_of_the_image() {
        let site = site(
            "[environment]\nset = { SHIFTER_RUNTIME = \"0\", SHIFTER_MODULES = \"s@1\" }
             [modules.m.env]\nappend = { SHIFTER_MODULES = \"m@1\" }",
        );
        let job = [("SHIFTER_MODULES", "j@1"), ("SHIFTERENV_SHIFTER_MODULES", "u@1")];
        let env = inside(&job, &["SHIFTER_RUNTIME=2"], &site);
        assert_eq!(env["SHIFTER_RUNTIME"], "1");
        assert!(!env.contains_key("SHIFTER_MODULES"), "{env:?}");
    }

    #[test]
    fn changes_of_modules_and_site_add_up_around_what_each_rank_has() {
        let site = site(
            "[environment]\nprepend = { V = \"s1\" }\nappend = { V = \"s2\", NEW = \"s\" }
             [modules.a.env]\nprepend = { V = \"a1\", NEW = \"a\" }\nunset = [\"W\"]
             [modules.b.env]\nappend = { V = \"b2\", W = \"b\" }",
        );
        for (rank, expected) in [("0", "s1:a1:0:b2:s2"), ("", "s1:a1:b2:s2")] {
            let env = inside(&[("V", rank), ("W", "job")], &[], &site);
            assert_eq!(env["V"], expected);
            assert_eq!((env["W"].as_str(), env["NEW"].as_str()), ("b", "a:s"));
        }
    }

    proptest! {
        #[test]
        fn what_is_inside_needs_no_change(
            job in prop::collection::btree_map("[A-Z_]{1,8}", "\\PC{0,8}", 0..8),
            image in prop::collection::vec("[A-Z_]{1,8}=\\PC{0,8}", 0..8),
        ) {
            let site = site("[environment]\nset = { S = \"s\" }\nstrip = [\"A*\"]");
            let image: Vec<&str> = image.iter().map(String::as_str).collect();
            let job: Vec<_> = job.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let once = inside(&job, &image, &site);
            let again: Vec<_> = once.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            // The image's own that the site would strip from the job are the exception.
            let stripped = image.iter().any(|entry| entry.starts_with('A'));
            prop_assert!(stripped || inside(&again, &image, &site) == once);
        }
    }
}
