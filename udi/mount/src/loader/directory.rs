//! The libraries in a directory, as ldconfig would find them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use udi::{Elf, GuestPath, LdcacheEntry, Mount, Origin, Platform, Result, Version};

use super::Open;
use crate::fault;
use crate::guest::Tree;

/// More than there are in any distribution's directory.
const MOST: usize = 1 << 16;

/// What modules have put into the image, before any of it is mounted: so no link of the image's
/// leads anywhere but into the image.
#[derive(Debug)]
pub(super) struct Brought<'a> {
    /// The site layer over the image.
    root: &'a Tree<'a>,
    /// The site layer alone.
    site: OwnedFd,
    mounts: Vec<Piece<'a>>,
}

/// What will be mounted, and is not the user's.
#[derive(Debug)]
struct Piece<'a> {
    target: &'a GuestPath,
    /// Where that leads.
    at: GuestPath,
    file: &'a OwnedFd,
    of_module: bool,
}

impl<'a> Brought<'a> {
    pub(super) fn new(
        root: &'a Tree<'a>,
        site: OwnedFd,
        mounts: impl Iterator<Item = (&'a Mount, &'a OwnedFd)>,
        placed: impl Iterator<Item = (&'a GuestPath, &'a OwnedFd)>,
    ) -> Self {
        let mounts = mounts
            .filter(|(mount, _)| !mount.is_users())
            .map(|(mount, file)| (&mount.target, file, matches!(mount.origin, Origin::Module(_))));
        let placed = placed.map(|(target, file)| (target, file, true));
        let pieces = mounts.chain(placed).filter_map(|(target, file, of_module)| {
            // Where a place cannot be found, mounting will say so.
            Some(Piece { target, at: root.find(target).ok()?, file, of_module })
        });
        Self { root, site, mounts: pieces.collect() }
    }

    /// An entry of the cache for each name by which a library in `directory` can be asked for: its
    /// soname, and the names of links. What the image has there its own cache knows, or does not.
    pub(super) fn entries(
        &self,
        directory: &GuestPath,
        platform: Platform,
    ) -> Result<Vec<LdcacheEntry>> {
        let Some((place, shown)) = self.look_up(directory) else { return Ok(Vec::new()) };
        // By name: how well the file's own name fits, and the file.
        let mut found: BTreeMap<String, (Fit, String)> = BTreeMap::new();
        for name in self.names(&place, &shown)? {
            let Some(file) = self.library(&place, &shown, &name) else { continue };
            let bytes = Open(&file);
            let Some(elf) = Elf::read(&bytes).filter(|elf| platform.loads(elf.machine())) else {
                continue;
            };
            if let Some(soname) = elf.soname().filter(|soname| *soname != name) {
                let fit = if name.starts_with(&soname) { Fit::Version } else { Fit::Content };
                if found.get(&soname).is_none_or(|(other, _)| *other <= fit) {
                    found.insert(soname, (fit, name.clone()));
                }
            }
            found.insert(name.clone(), (Fit::Name, name));
        }
        let entry = |(name, (_, file)): (String, (Fit, String))| {
            LdcacheEntry::new(name, format!("{directory}/{file}"), platform.flags)
        };
        Ok(found.into_iter().map(entry).collect())
    }

    /// Where `directory` is, and whose. Nothing if a link of the image leads into a mount that is
    /// no module's: the image would say what root looks at.
    fn look_up(&self, directory: &GuestPath) -> Option<(GuestPath, Shown<'_>)> {
        let below = |path: &GuestPath, top: &GuestPath| {
            let below: Vec<&str> = path.components().skip(top.components().count()).collect();
            if below.is_empty() { ".".to_owned() } else { below.join("/") }
        };
        // The last of the deepest mounts.
        let depth = |piece: &&Piece| piece.at.components().count();
        let named = self.mounts.iter().filter(|piece| directory.is_within(piece.target));
        if let Some(piece) = named.max_by_key(depth) {
            let below = below(directory, piece.target);
            let place = GuestPath::parse(&format!("{}/{below}", piece.at)).ok()?;
            return Some((place, Shown::Mount(piece, below)));
        }
        let place = self.root.find(directory).ok()?;
        let over = self.mounts.iter().filter(|piece| place.is_within(&piece.at));
        match over.max_by_key(depth) {
            None => Some((place, Shown::Image)),
            Some(piece) if piece.of_module => {
                let below = below(&place, &piece.at);
                Some((place, Shown::Mount(piece, below)))
            }
            Some(_) => None,
        }
    }

