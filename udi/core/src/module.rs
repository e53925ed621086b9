//! Site modules: named bundles of mounts and environment that users ask for by `--module`.

use serde::Deserialize;
use std::collections::BTreeMap;

use crate::config::{EnvConfig, SiteMount};
use crate::{Error, GuestPath, Library, Result};

/// `[modules.NAME]` of the site's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Module {
    /// One sentence for users.
    pub description: String,
    /// Host directories and files that appear inside.
    pub mount: Vec<SiteMount>,
    /// What it changes in the environment.
    pub env: EnvConfig,
    /// Modules that cannot be used together with this one.
    pub conflicts: Vec<String>,
    /// Modules that come along with this one.
    pub requires: Vec<String>,
    /// Directories, as seen inside, whose libraries the image's loader finds before its own.
    pub ldcache: Vec<GuestPath>,
    /// Libraries of the host that take the place of the image's.
    pub library: Vec<Library>,
    /// Whether an image with an older glibc gets the host's.
    pub glibc: bool,
    /// Whether jobs get it that name no module.
    pub default: bool,
}

/// The modules a job gets, in order: the asked ones each preceded by what they require, or
/// the site's defaults if none was asked for; `none` switches the defaults off.
pub fn select(asked: &[String], site: &BTreeMap<String, Module>) -> Result<Vec<String>> {
    let mut chosen = Vec::new();
    let defaults: Vec<String>;
    let wanted = if asked.is_empty() {
        defaults = site.iter().filter(|(_, m)| m.default).map(|(name, _)| name.clone()).collect();
        &defaults
    } else {
        asked
    };
    for name in wanted.iter().filter(|name| *name != "none") {
        add(name, site, &mut chosen)?;
    }
    for (at, name) in chosen.iter().enumerate() {
        let conflicts = site.get(name).map(|m| m.conflicts.as_slice()).unwrap_or_default();
        let mut rest = chosen.iter().enumerate().filter(|(other, _)| *other != at);
        if let Some((_, other)) = rest.find(|(_, n)| conflicts.contains(n)) {
            return Err(Error::user(format!("--module: {name} and {other} exclude each other"))
                .hint(format!("ask for {name} or for {other}")));
        }
    }
    Ok(chosen)
}

fn add(name: &str, site: &BTreeMap<String, Module>, chosen: &mut Vec<String>) -> Result<()> {
    let Some(module) = site.get(name) else {
        let known: Vec<&str> = site.keys().map(String::as_str).collect();
        let hint = match known.as_slice() {
            [] => "this site has no modules".to_owned(),
            known => format!("this site has: {}", known.join(", ")),
        };
        return Err(Error::user(format!("--module={name}: no such module")).hint(hint));
    };
    if chosen.iter().any(|c| c == name) {
        return Ok(());
    }
    // Marked before its requirements are walked, so that a circle of them ends.
    let at = chosen.len();
    chosen.push(name.to_owned());
    for required in &module.requires {
        add(required, site, chosen)?;
    }
    let own = chosen.remove(at);
    chosen.push(own);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> BTreeMap<String, Module> {
        let module = |requires: &[&str], conflicts: &[&str], default| Module {
            requires: requires.iter().map(|s| s.to_string()).collect(),
            conflicts: conflicts.iter().map(|s| s.to_string()).collect(),
            default,
            ..Module::default()
        };
        BTreeMap::from([
            ("cvmfs".into(), module(&[], &[], true)),
            ("gpu".into(), module(&["driver"], &[], false)),
            ("driver".into(), module(&["gpu"], &[], false)),
            ("mpich".into(), module(&[], &["openmpi"], false)),
            ("openmpi".into(), module(&[], &[], false)),
        ])
    }

    fn chosen(asked: &[&str]) -> Result<Vec<String>> {
        select(&asked.iter().map(|s| s.to_string()).collect::<Vec<_>>(), &site())
    }

    #[test]
    fn defaults_apply_until_something_is_asked_for() {
        assert_eq!(chosen(&[]).unwrap(), ["cvmfs"]);
        assert_eq!(chosen(&["none"]).unwrap(), [""; 0]);
        assert_eq!(chosen(&["mpich"]).unwrap(), ["mpich"]);
    }

    #[test]
    fn what_a_module_requires_comes_before_it() {
        assert_eq!(chosen(&["gpu", "gpu"]).unwrap(), ["driver", "gpu"]);
    }

    #[test]
    fn unknown_and_conflicting_modules_are_explained() {
        let unknown = chosen(&["cuda"]).unwrap_err().to_string();
        assert!(
            unknown.contains("--module=cuda: no such module\nhint: this site has: cvmfs, "),
            "{unknown}"
        );
        for pair in [["mpich", "openmpi"], ["openmpi", "mpich"]] {
            assert!(chosen(&pair).unwrap_err().to_string().contains("exclude each other"));
        }
    }
}
