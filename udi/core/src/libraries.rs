//! What a module gives the image's dynamic loader: the site's wish, and its part of a plan.

use serde::Deserialize;
use std::path::PathBuf;

use crate::{GuestPath, Module};

/// `[[modules.NAME.library]]`: a library of the host that takes the place of the image's of the
/// same soname, if it fits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// The host's file.
    pub from: PathBuf,
    /// Whether an image without such a library is fine; then it gets none.
    #[serde(default)]
    pub optional: bool,
}

/// A directory whose libraries the image's loader finds before its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ldcache {
    /// The directory, as seen inside with all mounts of the site's.
    pub directory: GuestPath,
    /// The module that brings it.
    pub module: String,
}

/// A library of the host for a plan: see [`Library`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The host's file.
    pub from: PathBuf,
    /// Whether an image without such a library is fine.
    pub optional: bool,
    /// The module that brings it.
    pub module: String,
}

/// The directories of all modules, in order: the first one's libraries win.
pub(crate) fn directories(modules: &[(String, &Module)]) -> Vec<Ldcache> {
    let of = |(name, module): &(String, &Module)| {
        let name = name.clone();
        let directories = module.ldcache.clone().into_iter();
        directories.map(move |directory| Ldcache { directory, module: name.clone() })
    };
    modules.iter().flat_map(of).collect()
}

/// The replacements of all modules, in order.
pub(crate) fn replacements(modules: &[(String, &Module)]) -> Vec<Replacement> {
    let of = |(name, module): &(String, &Module)| {
        let name = name.clone();
        let libraries = module.library.clone().into_iter();
        libraries.map(move |Library { from, optional }| Replacement {
            from,
            optional,
            module: name.clone(),
        })
    };
    modules.iter().flat_map(of).collect()
}

/// The first module that gives older images the host's glibc.
pub(crate) fn glibc(modules: &[(String, &Module)]) -> Option<String> {
    modules.iter().find(|(_, module)| module.glibc).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use std::path::Path;

    #[test]
    fn modules_give_the_loader_what_they_bring_in_their_order() {
        let text = "[store]\npath = \"/x\"
            [modules.a]\nldcache = [\"/a/1\", \"/a/2\"]
            [modules.b]\nldcache = [\"/b\"]\nglibc = true
            [[modules.b.library]]\nfrom = \"/usr/lib/libmpi.so.12\"";
        let site = Config::parse(text, Path::new("shifter.toml")).unwrap();
        let modules = ["b", "a"].map(|name| (name.to_owned(), &site.modules[name]));
        let found = directories(&modules);
        let found: Vec<_> =
            found.iter().map(|it| (it.module.as_str(), it.directory.as_str())).collect();
        assert_eq!(found, [("b", "/b"), ("a", "/a/1"), ("a", "/a/2")]);
        let (from, module) = ("/usr/lib/libmpi.so.12".into(), "b".into());
        assert_eq!(replacements(&modules), [Replacement { from, optional: false, module }]);
        assert_eq!(glibc(&modules).as_deref(), Some("b"));
        let relative = text.replace("/usr/lib/libmpi", "libmpi");
        let error = Config::parse(&relative, Path::new("shifter.toml")).unwrap_err().what();
        assert!(error.contains("library.from: libmpi.so.12: not an absolute path"), "{error}");
    }
}
