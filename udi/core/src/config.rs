//! The site's configuration, `shifter.toml`.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, GuestPath, Module, Names, Result};

/// Everything the site decides. Every key but `store.path` has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The image store.
    pub store: StoreConfig,
    /// What image names mean.
    #[serde(default)]
    pub images: ImagesConfig,
    /// Mirrors and exceptions for registries; the longest matching prefix wins.
    #[serde(default)]
    pub registry: Vec<RegistryRule>,
    /// How nodes work.
    #[serde(default)]
    pub node: NodeConfig,
    /// Which files of `/etc` come from the site.
    #[serde(default)]
    pub etc: EtcConfig,
    /// Host directories and files that every image gets.
    #[serde(default)]
    pub mount: Vec<SiteMount>,
    /// What users may mount.
    #[serde(default)]
    pub volumes: VolumesConfig,
    /// What the site changes in the environment.
    #[serde(default)]
    pub environment: EnvConfig,
    /// Site modules by name.
    #[serde(default)]
    pub modules: BTreeMap<String, Module>,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The store's directory on the shared file system.
    pub path: PathBuf,
    /// The account that owns everything in it, and nothing else.
    #[serde(default = "default_owner")]
    pub owner: String,
}

fn default_owner() -> String {
    "shifter".into()
}

/// `[images]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesConfig {
    /// The registry of a name without one.
    pub default_registry: String,
    /// The tag of a name without one.
    pub default_tag: String,
    /// The nodes' platform, `os/architecture[/variant]`.
    pub platform: String,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            default_registry: "docker.io".into(),
            default_tag: "latest".into(),
            platform: "linux/amd64".into(),
        }
    }
}

/// `[[registry]]`: how images below a prefix are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryRule {
    /// `REGISTRY[/PATH]`, compared by component.
    pub prefix: String,
    /// `REGISTRY[/PATH]` to ask instead: the site's mirror.
    #[serde(default)]
    pub mirror: Option<String>,
    /// Whether to talk plain HTTP.
    #[serde(default)]
    pub http: bool,
    /// A file of certificates (PEM) to trust besides the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Seconds that an image's mount stays after its last use.
    pub image_linger: u64,
    /// How many unused image mounts may stay.
    pub image_linger_max: usize,
    /// `SlurmdSpoolDir`: the batch script and PMIx sockets are below it.
    pub spool: PathBuf,
    /// Whether root's own jobs may use images.
    pub allow_root: bool,
    /// For tests of failure only: the callback in which to panic.
    pub debug_panic: String,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            image_linger: 0,
            image_linger_max: 8,
            spool: "/var/spool/slurmd".into(),
            allow_root: false,
            debug_panic: String::new(),
        }
    }
}

/// `[etc]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcConfig {
    /// Files of the host that replace the image's of the same name, if they exist.
    pub copy: Vec<GuestPath>,
}

impl Default for EtcConfig {
    fn default() -> Self {
        let files = ["/etc/hosts", "/etc/resolv.conf", "/etc/localtime"];
        Self { copy: files.iter().filter_map(|file| GuestPath::parse(file).ok()).collect() }
    }
}

/// `[[mount]]`: a host directory or file, looked up with root's rights.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteMount {
    /// The host's path.
    pub from: PathBuf,
    /// Where it appears inside; by default at the same path.
    #[serde(default)]
    pub to: Option<GuestPath>,
    /// Whether it can only be read inside.
    #[serde(default)]
    pub read_only: bool,
    /// Whether a node without it is fine.
    #[serde(default)]
    pub optional: bool,
    /// Whether what the host mounts or unmounts below it later changes inside too.
    #[serde(default = "yes")]
    pub slave: bool,
}

fn yes() -> bool {
    true
}

impl SiteMount {
    /// Where it appears inside.
    pub fn target(&self) -> Result<GuestPath> {
        match &self.to {
            Some(to) => Ok(to.clone()),
            None => GuestPath::parse(&self.from.to_string_lossy()),
        }
    }
}

/// `[volumes]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumesConfig {
    /// Whether users may mount anything.
    pub allowed: bool,
    /// Host directories whose content users may mount.
    pub from: Vec<GuestPath>,
    /// Host directories whose content users may not mount.
    pub not_from: Vec<GuestPath>,
    /// Places inside, besides the built-in ones, that volumes may not cover.
    pub protected: Vec<GuestPath>,
}

impl Default for VolumesConfig {
    fn default() -> Self {
        Self {
            allowed: true,
            from: GuestPath::parse("/").into_iter().collect(),
            not_from: Vec::new(),
            protected: Vec::new(),
        }
    }
}

