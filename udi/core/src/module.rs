//! Site modules: named bundles of mounts, files, environment and hooks that users ask for by
//! `--module`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::cdi::{DeviceName, Devices};
use crate::config::{EnvConfig, Libc, ModuleHooks, SiteCopy, SiteMount};
use crate::{Error, GuestPath, Library, Result};

/// `[modules.NAME]` of the site's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Module {
    /// One sentence for users.
    pub description: String,
    /// Host directories and files that appear inside.
    pub mount: Vec<SiteMount>,
    /// Host files that are copied over the image's.
    pub copy: Vec<SiteCopy>,
    /// What it changes in the environment.
    pub env: EnvConfig,
    /// Programs that run for it.
    pub hooks: ModuleHooks,
    /// Accounts that the `passwd` and `group` inside have because of it.
    pub users: Vec<String>,
    /// Architectures, as images name them, of the images that it suits; all if empty.
    pub arch: Vec<String>,
    /// The C library of the images that it suits.
    pub libc: Option<Libc>,
    /// Devices that it brings, as their vendors' specs (CDI) on the node describe them.
    pub cdi: Vec<DeviceName>,
    /// Hooks of those specs that programs do without.
    pub cdi_without: Vec<String>,
    /// What the specs say; nothing until the node has read them.
    #[serde(skip)]
    pub devices: Option<Devices>,
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
    /// What the configuration says of it.
    #[serde(skip)]
    pub(crate) definition: Definition,
}

/// A module's table as the site wrote it, without the spelling: blanks, comments and the order of
/// keys are no part of it, nor are defaults. It serializes to what its hash is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Definition(toml::Table);

// No key of a module takes a number that is not equal to itself.
impl Eq for Definition {}

impl Definition {
    /// The tables of all modules in the text of a `shifter.toml`, which was parsed before.
    pub(crate) fn all(text: &str) -> BTreeMap<String, Self> {
        #[derive(Default, Deserialize)]
        struct Tables {
            #[serde(default)]
            modules: BTreeMap<String, toml::Table>,
        }
        let tables: Tables = toml::from_str(text).unwrap_or_default();
        tables.modules.into_iter().map(|(name, table)| (name, Self(table))).collect()
    }
}

impl Module {
    /// What the site's configuration says of it.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Takes what the node's specs say of its devices. What the module itself says of a variable
    /// counts more, and its own directories of libraries come first.
    pub fn bring(&mut self, devices: Devices) {
        let variables: BTreeMap<_, _> = devices.env.iter().cloned().collect();
        for (name, value) in variables {
            self.env.set.entry(name).or_insert(value);
        }
        self.ldcache.extend(devices.libraries.clone());
        self.devices = Some(devices);
    }

    /// What is wrong with it, in words that begin with the key.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        for copy in &self.copy {
            let to = copy.target().map_err(|e| format!("copy.to: {}", e.what()))?;
            if to.as_str() == "/" {
                return Err("copy.to: /: not a file".into());
            }
        }
        let copies = self.copy.iter().filter_map(|copy| copy.target().ok());
        let mounts = self.mount.iter().filter_map(|mount| mount.target().ok());
        let its_own = GuestPath::parse("/.shifter").map_err(|e| e.what())?;
        if let Some(to) = mounts.chain(copies).find(|to| to.is_within(&its_own)) {
            return Err(format!("{to}: what is in {its_own} the image says of itself"));
        }
        if self.env.strip.is_some() {
            return Err("env.strip: only for [environment]".into());
        }
        let is_name = |arch: &&String| {
            !arch.is_empty() && arch.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match self.arch.iter().find(|arch| !is_name(arch)) {
            Some(arch) => Err(format!("arch: {arch}: not an architecture such as \"amd64\"")),
            None => Ok(()),
        }
    }

    /// All programs that run for it.
    pub(crate) fn all_hooks(&self) -> impl Iterator<Item = &crate::Hook> {
        self.hooks.before.iter().chain(&self.hooks.after).chain(&self.hooks.user)
    }
}

/// What counts of a list of modules, with `,` between: `none` takes away those that stand before
/// it, and remains only if none is behind it.
pub fn after_none(list: &str) -> String {
    let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let none = names.iter().rposition(|name| *name == "none");
    match none.and_then(|none| names.get(none + 1..)) {
        None => names.join(","),
        Some([]) => "none".into(),
        Some(behind) => behind.join(","),
    }
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
        assert_eq!(chosen(&["none", "mpich"]).unwrap(), ["mpich"]);
        assert_eq!(chosen(&["mpich"]).unwrap(), ["mpich"]);
    }

    #[test]
    fn none_takes_away_what_stands_before_it() {
        for (list, counts) in [
            ("", ""),
            ("a, b", "a,b"),
            ("a,none,", "none"),
            ("none,a", "a"),
            ("a,none,b,none ,c", "c"),
            ("nonesuch", "nonesuch"),
        ] {
            assert_eq!(after_none(list), counts);
        }
    }

    #[test]
    fn what_a_module_requires_comes_before_it() {
        assert_eq!(chosen(&["gpu", "gpu"]).unwrap(), ["driver", "gpu"]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_key() {
        for (text, why) in [
            ("copy = [{ from = \"x\" }]", "copy.from: x: not an absolute path"),
            ("copy = [{ from = \"/x\", to = \"/../y\" }]", ".."),
            ("copy = [{ from = \"/x\", to = \"/\" }]", "modules.m.copy.to: /: not a file"),
            ("copy = [{ from = \"/x\", to = \"/.shifter/image.json\" }]", "modules.m./.shifter"),
            ("mount = [{ from = \"/x\", to = \"/.shifter\" }]", "the image says of itself"),
            ("copy = [{ from = \"/x\", mode = \"4755\" }]", "4755: not permissions"),
            ("copy = [{ from = \"/x\", mode = \"788\" }]", "788: not permissions"),
            ("copy = [{ from = \"/x\", mode = \"+11\" }]", "+11: not permissions"),
            ("hooks.user = [{ command = [\"check\"] }]", "check: not an absolute path"),
            ("hooks.before = [{ command = [] }]", "not an absolute path"),
            ("hooks.after = [{ command = [\"/x\"], timeout = 0 }]", "0 leaves no time"),
            ("hooks.during = []", "unknown field `during`"),
            ("libc = \"uclibc\"", "unknown variant `uclibc`"),
            ("arch = [\"x86-64\"]", "x86-64: not an architecture"),
            ("env.strip = [\"A\"]", "modules.m.env.strip: only for [environment]"),
        ] {
            let text = format!("[store]\npath = \"/x\"\n[modules.m]\n{text}");
            let error = crate::Config::parse(&text, std::path::Path::new("shifter.toml"));
            let error = error.unwrap_err().what();
            assert!(error.contains(why), "{text}: {error}");
        }
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
