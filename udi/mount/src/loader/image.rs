//! The image as its loader sees it. What it says is believed by nobody but that loader.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use rustix::io::Errno;
use udi::{Elf, GuestPath, LoaderCache, Platform, Result};

use super::{CACHE, Open};
use crate::fault;
use crate::guest::Tree;

/// What the image's loader finds.
#[derive(Debug)]
pub(super) struct OfImage<'a> {
    image: &'a Tree<'a>,
    pub(super) platform: Platform,
    /// Whether programs made for glibc find their loader.
    pub(super) has_loader: bool,
    cache: std::result::Result<LoaderCache, String>,
    /// What [`OfImage::find`] found: looking is what takes the time.
    known: RefCell<BTreeMap<String, Vec<Found>>>,
}

/// Places in which a library is looked for. Honest caches name one for each kind of processor; a
/// hostile one could keep the node busy for hours.
const MOST_PLACES: usize = 16;

/// A library of the image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where the loader finds it.
    pub(super) path: GuestPath,
    /// The name of the file there, without links.
    pub(super) file: String,
    /// The versions of symbols that it defines.
    pub(super) defines: Vec<String>,
    /// Which file it is: by links it may be found at several places.
    id: (u64, u64),
}

impl<'a> OfImage<'a> {
    pub(super) fn look(image: &'a Tree<'a>, platform: Platform) -> Result<Self> {
        let has_loader = match image.read(relative(platform.loader)) {
            Ok(file) => Elf::read(&Open(&file)).is_some_and(|elf| platform.loads(elf.machine())),
            Err(_) => false,
        };
        let known = RefCell::default();
        Ok(Self { image, platform, has_loader, cache: read_cache(image)?, known })
    }

    /// Whether programs made for musl find their loader.
    pub(super) fn has_musl(&self) -> bool {
        self.image.open(relative(self.platform.musl)).is_ok()
    }

    /// Other versions of the library that its cache names.
    pub(super) fn versions_of(&self, soname: &str) -> Vec<&str> {
        let stem = soname.split_once(".so").map_or(soname, |(stem, _)| stem);
        self.cache.iter().flat_map(|cache| cache.versions_of(stem, self.platform.flags)).collect()
    }

    /// Everywhere its loader may find the library: what its cache says, and the directories that
    /// glibc looks into besides.
    pub(super) fn find(&self, soname: &str) -> Result<Vec<Found>> {
        if let Some(found) = self.known.borrow().get(soname) {
            return Ok(found.clone());
        }
        let found = self.look_for(soname)?;
        self.known.borrow_mut().insert(soname.to_owned(), found.clone());
        Ok(found)
    }

    fn look_for(&self, soname: &str) -> Result<Vec<Found>> {
        let known = self.cache.iter().flat_map(|cache| cache.find(soname, self.platform.flags));
        let known: BTreeSet<&str> = known.collect();
        let known = known.into_iter().take(MOST_PLACES);
        let usual = self.platform.directories.iter().map(|place| format!("{place}/{soname}"));
        let loader = [self.platform.loader].into_iter().filter(|path| path.ends_with(soname));
        let mut found: Vec<Found> = Vec::new();
        for path in known.chain(loader).map(str::to_owned).chain(usual) {
            let Ok(path) = GuestPath::parse(&path) else { continue };
            if let Some(library) = self.at(path)?
                && !found.iter().any(|other| other.id == library.id)
            {
                found.push(library);
            }
        }
        Ok(found)
    }

    fn at(&self, path: GuestPath) -> Result<Option<Found>> {
        let Ok(file) = self.image.read(path.relative()) else { return Ok(None) };
        let stat = rustix::fs::fstat(&file).map_err(fault::bug("cannot stat an open file"))?;
        let bytes = Open(&file);
        let Some(elf) = Elf::read(&bytes).filter(|elf| self.platform.loads(elf.machine())) else {
            return Ok(None);
        };
        let defines = elf.defines();
        let file = self.image.path_of(&file.into())?.split().1.to_owned();
        Ok(Some(Found { path, file, defines, id: (stat.st_dev, stat.st_ino) }))
    }

    /// Whether one of its libraries is bound to the very glibc that it was made with.
    pub(super) fn is_of_its_glibc(&self, library: &Found) -> bool {
        let Ok(file) = self.image.read(library.path.relative()) else { return false };
        let needs = Elf::read(&Open(&file)).map(|elf| elf.needs()).unwrap_or_default();
        needs.iter().any(|need| need.version == "GLIBC_PRIVATE")
    }

    /// Whether one of its libraries defines all of these symbols.
    pub(super) fn defines(&self, library: &Found, symbols: &[&str]) -> bool {
        let Ok(file) = self.image.read(library.path.relative()) else { return false };
        let wanted: BTreeSet<&str> = symbols.iter().copied().collect();
        let bytes = Open(&file);
        let symbols = Elf::read(&bytes).map(|elf| elf.symbols_of(|name| wanted.contains(name)));
        let defined = symbols.unwrap_or_default().defined;
        wanted.into_iter().all(|symbol| defined.contains(symbol))
    }

    /// Its cache, to be completed: an empty one if it has none that can be read. Nothing if no
    /// program of the image's would read it.
    pub(super) fn into_cache(self, log: &impl Fn(&str)) -> Option<LoaderCache> {
        if !self.has_loader {
            return None;
        }
        Some(self.cache.unwrap_or_else(|why| {
            log(&format!("the image's {CACHE} is made anew for its modules: {why}"));
            LoaderCache::default()
        }))
    }
}

/// The image's cache, or why there is none.
fn read_cache(image: &Tree) -> Result<std::result::Result<LoaderCache, String>> {
    let file = match image.read(relative(CACHE)) {
        Ok(file) => file,
        Err(
            Errno::NOENT
            | Errno::LOOP
            | Errno::NOTDIR
            | Errno::NXIO
            | Errno::ACCESS
            | Errno::NAMETOOLONG,
        ) => return Ok(Err("it has none".into())),
        Err(errno) => return Err(fault::site(format!("cannot open the image's {CACHE}"))(errno)),
    };
    let bytes = read(&file, LoaderCache::LARGEST + 1);
    Ok(match bytes.len() > LoaderCache::LARGEST {
        true => Err("it is larger than 16 MiB".into()),
        false => LoaderCache::parse(&bytes).map_err(|why| why.to_string()),
    })
}

/// What a regular file has, `most` bytes at most; nothing of anything else.
fn read(file: &File, most: usize) -> Vec<u8> {
    let length = file.metadata().ok().filter(|meta| meta.is_file()).map_or(0, |meta| meta.len());
    let length = usize::try_from(length).unwrap_or(most).min(most);
    udi::ReadAt::read_at(&Open(file), 0, length)
}

pub(super) fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}