/// Changes to the environment: `[environment]`, `[modules.NAME.env]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnvConfig {
    /// Variables of the job that do not get in, by name or by prefix and `*`
    /// (`[environment]` only).
    pub strip: Option<Vec<String>>,
    /// Variables to set.
    pub set: BTreeMap<String, String>,
    /// Text to put before a variable's value, with a colon between.
    pub prepend: BTreeMap<String, String>,
    /// Text to put after a variable's value, with a colon between.
    pub append: BTreeMap<String, String>,
    /// Variables to remove.
    pub unset: Vec<String>,
}

impl Config {
    /// Where every host has it.
    pub const PATH: &str = "/etc/shifter/shifter.toml";

    /// Parses the text of a `shifter.toml`; `origin` is the name used in messages.
    pub fn parse(text: &str, origin: &Path) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = error.span().map_or((1, 1), |span| position(text, span.start));
            let message = error.message().trim();
            Error::admin(format!("{}:{line}:{column}: {message}", origin.display()))
        })?;
        config.check().map_err(|why| Error::admin(format!("{}: {why}", origin.display())))?;
        Ok(config)
    }

    /// What short image names mean here.
    pub fn names(&self) -> Names {
        Names {
            registry: self.images.default_registry.clone(),
            tag: self.images.default_tag.clone(),
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        let absolute = |key: &str, path: &Path| {
            let plain = !path.components().any(|c| c == std::path::Component::ParentDir);
            if path.is_absolute() && plain {
                Ok(())
            } else {
                Err(format!("{key}: {}: not an absolute path", path.display()))
            }
        };
        absolute("store.path", &self.store.path)?;
        absolute("node.spool", &self.node.spool)?;
        let of_modules = self.modules.values().flat_map(|module| &module.mount);
        for mount in self.mount.iter().chain(of_modules) {
            absolute("mount.from", &mount.from)?;
            mount.target().map_err(|e| format!("mount.to: {}", e.what()))?;
        }
        for (name, module) in &self.modules {
            let word = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
            if name == "none" || name.is_empty() || !name.bytes().all(word) {
                return Err(format!("modules.{name}: not a name for a module"));
            }
            for other in module.requires.iter().chain(&module.conflicts) {
                if !self.modules.contains_key(other) {
                    return Err(format!("modules.{name}: there is no module {other}"));
                }
            }
            if module.env.strip.is_some() {
                return Err(format!("modules.{name}.env.strip: only for [environment]"));
            }
        }
        Ok(())
    }
}

/// Line and column, from 1, of a byte in `text`.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = include_str!("../../../slurm-conf-examples/shifter.toml");

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("shifter.toml"))
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_and_column() {
        let error = parse("[store]\npath = \"/x\"\n  colour = 1\n").unwrap_err();
        assert_eq!(error.blame(), crate::Blame::Admin);
        assert!(error.what().starts_with("shifter.toml:3:3: unknown field `colour`"), "{error}");
    }

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let mut defaults = parse("[store]\npath = \"/shared/shifter\"\n").unwrap();
        // What is not set and what is set to nothing differ only here.
        defaults.environment.strip = Some(vec!["LD_*".into()]);
        assert_eq!(parse(EXAMPLE).unwrap(), defaults);
        let source = include_str!("config.rs").split("#[cfg(test)]").next().unwrap();
        let keys = source.lines().filter_map(|l| l.trim().strip_prefix("pub ")?.split_once(": "));
        for (key, _) in keys.filter(|(key, _)| !key.contains(' ')) {
            assert!(EXAMPLE.contains(key), "the example does not mention {key}");
        }
    }

    #[test]
    fn the_examples_commented_tables_work_when_uncommented() {
        let uncommented: Vec<&str> = EXAMPLE
            .lines()
            .map(|l| l.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(l))
            .collect();
        let config = parse(&uncommented.join("\n")).unwrap();
        assert!(
            !config.mount.is_empty() && !config.registry.is_empty() && !config.modules.is_empty()
        );
    }

    #[test]
    fn nonsense_is_named() {
        for (text, word) in [
            ("", "store"),
            ("[store]\npath = \"x\"", "store.path: x: not an absolute path"),
            ("[store]\npath = \"/x\"\n[modules.none]", "modules.none"),
            ("[store]\npath = \"/x\"\n[modules.a]\nrequires = [\"b\"]", "no module b"),
            ("[store]\npath = \"/x\"\n[[mount]]\nfrom = \"/a\"\nto = \"/../b\"", ".."),
        ] {
            let error = parse(text).unwrap_err().what();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_crash(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