    /// The names of libraries, so that of several files with one soname the latest wins.
    fn names(&self, place: &GuestPath, shown: &Shown) -> Result<Vec<String>> {
        let directory = OFlags::RDONLY | OFlags::DIRECTORY;
        let listing = match shown {
            Shown::Image => self.root.open_as(place.relative(), directory),
            Shown::Mount(piece, below) => beneath(piece.file, below, directory),
        };
        let mut names = BTreeSet::new();
        // On a node that lacks it, where the mount is optional; or the image has something else.
        if let Ok(listing) = listing {
            let failed = || fault::site(format!("cannot list {place} inside"));
            for entry in Dir::new(listing).map_err(failed())?.take(MOST) {
                let entry = entry.map_err(failed())?;
                names.extend(entry.file_name().to_str().ok().map(str::to_owned));
            }
        }
        for piece in &self.mounts {
            let (directory, name) = piece.at.split();
            names.extend((directory == *place).then(|| name.to_owned()));
        }
        let mut names: Vec<String> = names.into_iter().filter(|name| is_library(name)).collect();
        names.sort_by(|a, b| (Version::of_file(a), a).cmp(&(Version::of_file(b), b)));
        Ok(names)
    }

    /// The file that a module has brought by this name, if it has.
    fn library(&self, place: &GuestPath, shown: &Shown, name: &str) -> Option<File> {
        let path = GuestPath::parse(&format!("{place}/{name}")).ok()?;
        let mounted = |path: &GuestPath| self.mounts.iter().rev().find(|piece| piece.at == *path);
        if let Some(piece) = mounted(&path) {
            return self.read(piece.file);
        }
        match shown {
            Shown::Mount(piece, below) => {
                let below = format!("{below}/{name}");
                let file = match beneath(piece.file, &below, OFlags::PATH) {
                    // An absolute link: it may lead into the same mount.
                    Err(Errno::XDEV) => {
                        let target = rustix::fs::readlinkat(piece.file, &below, Vec::new()).ok()?;
                        let target = GuestPath::parse(target.to_str().ok()?).ok()?;
                        let below = target.as_str().strip_prefix(piece.target.as_str())?;
                        beneath(piece.file, below.strip_prefix('/')?, OFlags::PATH)
                    }
                    file => file,
                };
                self.read(&file.ok()?)
            }
            Shown::Image => {
                let file = self.root.open(path.relative()).ok()?;
                let leads_to = self.root.path_of(&file).ok()?;
                if let Some(piece) = mounted(&leads_to) {
                    return self.read(piece.file);
                }
                // A copy that lies over the image, and nothing of the image's.
                let over = leads_to.relative();
                let status =
                    rustix::fs::statat(&self.site, over, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                let is_file = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
                is_file.then(|| self.read(&file)).flatten()
            }
        }
    }

    /// A regular file, to be read; anything else is not even opened.
    fn read(&self, file: &OwnedFd) -> Option<File> {
        let status = rustix::fs::fstat(file).ok()?;
        let is_file = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        is_file.then(|| self.root.reopen(file).ok()).flatten()
    }
}

/// Whose a directory is.
#[derive(Debug)]
enum Shown<'a> {
    /// The image's, with what lies over it.
    Image,
    /// One in a mount, below its top.
    Mount(&'a Piece<'a>, String),
}

/// Opens what is below the top of a mount, without leaving it.
fn beneath(top: &OwnedFd, path: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(top, path, flags, Mode::empty(), stay)
}

/// Why a file is found by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It says so itself.
    Content,
    /// And its name is that one with a version behind.
    Version,
    /// That is its name, or a link's.
    Name,
}

/// What ldconfig takes for one by its name.
fn is_library(name: &str) -> bool {
    (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so")
}
