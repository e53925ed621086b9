//! Which of the host's libraries the image gets, and where; or why the module does not suit it.

use std::collections::BTreeMap;

use udi::{Error, GuestPath, Need, Plan, Replacement, Result, Version, is_glibc};

use super::ADDED;
use super::host::{CRYPT, Gathered, HostLibrary, Places};
use super::image::{Found, OfImage};

/// What is decided.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Where which library of the host goes.
    pub(super) placed: Places,
    /// Whether some are where the image's loader does not look by itself.
    pub(super) adds: bool,
    /// What the administrator may want to know.
    pub(super) notes: Vec<String>,
}

pub(super) fn choose(host: &Gathered, image: &OfImage<'_>, plan: &Plan) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    for (replacement, soname) in plan.libraries.iter().zip(&host.replacements) {
        chosen.replace(replacement, soname, host, image)?;
    }
    chosen.add_dependencies(host, image)?;
    chosen.settle_glibc(host, image, plan)?;
    Ok(chosen)
}

impl Chosen {
    /// Puts a library in the place of the image's, if its ABI is that one or later.
    fn replace(
        &mut self,
        wanted: &Replacement,
        soname: &str,
        host: &Gathered,
        image: &OfImage<'_>,
    ) -> Result<()> {
        let Some(library) = host.libraries.get(soname) else {
            return Err(Error::bug(format!("nobody opened {soname}")));
        };
        let module = &wanted.module;
        let found = image.find(soname)?;
        if found.is_empty() && wanted.optional {
            return Ok(());
        }
        if found.is_empty() {
            return Err(lacks(module, soname, image));
        }
        for of_image in &found {
            check_abi(module, soname, library, of_image)?;
        }
        self.put(soname, found);
        Ok(())
    }

    fn put(&mut self, soname: &str, found: Vec<Found>) {
        self.placed.insert(soname.to_owned(), found.into_iter().map(|it| it.path).collect());
    }

    /// Adds what the chosen need: what the image lacks, and what it has without all that they take
    /// of the host's. The rest stays the image's.
    fn add_dependencies(&mut self, host: &Gathered, image: &OfImage<'_>) -> Result<()> {
        // Each round looks at what the last one added, which may need more of what was fine.
        loop {
            let before = self.placed.len();
            for (soname, versions) in self.needed(host) {
                let Some(library) = host.libraries.get(&soname) else { continue };
                if self.placed.contains_key(&soname) || is_glibc(&soname) {
                    continue;
                }
                let found = image.find(&soname)?;
                let symbols = self.symbols_of(library, &soname, host);
                let serves = |of_image: &Found| {
                    versions.iter().all(|version| of_image.defines.contains(version))
                        && image.defines(of_image, &symbols)
                };
                if found.is_empty() {
                    self.add(&soname)?;
                } else if !found.iter().all(serves) {
                    self.put(&soname, found);
                }
            }
            if self.placed.len() == before {
                return Ok(());
            }
        }
    }

