//! The host's libraries that modules give to images, with what they need of others.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use udi::{
    Elf, Error, GLIBC, GuestPath, LoaderCache, Need, Plan, Platform, Result, Symbols, is_glibc,
};

use super::{CACHE, Open, detached};
use crate::fault;
use crate::proc::Proc;

/// A library of the host.
#[derive(Debug)]
pub(super) struct HostLibrary {
    /// Where it is, without links: the file's name tells the version of the ABI.
    pub(super) path: PathBuf,
    pub(super) needed: Vec<String>,
    pub(super) needs: Vec<Need>,
    pub(super) defines: Vec<String>,
    pub(super) symbols: Symbols,
    /// Where it wants what it needs to be looked for first.
    pub(super) search: Vec<PathBuf>,
    /// Its mount, not attached anywhere; nothing where a test only wants a decision.
    pub(super) tree: Option<OwnedFd>,
}

impl HostLibrary {
    /// The name of its file.
    pub(super) fn file(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// What modules want the image to have of the host, opened, and everything that it needs.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// By soname.
    pub(super) libraries: BTreeMap<String, HostLibrary>,
    /// The soname of each of the plan's replacements, in their order.
    pub(super) replacements: Vec<String>,
}

/// Where a library goes, by its soname.
pub(super) type Places = BTreeMap<String, Vec<GuestPath>>;

/// Part of glibc once, and of libxcrypt with the same interface since.
pub(super) const CRYPT: &str = "libcrypt.so.1";

/// More than any library needs: those of MPI need some thirty.
const MOST: usize = 1024;

impl Gathered {
    /// Opens what the plan names, in the host's namespace.
    pub(crate) fn on_the_host(plan: &Plan) -> Result<Self> {
        let mut gathered = Self::default();
        let Some(platform) = Platform::of(std::env::consts::ARCH) else { return Ok(gathered) };
        if plan.libraries.is_empty() && plan.glibc.is_none() {
            return Ok(gathered);
        }
        let host = Host::look(platform)?;
        let mut wanted: Vec<(String, Option<PathBuf>)> = Vec::new();
        for replacement in &plan.libraries {
            let (soname, library) = host.open(&replacement.from).map_err(|error| {
                error.about(format!("modules.{}.library: ", replacement.module))
            })?;
            wanted.extend(host.dependencies(&library));
            gathered.replacements.push(soname.clone());
            gathered.libraries.insert(soname, library);
        }
        if plan.glibc.is_some() {
            let names = GLIBC.into_iter().chain([CRYPT]);
            wanted.extend(names.map(|name| (name.to_owned(), None)));
        }
        while let Some((name, path)) = wanted.pop() {
            if gathered.libraries.contains_key(&name) || gathered.libraries.len() >= MOST {
                continue;
            }
            // What the host does not have either, its library does without.
            let Some(path) = path.or_else(|| host.find(&name)) else { continue };
            let Ok((_, library)) = host.open(&path) else { continue };
            if !is_glibc(&name) {
                wanted.extend(host.dependencies(&library));
            }
            gathered.libraries.insert(name, library);
        }
        Ok(gathered)
    }

    /// The mounts of the chosen, each with its places.
    pub(super) fn take(mut self, chosen: Places) -> Result<Vec<(OwnedFd, Vec<GuestPath>)>> {
        let mut take = |(soname, places): (String, _)| {
            let tree = self.libraries.remove(&soname).and_then(|library| library.tree);
            let tree = tree.ok_or_else(|| Error::bug(format!("nobody opened {soname}")))?;
            Ok((tree, places))
        };
        chosen.into_iter().map(&mut take).collect()
    }
}

/// The host as its own loader sees it.
struct Host {
    platform: Platform,
    cache: LoaderCache,
    proc: Proc,
}

impl Host {
    fn look(platform: Platform) -> Result<Self> {
        let cache = std::fs::read(CACHE).ok().and_then(|file| LoaderCache::parse(&file).ok());
        // Without one its libraries are in the usual directories.
        Ok(Self { platform, cache: cache.unwrap_or_default(), proc: Proc::open()? })
    }

    /// The library at `path`, and its soname.
    fn open(&self, path: &Path) -> Result<(String, HostLibrary)> {
        let shown = path.display();
        let failed = |error| Error::admin(format!("cannot open {shown}")).because(error);
        // Waiting for nothing: where a library says that its own are, others may write.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
        let bytes = Open(&file);
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let elf = Elf::read(&bytes).filter(|elf| is_file && self.platform.loads(elf.machine()));
        let elf = elf.ok_or_else(|| {
            Error::admin(format!("{shown} is not a shared library for {}", self.platform.name))
                .hint("name the library itself: a linker script or a program is none")
        })?;
        let path = PathBuf::from(self.proc.path_of(&file)?);
        let directory = path.parent().unwrap_or(Path::new("/")).display().to_string();
        let of_origin = |text: String| {
            let text = text.replace("${ORIGIN}", &directory).replace("$ORIGIN", &directory);
            Some(PathBuf::from(text)).filter(|path| path.is_absolute())
        };
        let soname = elf.soname();
        let is_glibc = soname.as_deref().is_some_and(is_glibc);
        let library = HostLibrary {
            needed: elf.needed(),
            // glibc's are known by their versions.
            symbols: if is_glibc { Symbols::default() } else { elf.symbols() },
            needs: elf.needs(),
            defines: elf.defines(),
            search: elf.search_path().into_iter().filter_map(of_origin).collect(),
            tree: Some(detached(&file).map_err(fault::site(format!("cannot take {shown}")))?),
            path,
        };
        let soname = soname.unwrap_or_else(|| library.file());
        Ok((soname, library))
    }

    /// What a library needs, each with its place where the library itself says where it is.
    fn dependencies(&self, library: &HostLibrary) -> Vec<(String, Option<PathBuf>)> {
        let place = |name: &String| {
            let mut places = library.search.iter().map(|directory| directory.join(name));
            (name.clone(), places.find(|path| path.is_file()))
        };
        library.needed.iter().filter(|name| !is_glibc(name)).map(place).collect()
    }

    /// Where the host's loader finds a library.
    fn find(&self, name: &str) -> Option<PathBuf> {
        if self.platform.loader.ends_with(&format!("/{name}")) {
            return Some(self.platform.loader.into());
        }
        let known = self.cache.find(name, self.platform.flags).map(PathBuf::from);
        let usual = self.platform.directories.iter().map(|place| Path::new(place).join(name));
        known.chain(usual).find(|path| path.is_file())
    }
}
