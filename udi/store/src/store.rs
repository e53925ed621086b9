//! Looking up: with the calling thread's rights, without locks, without listing.

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use udi::{Digest, Error, ImageRef, Result, StoreConfig};

use crate::acl::{self, Acl, Principal};
use crate::beneath;
use crate::manifest::{self, Manifest, Packed};
use crate::reference::{self, Reference};

/// The image store, found and judged.
#[derive(Debug)]
pub struct Store {
    top: OwnedFd,
    path: PathBuf,
    owner: u32,
}

/// Where an image's file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The sha256 of the file.
    pub file_id: Digest,
    /// The file system in it: `squashfs`, `ext4` or `erofs`.
    pub format: String,
    /// The file's path below the store.
    pub path: String,
    /// Bytes of the file.
    pub size: u64,
}

impl Located {
    fn of(packed: &Packed) -> Self {
        Self {
            file_id: packed.id.clone(),
            format: packed.format.clone(),
            path: manifest::image_path(&packed.id, &packed.format),
            size: packed.size,
        }
    }
}

impl Store {
    /// Finds the store; it must belong to the account that the site names, and be closed to
    /// other writers. Errors are the site's.
    pub fn open(config: &StoreConfig) -> Result<Self> {
        let path = config.path.clone();
        let shown = path.display();
        let owner = Self::owner_of(config)?;
        let top = beneath::open_top(&path)
            .map_err(|e| Error::admin(format!("cannot open the image store {shown}")).because(e))?;
        let stat = rustix::fs::fstat(&top).map_err(|e| {
            Error::admin(format!("cannot look at the image store {shown}")).because(e)
        })?;
        if stat.st_uid != owner {
            return Err(Error::admin(format!(
                "the image store {shown} belongs to uid {}, not to {}",
                stat.st_uid, config.owner
            ))
            .hint(format!(
                "chown {} {shown}, or change store.owner in shifter.toml",
                config.owner
            )));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(Error::admin(format!(
                "others than its owner can write the image store {shown}"
            ))
            .hint(format!("chmod go-w {shown}")));
        }
        Ok(Self { top, path, owner })
    }

    /// The uid of the account that the site names as the owner of its store.
    pub fn owner_of(config: &StoreConfig) -> Result<u32> {
        uid_of(&config.owner)
    }

