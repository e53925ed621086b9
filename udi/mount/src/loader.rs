//! What a module gives the image's dynamic loader: libraries of the host in place of the image's,
//! and a cache in which it finds those that modules mount.
//!
//! Nothing of the image is run for it. What the host gives is opened while the staging thread is
//! in the host's namespace ([`Gathered`]), what of it fits is decided by looking into the image
//! ([`Loader`]), and it is attached before anything of the user's, so that root reads no file that
//! a user mounted.

mod choose;
mod directory;
mod host;
mod image;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use udi::{Blame, Error, GuestPath, LoaderCache, Mount, Plan, Platform, ReadAt, Result};

use crate::copied::Copied;
use crate::fault;
use crate::guest::{SiteLayer, Tree};
use crate::layers::Layers;
use crate::sys::{self, MountAttr};
use directory::Brought;
use image::OfImage;

pub(crate) use host::Gathered;

/// Where glibc's loader looks libraries up.
const CACHE: &str = "/etc/ld.so.cache";

/// Where libraries of the host are that the image lacks.
const ADDED: &str = "/.shifter/lib";

/// What is attached for the image's loader.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    /// Files of the host, not attached yet, and where they go.
    placed: Vec<(OwnedFd, Vec<GuestPath>)>,
    /// A cache to be completed; nothing if the image's own stays as it is.
    cache: Option<Completed>,
}

/// The image's cache, to be completed.
#[derive(Debug)]
struct Completed {
    cache: LoaderCache,
    platform: Platform,
    /// Directories whose libraries are added, the first before the others.
    directories: Vec<GuestPath>,
}

impl Gathered {
    /// Decides what the image gets of it, and what its loader must find. `log` is the node's.
    pub(crate) fn for_image(self, plan: &Plan, image: &Tree, log: impl Fn(&str)) -> Result<Loader> {
        if !plan.wants_libraries() {
            return Ok(Loader::default());
        }
        let Some(platform) = Platform::of(std::env::consts::ARCH) else {
            let kind = std::env::consts::ARCH;
            let what = format!("modules cannot bring libraries to a node of the kind {kind}");
            return Err(
                Error::admin(what).hint("take ldcache, library and glibc out of the module")
            );
        };
        let mut directories: Vec<_> = plan.ldcache.iter().map(|it| it.directory.clone()).collect();
        let of_image = OfImage::look(image, platform)?;
        let chosen = choose::choose(&self, &of_image, plan)?;
        chosen.notes.iter().for_each(|note| log(note));
        let placed = self.take(chosen.placed)?;
        if chosen.adds {
            directories.push(GuestPath::parse(ADDED)?);
        }
        if directories.is_empty() {
            return Ok(Loader { placed, cache: None });
        }
        let Some(cache) = of_image.into_cache(&log) else {
            let mut names: Vec<&str> = plan.ldcache.iter().map(|it| it.module.as_str()).collect();
            names.dedup();
            log(&format!(
                "--module={}: the image has no {}, so nothing in it reads {CACHE}: its programs \
                 find the module's libraries only by LD_LIBRARY_PATH",
                names.join(","),
                platform.loader
            ));
            return Ok(Loader { placed, cache: None });
        };
        Ok(Loader { placed, cache: Some(Completed { cache, platform, directories }) })
    }
}

impl Loader {
    /// Makes what is mounted on, where the image lacks it.
    pub(crate) fn prepare(&self, over: &mut SiteLayer) -> Result<()> {
        for target in self.placed.iter().flat_map(|(_, targets)| targets) {
            over.place(target, false)?;
        }
        match self.cache {
            // Also where the image has a link or a directory of that name.
            Some(_) => over.put(&GuestPath::parse(CACHE)?, &Copied::default()).map_err(|e| match e
                .blame()
            {
                Blame::User => fault::unusable(format!("{CACHE} by way of {}", e.what())),
                _ => e,
            }),
            None => Ok(()),
        }
    }

