//! Images of a node's own: directories and squashfs files that only root can write.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use udi::{Config, Error, GuestPath, Result, User};

use crate::image::ImageFile;
use crate::open::as_account;
use crate::opened::BaseFile;
use crate::proc::Proc;
use crate::{fault, sys};

/// Opens `local:PATH` for its user. It may be reached by links, but by none that lead out of the
/// directory that the site lists; and whatever the path says, only what root alone could have
/// written, and put there, is good enough.
pub(crate) fn open(path: &GuestPath, site: &Config, user: &User) -> Result<BaseFile> {
    let typed = format!("--image=local:{path}");
    let place = site.images.local.iter().find(|place| path.is_within(place));
    let place = place.ok_or_else(|| {
        Error::user(format!("{typed}: it is not below a directory that this site lists"))
    })?;
    let at = Place { place, path, typed: &typed };
    let found = at.open(OFlags::PATH)?;
    let real = Proc::open()?.path_of(&found)?;
    udi_store::site::check(Path::new(&real)).map_err(|e| e.about(format!("{typed}: ")))?;
    let stat = at.status(&found)?;
    // This open is the access check.
    as_account(user.uid, user.gid, &user.groups, || {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let theirs = rustix::fs::openat(CWD, real.as_str(), flags, Mode::empty())
            .map_err(|errno| fault::user(format!("{typed}: cannot open {real}"))(errno))
            .map_err(|e| e.hint("you need the right to read it on the compute node"))?;
        at.same(&stat, &at.status(&theirs)?)
    })?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(BaseFile::Directory(found)),
        FileType::RegularFile => at.file(&stat).map(BaseFile::Image),
        _ => Err(Error::user(format!("{typed}: neither a directory nor a plain file"))),
    }
}

/// Where a user says that an image is.
struct Place<'a> {
    place: &'a GuestPath,
    path: &'a GuestPath,
    typed: &'a str,
}

impl Place<'_> {
    /// Opens it as root, below the site's directory.
    fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        let Self { place, path, typed } = self;
        let flags = flags | OFlags::CLOEXEC;
        let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, place.as_str(), top, Mode::empty())
            .map_err(fault::site(format!("images.local: cannot open {place}")))?;
        let below: Vec<&str> = path.components().skip(place.components().count()).collect();
        let below = if below.is_empty() { ".".to_owned() } else { below.join("/") };
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&top, below, flags, Mode::empty(), inside).map_err(
            |errno| match errno {
                Errno::NOENT | Errno::NOTDIR => {
                    Error::user(format!("{typed}: there is no {path} on this node"))
                        .hint(format!("check the spelling; ls {place} shows what there is"))
                }
                Errno::XDEV | Errno::LOOP => {
                    Error::admin(format!("{typed}: a link on the way leads out of {place}"))
                }
                errno => fault::site(format!("{typed}: cannot open {path}"))(errno),
            },
        )
    }

    fn status(&self, file: &OwnedFd) -> Result<Stat> {
        rustix::fs::fstat(file).map_err(fault::site(format!("{}: cannot look at it", self.typed)))
    }

    fn same(&self, one: &Stat, other: &Stat) -> Result<()> {
        if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino) {
            return Ok(());
        }
        Err(Error::admin(format!("{}: it changed while it was opened", self.typed)))
    }

    /// A file that root's descriptor goes behind a loop device for: the mount may be shared by
    /// jobs of several users.
    fn file(&self, stat: &Stat) -> Result<ImageFile> {
        let fd = self.open(OFlags::RDONLY | OFlags::NONBLOCK)?;
        let own = self.status(&fd)?;
        self.same(stat, &own)?;
        let mut magic = [0; 4];
        let length = rustix::io::pread(&fd, &mut magic, 0)
            .map_err(fault::site(format!("{}: cannot read it", self.typed)))?;
        let wrong = if own.st_nlink != 1 {
            "has other names"
        } else if length < 4 || &magic != b"hsqs" {
            "is not a squashfs file"
        } else if sys::has_writers(&fd) {
            "is open for writing"
        } else {
            // A file that root changes in its place has another time, and so another mount.
            let (device, inode) = (own.st_dev, own.st_ino);
            let name =
                format!("local-{device:x}-{inode:x}-{:x}.{:x}", own.st_ctime, own.st_ctime_nsec);
            return Ok(ImageFile { fd, name, kind: "squashfs".into() });
        };
        Err(Error::admin(format!("{}: {} {wrong}", self.typed, self.path)))
    }
}