    /// The symbols of `library` that the chosen take of it.
    fn symbols_of<'a>(
        &self,
        library: &'a HostLibrary,
        soname: &str,
        host: &Gathered,
    ) -> Vec<&'a str> {
        let chosen = self.libraries(host).map(|(_, library)| library);
        let users: Vec<_> =
            chosen.filter(|user| user.needed.iter().any(|needed| needed == soname)).collect();
        let is_needed = |symbol: &&String| {
            users.iter().any(|user| user.symbols.needed.contains(symbol.as_str()))
        };
        library.symbols.defined.iter().filter(is_needed).map(String::as_str).collect()
    }

    fn add(&mut self, soname: &str) -> Result<()> {
        self.adds = true;
        let path = GuestPath::parse(&format!("{ADDED}/{soname}"))?;
        self.placed.insert(soname.to_owned(), vec![path]);
        Ok(())
    }

    /// What the chosen need, with the versions of symbols.
    fn needed(&self, host: &Gathered) -> BTreeMap<String, Vec<String>> {
        let mut needed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, library) in self.libraries(host) {
            for soname in &library.needed {
                needed.entry(soname.clone()).or_default();
            }
            for Need { of, version } in &library.needs {
                needed.entry(of.clone()).or_default().push(version.clone());
            }
        }
        needed
    }

    /// Sees to it that the chosen have a glibc that is new enough: the image's, or the host's.
    fn settle_glibc(&mut self, host: &Gathered, image: &OfImage<'_>, plan: &Plan) -> Result<()> {
        let found = image.find("libc.so.6")?;
        let of_image = found.iter().filter_map(|libc| release(&libc.file, &libc.defines)).max();
        let of_host = host.libraries.get("libc.so.6");
        let of_host = of_host.and_then(|libc| release(&libc.file(), &libc.defines));
        let Some(of_image) = of_image.filter(|_| image.has_loader) else {
            return match self.first_module(host, plan) {
                Some((module, soname)) => Err(no_glibc(&module, &soname, image)),
                None => Ok(()),
            };
        };
        if plan.glibc.is_some() && of_host.as_ref().is_some_and(|of_host| *of_host > of_image) {
            return self.replace_glibc(host, image);
        }
        let mut lacking = None;
        for (soname, library) in self.libraries(host) {
            for Need { of, version } in library.needs.iter().filter(|need| is_glibc(&need.of)) {
                let Some(needed) = Version::of_glibc(version) else { continue };
                let found = image.find(of)?;
                let defines = |libc: &Found| libc.defines.contains(version);
                if needed > of_image || (!found.is_empty() && !found.iter().any(defines)) {
                    // If several need as much, it is the one that the module names.
                    let is_named = host.replacements.contains(soname);
                    lacking = lacking.max(Some((needed, is_named, soname.clone())));
                }
            }
        }
        let Some((needed, _, soname)) = lacking else { return Ok(()) };
        let module = self.first_module(host, plan).map(|(module, _)| module);
        Err(too_old(&module.unwrap_or_default(), &soname, &needed, &of_image))
    }

    /// The chosen, by soname.
    fn libraries<'a>(
        &'a self,
        host: &'a Gathered,
    ) -> impl Iterator<Item = (&'a String, &'a HostLibrary)> {
        self.placed.keys().filter_map(|soname| Some((soname, host.libraries.get(soname)?)))
    }

    /// The module of the first library that the image gets.
    fn first_module(&self, host: &Gathered, plan: &Plan) -> Option<(String, String)> {
        let mut wanted = plan.libraries.iter().zip(&host.replacements);
        let first = wanted.find(|(_, soname)| self.placed.contains_key(*soname))?;
        Some((first.0.module.clone(), first.1.clone()))
    }

    /// Puts the whole of the host's glibc in the place of the image's: of two releases, no two
    /// parts fit together.
    fn replace_glibc(&mut self, host: &Gathered, image: &OfImage<'_>) -> Result<()> {
        for soname in udi::GLIBC {
            let found = image.find(soname)?;
            match (host.libraries.contains_key(soname), found.is_empty()) {
                (true, false) => self.put(soname, found),
                (false, false) => self.notes.push(format!(
                    "the image's {soname} is of its own glibc, of which the host's has none: \
                     programs that use it may fail"
                )),
                _ => {}
            }
        }
        let found = image.find(CRYPT)?;
        let is_of_its_glibc = found.iter().any(|crypt| image.is_of_its_glibc(crypt));
        if is_of_its_glibc && host.libraries.contains_key(CRYPT) {
            self.put(CRYPT, found);
        }
        // What has no place in the image is added if a chosen one needs it.
        let needed = self.needed(host);
        for soname in needed.keys().filter(|name| is_glibc(name)) {
            if host.libraries.contains_key(soname) && !self.placed.contains_key(soname) {
                self.add(soname)?;
            }
        }
        Ok(())
    }
}

/// The release of glibc that a libc is of: as its file's name says, or the latest that added
/// symbols.
fn release(file: &str, defines: &[String]) -> Option<Version> {
    let of_symbols = defines.iter().filter_map(|version| Version::of_glibc(version));
    of_symbols.chain(Version::of_libc_file(file)).max()
}

/// The same soname promises that nothing was taken away; the version of the file says how much
/// was added, and a program of the image's may use all that the image's has.
fn check_abi(module: &str, soname: &str, library: &HostLibrary, of_image: &Found) -> Result<()> {
    let file = library.file();
    let (Some(host), Some(image)) = (Version::of_file(&file), Version::of_file(&of_image.file))
    else {
        return Ok(());
    };
    let (Some(had), Some(has)) = (image.minor(), host.minor()) else { return Ok(()) };
    if had <= has {
        return Ok(());
    }
    Err(Error::user(format!(
        "--module={module}: the image's {soname} has ABI version {image} ({}), and the host's, \
         which would take its place, only {host} ({}): programs of the image may need what it \
         lacks",
        of_image.path,
        library.path.display(),
    ))
    .hint(format!(
        "use an image with an older release of that library, or leave {module} out; the site can \
         offer a newer one"
    )))
}

fn lacks(module: &str, soname: &str, image: &OfImage<'_>) -> Error {
    if !image.has_loader {
        return no_glibc(module, soname, image);
    }
    let has = match image.versions_of(soname).as_slice() {
        [] => String::new(),
        others => format!(" (it has {})", others.join(", ")),
    };
    Error::user(format!(
        "--module={module}: the image has no {soname} that the host's could replace{has}"
    ))
    .hint(format!("use an image whose programs need {soname}, or leave {module} out"))
}

fn no_glibc(module: &str, soname: &str, image: &OfImage<'_>) -> Error {
    let why = match image.has_musl() {
        true => "is made with musl".to_owned(),
        false => format!("has no {}", image.platform.loader),
    };
    Error::user(format!(
        "--module={module} does not suit this image: the host's {soname} needs glibc for {}, and \
         the image {why}",
        image.platform.name
    ))
    .hint(format!(
        "use an image with glibc (of Debian, Ubuntu, Red Hat, SUSE …) for {}, or leave {module} out",
        image.platform.name
    ))
}

fn too_old(module: &str, soname: &str, needed: &Version, of_image: &Version) -> Error {
    Error::user(format!(
        "--module={module} does not suit this image: the host's {soname} needs glibc {needed}, \
         and the image has glibc {of_image}"
    ))
    .hint(format!(
        "use an image with glibc {needed} or newer, or leave {module} out; the site can set glibc \
         = true for the module, so that older images get the host's"
    ))
}

#[cfg(test)]
mod tests;