    /// The uid that owns everything in the store.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// The store's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn top(&self) -> &OwnedFd {
        &self.top
    }

    /// The digest that `image` means to user `uid` on `platform`, read with the calling
    /// thread's rights. The user's private pull wins over the public one, and is an error if
    /// only that user may read it, and we are somebody else.
    pub fn resolve(&self, image: &ImageRef, platform: &str, uid: u32) -> Result<Digest> {
        self.resolve_as(&image.to_string(), image, platform, uid)
    }

    /// As [`resolve`](Self::resolve), with messages that call the image what the user typed.
    pub fn resolve_as(
        &self,
        typed: &str,
        image: &ImageRef,
        platform: &str,
        uid: u32,
    ) -> Result<Digest> {
        if let Some(digest) = image.digest()
            && self.manifest(digest)?.is_some()
        {
            return Ok(digest.clone());
        }
        let mut others = Vec::new();
        let private = reference::private_path(image, uid);
        for path in private.into_iter().chain(reference::public_path(image)) {
            let Some(mut reference) = self.reference(&path)? else {
                // Absent for us, but not for the user: it must not mean somebody else's image.
                if path.starts_with(reference::PRIVATE) && self.is_there(&format!("refs/{path}")) {
                    return Err(unreadable(typed));
                }
                continue;
            };
            match reference.platforms.remove(platform) {
                Some(entry) => return Ok(entry.digest),
                None => others.extend(reference.platforms.into_keys()),
            }
        }
        Err(self.absent(typed, platform, &others))
    }

    /// Which file a digest is packed as, read with the calling thread's rights.
    pub fn locate(&self, digest: &Digest) -> Result<Located> {
        let manifest = self.manifest(digest)?.ok_or_else(|| no_image(&format!("id:{digest}")))?;
        let packed = manifest.preferred().ok_or_else(|| {
            Error::admin(format!("the image store's record of {digest} names no file"))
        })?;
        Ok(Located::of(packed))
    }

    /// Opens an image with the calling thread's rights: this open is the access check.
    ///
    /// What is not there and what somebody else keeps private give the same error.
    pub fn open_image(&self, digest: &Digest) -> Result<(OwnedFd, Located)> {
        let located = self.locate(digest)?;
        self.open_located(digest, located)
    }

    /// As [`open_image`](Self::open_image), but the squashfs file, whatever else the image is
    /// packed as.
    pub fn open_squashfs(&self, digest: &Digest) -> Result<(OwnedFd, Located)> {
        let manifest = self.manifest(digest)?.ok_or_else(|| no_image(&format!("id:{digest}")))?;
        let packed = manifest.squashfs().ok_or_else(|| {
            Error::admin(format!("the image store's record of {digest} names no squashfs file"))
        })?;
        self.open_located(digest, Located::of(packed))
    }

    fn open_located(&self, digest: &Digest, located: Located) -> Result<(OwnedFd, Located)> {
        let file = beneath::open(&self.top, &located.path, OFlags::RDONLY).map_err(|error| {
            if beneath::is_absent(error) {
                no_image(&format!("id:{digest}"))
            } else {
                self.failed(&located.path, error)
            }
        })?;
        self.check(&file, &located.path)?;
        Ok((file, located))
    }

    /// Opens the same file again for the node's own use: call it on a thread that has become
    /// the store's owner. `expected` is device and inode of what the user could open.
    pub fn open_as_owner(&self, located: &Located, expected: (u64, u64)) -> Result<OwnedFd> {
        let file = beneath::open(&self.top, &located.path, OFlags::RDONLY)
            .map_err(|error| self.failed(&located.path, error))?;
        let found = self.check(&file, &located.path)?;
        if found != expected {
            return Err(Error::admin(format!(
                "the image store's {} changed while it was opened",
                located.path
            ))
            .hint("try again; if it stays, somebody replaces files in the store by hand"));
        }
        Ok(file)
    }

    /// Whether `uid` with `groups` could open the image, judged from owner, mode and access
    /// list alone, for whoever may not become that user. False for what is not there.
    ///
    /// An image's record carries the same rights as its file.
    pub fn may_read(&self, digest: &Digest, uid: u32, groups: &[u32]) -> Result<bool> {
        let path = manifest::path(digest);
        let failed = |error| self.failed(&path, error);
        let file = match beneath::open(&self.top, &path, OFlags::PATH) {
            Ok(file) => file,
            Err(error) if beneath::is_absent(error) => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        let mut buffer = [0; 4096];
        // An O_PATH descriptor has no attributes of its own, its link in /proc has.
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let acl = match rustix::fs::getxattr(link, acl::ATTRIBUTE, &mut buffer[..]) {
            Ok(n) => Acl::decode(&buffer[..n])
                .ok_or_else(|| Error::admin(format!("the access list of {path} is broken")))?,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Acl::of_mode(stat.st_mode),
            Err(error) => return Err(failed(error)),
        };
        Ok(acl.may_read(stat.st_uid, stat.st_gid, Principal { uid, groups }))
    }

    /// The record of `digest`, if there is one that the calling thread may read.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>> {
        let path = manifest::path(digest);
        match beneath::read(&self.top, &path, manifest::MAX_BYTES) {
            Ok(bytes) => Manifest::parse(&bytes, digest).map(Some),
            Err(error) if beneath::is_absent(error) => Ok(None),
            Err(error) => Err(self.failed(&path, error)),
        }
    }

    /// The meaning stored at `path` below `refs/`, if the calling thread may read it.
    pub(crate) fn reference(&self, path: &str) -> Result<Option<Reference>> {
        let full = format!("refs/{path}");
        match beneath::read(&self.top, &full, reference::MAX_BYTES) {
            Ok(bytes) => Reference::parse(&bytes, path).map(Some),
            Err(error) if beneath::is_absent(error) => Ok(None),
            Err(error) => Err(self.failed(&full, error)),
        }
    }

    fn is_there(&self, path: &str) -> bool {
        beneath::open(&self.top, path, OFlags::PATH).is_ok()
    }

    /// The kernel mounts the file: whatever the path says, only a file that our own writer
    /// alone could have written is good enough. Gives device and inode.
    fn check(&self, file: impl AsFd, path: &str) -> Result<(u64, u64)> {
        let stat = rustix::fs::fstat(file).map_err(|error| self.failed(path, error))?;
        let wrong = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            "is not a plain file"
        } else if stat.st_uid != self.owner {
            "does not belong to the store's owner"
        } else if stat.st_mode & 0o022 != 0 {
            "can be written by others"
        } else if stat.st_nlink != 1 {
            "has other names"
        } else {
            return Ok((stat.st_dev, stat.st_ino));
        };
        Err(Error::admin(format!("the image store's {path} {wrong}; it will not be mounted")))
    }

    fn absent(&self, name: &str, platform: &str, others: &[String]) -> Error {
        if others.is_empty() {
            return no_image(name);
        }
        Error::user(format!(
            "{name}: in the store for {} only, not for {platform}",
            others.join(", ")
        ))
        .hint(format!("shifterimg pull --platform {platform} {}", typed(name)))
    }

    pub(crate) fn failed(&self, path: &str, error: Errno) -> Error {
        Error::admin(format!("cannot read {}/{path}", self.path.display())).because(error)
    }
}

fn no_image(name: &str) -> Error {
    let error = Error::user(format!("{name}: no such image in the store"));
    if name.starts_with("id:") || name.starts_with("user:") {
        error.hint("shifterimg images lists those that you can use")
    } else {
        error.hint(format!("shifterimg pull {}", typed(name)))
    }
}

fn unreadable(name: &str) -> Error {
    Error::user(format!("{name} is an image of yours alone, which cannot be looked up here"))
        .hint(format!("name its digest, {}@sha256:…, as shifterimg lookup prints it", typed(name)))
}

/// A name as people type it. The registry stays: only the site's configuration knows which
/// one may be left out.
fn typed(name: &str) -> &str {
    name.strip_prefix("docker:").unwrap_or(name)
}

fn uid_of(login: &str) -> Result<u32> {
    if let Ok(uid) = login.parse() {
        return Ok(uid);
    }
    match nix::unistd::User::from_name(login) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(Error::admin(format!("there is no account {login} on this machine")).hint(
            "create it as the installation guide says, or change store.owner in shifter.toml",
        )),
        Err(error) => {
            Err(Error::admin(format!("cannot look up the account {login}")).because(error))
        }
    }
}
