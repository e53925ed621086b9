//! Publishing: image, record, name, in this order.

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use udi::{Digest, Error, ImageFormat, ImageInfo, ImageRef, Modes, Result};

use super::Keeper;
use super::lease::{Lease, fnv};
use crate::acl::{self, Access, Acl};
use crate::beneath;
use crate::manifest::{self, Manifest, Packed, packing_as};
use crate::reference::{self, Entry};

/// A file in the making. Nobody but the store's owner can read it; it goes when dropped.
#[derive(Debug)]
pub struct Temp {
    /// Open for reading and writing.
    pub file: File,
    dir: std::os::fd::OwnedFd,
    name: String,
}

/// A name to be given to an image.
#[derive(Clone, Debug)]
pub struct Name {
    /// The name.
    pub image: ImageRef,
    /// The platform of the image.
    pub platform: String,
    /// The one user who shall see it, or everybody.
    pub private: Option<u32>,
    /// What it means, and who says so.
    pub entry: Entry,
}

impl Keeper<'_> {
    /// An empty file for an image, under `lease`.
    pub fn temp(&self, lease: &Lease) -> Result<Temp> {
        self.temp_file(lease.nonce(), "image")
    }

    pub(super) fn temp_file(&self, nonce: &str, kind: &str) -> Result<Temp> {
        let dir = self.directory("tmp")?;
        let name = format!("{nonce}.{kind}");
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&dir, &name, flags, Mode::from(0o600))
            .map_err(|error| self.cannot_write(&format!("tmp/{name}"), error))?;
        Ok(Temp { file: file.into(), dir, name })
    }

    /// Publishes the finished `image`, which is `packed` with `modes`, under `name`.
    pub fn publish(
        &self,
        lease: &Lease,
        image: Temp,
        packed: Packed,
        modes: Modes,
        info: ImageInfo,
        name: &Name,
    ) -> Result<()> {
        let digest = name.entry.digest.clone();
        if info.digest.as_ref() != Some(&digest) {
            return Err(Error::bug(
                "an image was packed for another digest than it was pulled for",
            ));
        }
        // Who may use the image as it was packed before may use this one, which takes its place.
        let access = self.access(&manifest::path(&digest))?;
        self.place(image, &manifest::image_path(&packed.id, &packed.format), &access)?;
        let mut record = self.store.manifest(&digest)?.unwrap_or_default();
        record.info = info;
        let format = ImageFormat::of(&packed.format)
            .ok_or_else(|| Error::bug("an image in an unknown format"))?;
        record.files.insert(packing_as(format, modes).to_owned(), packed);
        // A file that somebody removed by hand must not be preferred to the one that is there.
        record.files.retain(|_, packed| self.is_there(packed));
        self.put(lease, &manifest::path(&digest), &record, &access)?;
        self.name(lease, name)
    }

    /// Whether user `uid` may give the name of its own, `user:LOGIN/…`, and to whom.
    ///
    /// Logins change hands; a name stays whose it was. And such a name means one thing only:
    /// it is not private and public at a time.
    pub fn check_name(&self, image: &ImageRef, private: Option<u32>, uid: u32) -> Result<()> {
        if !matches!(image, ImageRef::User(_)) {
            return Ok(());
        }
        let look = |path: Option<String>| match path {
            Some(path) => self.store.reference(&path),
            None => Ok(None),
        };
        let name = image.name();
        if let Some(public) = look(reference::public_path(image))? {
            if let Some(other) = public.platforms.values().find(|entry| entry.uid != uid) {
                return Err(Error::user(format!(
                    "{name} belongs to uid {}, who had the login {} before you",
                    other.uid, other.by
                ))
                .hint("choose another name, or ask a store administrator to remove that one"));
            }
            if private.is_some() {
                return Err(Error::user(format!("{name} is there already, for everybody")).hint(
                    format!("import with --public, or remove it first: shifterimg rm {name}"),
                ));
            }
        }
        if private.is_none() && look(reference::private_path(image, uid))?.is_some() {
            return Err(Error::user(format!("{name} is there already, for you alone"))
                .hint(format!("leave --public out, or remove it first: shifterimg rm {name}")));
        }
        Ok(())
    }

    /// Gives one more name to an image that is in the store, and whoever may use the name the
    /// right to read the image.
    pub fn name(&self, lease: &Lease, name: &Name) -> Result<()> {
        let public = reference::public_path(&name.image);
        let path = match name.private {
            Some(uid) => reference::private_path(&name.image, uid),
            None => public,
        };
        self.admit(&name.entry.digest, name.private)?;
        let Some(path) = path else { return Ok(()) };
        let key = format!("ref-{:016x}", fnv(path.as_bytes()));
        // Somebody may be writing the same name for another platform.
        let _turn = self.lease_soon(&key, &name.entry.by, Duration::from_secs(10))?;
        self.check_name(&name.image, name.private, name.entry.uid)?;
        let mut reference = self.store.reference(&path)?.unwrap_or_default();
        let mut entry = name.entry.clone();
        if let Some(first) = reference.platforms.get(&name.platform) {
            // The name stays whose it was: else pulling somebody's image again would be the
            // way to remove it.
            entry.by.clone_from(&first.by);
            entry.uid = first.uid;
        }
        reference.platforms.insert(name.platform.clone(), entry);
        let access = match name.private {
            Some(uid) => Access::Users([uid].into()),
            None => Access::Public,
        };
        self.put(lease, &format!("refs/{path}"), &reference, &access)
    }

    /// The image packed as `format`, in the same modes as it is mounted in now.
    pub fn has_as(&self, record: &Manifest, format: ImageFormat) -> Option<Packed> {
        let packed = record.files.get(packing_as(format, record.modes()))?;
        self.is_there(packed).then(|| packed.clone())
    }

    /// What is known of the image, if it is there with a file for who wants `modes`.
    pub fn has(&self, digest: &Digest, modes: Modes) -> Result<Option<Manifest>> {
        let Some(record) = self.store.manifest(digest)? else { return Ok(None) };
        let Some(packed) = record.packed(modes) else { return Ok(None) };
        Ok(self.is_there(packed).then_some(record))
    }

    pub(super) fn is_there(&self, packed: &Packed) -> bool {
        let path = manifest::image_path(&packed.id, &packed.format);
        beneath::open(self.store.top(), &path, OFlags::PATH).is_ok()
    }

    /// Lets one more user, or everybody, read an image: first the file, then its record.
    fn admit(&self, digest: &Digest, private: Option<u32>) -> Result<()> {
        let record = self
            .has(digest, Modes::Keep)?
            .ok_or_else(|| Error::bug("a name for an image that is not there"))?;
        let files = record.files.values().filter(|file| self.is_there(file));
        let files = files.map(|f| manifest::image_path(&f.id, &f.format));
        for path in files.chain([manifest::path(digest)]) {
            let access = match (self.access(&path)?, private) {
                (Access::Public, _) => continue,
                (Access::Users(_), None) => Access::Public,
                (Access::Users(mut users), Some(uid)) => {
                    users.insert(uid);
                    Access::Users(users)
                }
            };
            self.set_access(&path, &access)?;
        }
        Ok(())
    }

    /// Who may read a file of the store; nobody if it is not there.
    pub(super) fn access(&self, path: &str) -> Result<Access> {
        let failed = |error| self.store.failed(path, error);
        let file = match beneath::open(self.store.top(), path, OFlags::PATH) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Access::Users(BTreeSet::new())),
            Err(error) => return Err(failed(error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        let mut buffer = [0; 4096];
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::getxattr(link, acl::ATTRIBUTE, &mut buffer[..]) {
            Ok(n) => Acl::decode(&buffer[..n])
                .map(|acl| acl.readers())
                .ok_or_else(|| Error::admin(format!("the access list of {path} is broken"))),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Acl::of_mode(stat.st_mode).readers()),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn set_access(&self, path: &str, access: &Access) -> Result<()> {
        let file = beneath::open(self.store.top(), path, OFlags::RDONLY)
            .map_err(|error| self.store.failed(path, error))?;
        access.apply(file, path)
    }

    /// Replaces the small file at `path` by `value`, as a whole.
    pub(super) fn put<T: serde::Serialize>(
        &self,
        lease: &Lease,
        path: &str,
        value: &T,
        access: &Access,
    ) -> Result<()> {
        let json =
            serde_json::to_vec(value).map_err(|e| Error::bug("cannot write JSON").because(e))?;
        let mut temp = self.temp_file(lease.nonce(), &format!("{:016x}", fnv(path.as_bytes())))?;
        temp.file
            .write_all(&json)
            .map_err(|e| self.cannot_write(path, Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        self.place(temp, path, access)
    }

    /// Gives a finished file its rights and its place.
    pub(super) fn place(&self, temp: Temp, path: &str, access: &Access) -> Result<()> {
        let failed = |error| self.cannot_write(path, error);
        access.apply(temp.file.as_fd(), path)?;
        rustix::fs::fsync(&temp.file).map_err(failed)?;
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.directory(dir)?;
        // An image that is there has the same bytes, for that is what its name says; its
        // inode may be behind loop devices, so it stays.
        let there = path.starts_with("images/")
            && rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if there {
            return Ok(());
        }
        rustix::fs::renameat(&temp.dir, &temp.name, &dir, name).map_err(failed)?;
        rustix::fs::fsync(&dir).map_err(failed)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // After the rename there is nothing of this name.
        let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
    }
}
