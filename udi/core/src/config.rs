//! The site's configuration, `shifter.toml`.

mod images;
mod inside;
mod node;
mod volumes;

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

use crate::{Error, Module, Names, Result};

pub use images::{
    BlockSize, Compression, CompressionLevel, Extra, ImageFormat, ImageType, ImagesConfig, Modes,
    Owners, RegistryRule, StoreConfig,
};
pub use inside::{Batch, EnvConfig, EtcConfig, Home, InsideConfig, Scratch, SiteMount, Workdir};
pub use node::{Hook, HooksConfig, NodeConfig};
pub use volumes::{CacheConfig, LimitsConfig, VolumesConfig};

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
    /// The site's programs around the staging of a UDI.
    #[serde(default)]
    pub hooks: HooksConfig,
    /// How the inside is arranged.
    #[serde(default)]
    pub inside: InsideConfig,
    /// Which files of `/etc` come from the site.
    #[serde(default)]
    pub etc: EtcConfig,
    /// Host directories and files that every image gets.
    #[serde(default)]
    pub mount: Vec<SiteMount>,
    /// What users may mount.
    #[serde(default)]
    pub volumes: VolumesConfig,
    /// Per-node caches.
    #[serde(default)]
    pub cache: CacheConfig,
    /// How much one request may have.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// What the site changes in the environment.
    #[serde(default)]
    pub environment: EnvConfig,
    /// Site modules by name.
    #[serde(default)]
    pub modules: BTreeMap<String, Module>,
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
        for directory in &self.cache.directories {
            absolute("cache.directories", directory)?;
        }
        for source in self.etc.replace.values() {
            absolute("etc.replace", source)?;
        }
        for hook in self.hooks.before.iter().chain(&self.hooks.after) {
            absolute("hooks.command", Path::new(hook.command.first().map_or("", |c| c)))?;
            if hook.timeout == 0 {
                return Err("hooks.timeout: 0 leaves no time".into());
            }
        }
        if let Some(rule) = self.registry.iter().find(|rule| rule.fallback && rule.mirror.is_none())
        {
            return Err(format!("registry {}: fallback: there is no mirror", rule.prefix));
        }
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
        let source = concat!(
            include_str!("config/images.rs"),
            include_str!("config/inside.rs"),
            include_str!("config/node.rs"),
            include_str!("config/volumes.rs"),
        );
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
