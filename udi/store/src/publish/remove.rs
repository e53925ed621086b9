//! Removing names, and images that no name is left for.

use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use udi::{Digest, Error, ImageRef, Result};

use super::Keeper;
use crate::acl::Access;
use crate::{manifest, reference};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user's id.
    pub uid: u32,
    /// The user's login, for messages to others.
    pub login: String,
    /// Whether the user may remove what others pulled.
    pub admin: bool,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Images whose files are gone.
    pub images: Vec<Digest>,
    /// Bytes freed.
    pub bytes: u64,
}

impl Keeper<'_> {
    /// Removes the caller's private name, or else the public one if the caller wrote it;
    /// messages call it what was `typed`.
    pub fn remove(&self, typed: &str, image: &ImageRef, caller: &Caller) -> Result<Removed> {
        let absent = || {
            Error::user(format!("{typed}: no such image in the store"))
                .hint("shifterimg images lists those that you can use")
        };
        let private = reference::private_path(image, caller.uid);
        let mut found = None;
        for path in private.iter().chain(&reference::public_path(image)) {
            if let Some(reference) = self.store.reference(path)? {
                found = Some((path.clone(), reference));
                break;
            }
        }
        let (path, reference) = found.ok_or_else(absent)?;
        if let Some(entry) = reference.platforms.values().find(|e| e.uid != caller.uid)
            && !caller.admin
        {
            return Err(Error::user(format!("{typed} was pulled by {}, not by you", entry.by))
                .hint("ask them or a store administrator to remove it"));
        }
        let digests: BTreeSet<Digest> =
            reference.platforms.into_values().map(|e| e.digest).collect();
        self.unlink(&format!("refs/{path}"))?;
        let mut removed = Removed::default();
        for digest in digests {
            self.release(&digest, caller, &mut removed)?;
        }
        Ok(removed)
    }

    /// Removes the image if no name is left; else takes away the rights that only removed
    /// names gave.
    fn release(&self, digest: &Digest, caller: &Caller, removed: &mut Removed) -> Result<()> {
        // A pull of the same image gives it a name under this lease: it comes either before,
        // and we see the name, or after, and finds no image.
        let _lease = self.lease_soon(digest.hex(), &caller.login, Duration::from_secs(10))?;
        let names = self.list()?;
        let mut names = names.iter().filter(|n| n.entry.digest == *digest).peekable();
        let Some(record) = self.store.manifest(digest)? else { return Ok(()) };
        // An image in which nothing was to be made readable is one file, packed in two ways.
        let files: BTreeMap<_, _> = record
            .files
            .values()
            .filter(|file| self.is_there(file))
            .map(|f| (manifest::image_path(&f.id, &f.format), f.size))
            .collect();
        if names.peek().is_some() {
            let access = names.try_fold(BTreeSet::new(), |mut users, name| {
                users.insert(name.private?);
                Some(users)
            });
            let access = access.map_or(Access::Public, Access::Users);
            // The record first: what may be looked up may be opened, but for a moment.
            self.set_access(&manifest::path(digest), &access)?;
            return files.keys().try_for_each(|path| self.set_access(path, &access));
        }
        // Who has it open or mounted keeps it: the bytes go with the last user.
        self.unlink(&manifest::path(digest))?;
        for (path, size) in files {
            self.unlink(&path)?;
            removed.bytes += size;
        }
        removed.images.push(digest.clone());
        Ok(())
    }

    fn unlink(&self, path: &str) -> Result<()> {
        match rustix::fs::unlinkat(self.store.top(), path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.cannot_write(path, error)),
        }
    }
}
