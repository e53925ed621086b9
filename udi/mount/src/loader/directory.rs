//! The libraries in a directory, as ldconfig would find them.

use std::collections::BTreeMap;

use rustix::fs::{AtFlags, Dir, OFlags, StatxFlags};
use rustix::io::Errno;
use udi::{Elf, GuestPath, LdcacheEntry, Platform, Result, Version};

use super::Open;
use crate::fault;
use crate::guest::Tree;

/// More than there are in any distribution's directory.
const MOST: usize = 1 << 16;

/// An entry of the cache for each name by which a library in `directory` can be asked for: its
/// soname, and the names of links. What the image has there its own cache knows, or does not.
///
/// `root` is the UDI's with the site's mounts.
pub(super) fn entries(
    root: &Tree,
    image: &Tree,
    directory: &GuestPath,
    platform: Platform,
) -> Result<Vec<LdcacheEntry>> {
    let failed = || fault::site(format!("cannot list {directory} inside"));
    let listing = match root.read_directory(directory.relative()) {
        Ok(listing) => listing,
        // On a node that lacks it, where the mount is optional; or the image has something else.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
        Err(errno) => return Err(failed()(errno)),
    };
    let mut names: Vec<String> = Vec::new();
    for entry in Dir::new(listing).map_err(failed())?.take(MOST) {
        let entry = entry.map_err(failed())?;
        names.extend(entry.file_name().to_str().ok().filter(|n| is_library(n)).map(str::to_owned));
    }
    // So that of several files with one soname the latest wins.
    names.sort_by(|a, b| (Version::of_file(a), a).cmp(&(Version::of_file(b), b)));
    let top = mount_of(root.top())?;
    // By name: how well the file's own name fits, and the file.
    let mut found: BTreeMap<String, (Fit, String)> = BTreeMap::new();
    for name in names {
        let path = format!("{}/{name}", directory.relative());
        let Ok(file) = root.read(&path) else { continue };
        if mount_of(&file)? == top && image.open(&path).is_ok() {
            continue;
        }
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

fn mount_of(file: impl rustix::fd::AsFd) -> Result<u64> {
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map(|stat| stat.stx_mnt_id)
        .map_err(fault::bug("cannot stat an open file"))
}

impl Tree<'_> {
    fn read_directory(&self, relative: &str) -> std::result::Result<rustix::fd::OwnedFd, Errno> {
        self.open_as(relative, OFlags::RDONLY | OFlags::DIRECTORY)
    }
}