    /// Puts into the cache what modules bring: by `mounts` that are not attached yet, and over the
    /// image. `root` is the UDI's, with nothing of the host's, and `site` the layer over the image.
    pub(crate) fn complete<'a>(
        &'a mut self,
        root: &'a Tree<'_>,
        site: OwnedFd,
        mounts: impl Iterator<Item = (&'a Mount, &'a OwnedFd)>,
    ) -> Result<()> {
        let Some(Completed { cache, platform, directories }) = &mut self.cache else {
            return Ok(());
        };
        let placed = self.placed.iter();
        let placed = placed.flat_map(|(tree, places)| places.iter().map(move |at| (at, tree)));
        let brought = Brought::new(root, site, mounts, placed);
        let mut found = Vec::new();
        for directory in directories.iter() {
            found.extend(brought.entries(directory, *platform)?);
        }
        cache.put(found);
        Ok(())
    }

    /// Attaches everything to the UDI's root, where the site's mounts are already; the second time
    /// there is nothing left to do. `log` is the node's.
    pub(crate) fn attach(
        &mut self,
        root: &Tree,
        layers: &Layers,
        log: impl Fn(&str),
    ) -> Result<()> {
        for (tree, targets) in self.placed.drain(..) {
            let mut first = true;
            for target in &targets {
                let place = match root.open(target.relative()) {
                    // The image has it there, and the site has mounted something over that.
                    Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
                        let why = std::io::Error::from(errno);
                        log(&format!(
                            "{target} inside is covered, and no library put there: {why}"
                        ));
                        continue;
                    }
                    place => place.map_err(cannot(target))?,
                };
                // What is attached here can be copied, which the host's no longer can.
                match std::mem::take(&mut first) {
                    true => attach(&tree, &place, target)?,
                    false => attach(&detached(&tree).map_err(cannot(target))?, &place, target)?,
                }
            }
        }
        if let Some(Completed { cache, .. }) = self.cache.take() {
            let file = layers.file("ld.so.cache", &cache.write())?;
            let target = GuestPath::parse(CACHE)?;
            let place = root.open(target.relative()).map_err(cannot(&target))?;
            attach(&file, &place, &target)?;
        }
        Ok(())
    }
}

fn cannot(target: &GuestPath) -> impl FnOnce(Errno) -> Error {
    fault::site(format!("cannot mount a library on {target}"))
}

fn attach(tree: &OwnedFd, place: &OwnedFd, target: &GuestPath) -> Result<()> {
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", place, "", onto).map_err(cannot(target))
}

/// A copy of the mount of one file that nobody can write by it; not attached anywhere.
pub(crate) fn detached(file: impl AsFd) -> std::result::Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(file, "", flags)?;
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let propagation = libc::MS_PRIVATE;
    let attr = MountAttr { set: u64::from(set.bits()), propagation, ..MountAttr::default() };
    sys::mount_setattr(&tree, attr)?;
    Ok(tree)
}

/// An open file as ELF files are read.
pub(crate) struct Open<'a>(pub(crate) &'a File);

impl ReadAt for Open<'_> {
    fn read_at(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(read @ 1..) => filled += read,
                _ => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_cache_written_by_us_reads_as_ldconfigs() {
        let list = |file: &str| {
            let out = Command::new("/sbin/ldconfig").args(["-p", "-C", file]).output().unwrap();
            assert!(out.status.success(), "{out:?}");
            // Without the file's name, and who made it.
            let text = String::from_utf8(out.stdout).unwrap();
            text.lines()
                .filter(|line| line.starts_with('\t'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let cache = LoaderCache::parse(&std::fs::read(CACHE).unwrap()).unwrap();
        let written = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(written.path(), cache.write()).unwrap();
        let ours = list(written.path().to_str().unwrap());
        assert_eq!(ours, list(CACHE));
        assert!(ours.iter().any(|line| line.contains("libc.so.6")), "{ours:?}");
    }

    #[test]
    fn this_machines_own_libraries_are_understood() {
        let platform = Platform::of(std::env::consts::ARCH).unwrap();
        let cache = LoaderCache::parse(&std::fs::read(CACHE).unwrap()).unwrap();
        let open = |soname: &str| {
            let path = cache.find(soname, platform.flags).next().unwrap();
            File::open(path).unwrap()
        };
        let libc = open("libc.so.6");
        let libc = Open(&libc);
        let libc = udi::Elf::read(&libc).unwrap();
        assert!(platform.loads(libc.machine()));
        assert_eq!(libc.soname().unwrap(), "libc.so.6");
        assert!(libc.defines().iter().any(|version| version == "GLIBC_2.17"));
        let symbols = libc.symbols();
        assert!(symbols.defined.contains("malloc") && symbols.defined.len() > 2000);
        let libm = open("libm.so.6");
        let libm = Open(&libm);
        let libm = udi::Elf::read(&libm).unwrap();
        assert!(libm.needed().iter().any(|soname| soname == "libc.so.6"));
        assert!(libm.needs().iter().any(|need| need.of == "libc.so.6"));
        assert!(libm.symbols().needed.iter().all(|symbol| !symbol.is_empty()));
        assert!(libm.symbols().defined.contains("cos"));
    }
}
