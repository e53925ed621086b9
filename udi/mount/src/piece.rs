//! Putting what is a job's own inside: see [`crate::late`].
//!
//! Users' processes may run inside already and change what they can write there: no link is
//! followed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use udi::{Error, GuestPath, Mount, Result};

use crate::guest::{is_directory, is_mount};
use crate::mountinfo::{Place, is_within};
use crate::proc::Proc;
use crate::targets::Targets;
use crate::{fault, kind};

/// Something of the job's own, not attached yet.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) tree: OwnedFd,
    /// What it is.
    pub(crate) what: Option<Place>,
    /// The mount that shows it, and where below the mount's target: there itself if empty.
    pub(crate) mount: &'a Mount,
    pub(crate) below: String,
}

impl Piece<'_> {
    /// Where it belongs.
    pub(crate) fn path(&self, targets: &Targets) -> String {
        format!("{}{}", targets.of(self.mount).as_str().trim_end_matches('/'), self.below)
    }

    /// Attaches it where it belongs, unless a rank did: that is what the mounts say, for a rank
    /// may have died half-way. Of `mounts`, the user's below it stay seen.
    pub(crate) fn attach(&self, mounts: &[&Mount], targets: &Targets, proc: &Proc) -> Result<()> {
        let Some(target) = self.target(targets)? else { return Ok(()) };
        let at = proc.path_of(&target)?;
        let table = proc.mounts()?;
        let is_done = table.mount_of(&at).is_some_and(|mount| mount.point == at)
            && table.place_of(&at) == self.what;
        // Volumes that the user wants below would be covered, and are moved to the top.
        let below: Vec<&Mount> =
            mounts.iter().copied().filter(|mount| is_below(mount, &at, targets)).collect();
        let mut covered = Vec::new();
        if !is_done {
            covered =
                below.iter().map(|mount| open_plain(targets.of(mount).as_str()).ok()).collect();
            move_onto(&self.tree, &target).map_err(fault::site(format!(
                "cannot put the job's own {} inside",
                self.path(targets)
            )))?;
        }
        for (nth, mount) in below.iter().enumerate() {
            let absent = |errno| unreachable(mount, errno);
            let place = open_plain(targets.of(mount).as_str()).map_err(absent)?;
            match covered.get(nth) {
                Some(Some(volume)) => move_onto(volume, &place).map_err(absent)?,
                _ if is_mount(&place)? => {}
                _ => return Err(absent(Errno::NOENT)),
            }
        }
        Ok(())
    }

    /// Where it goes; nothing where the UDI has no such place below what it shows of the host.
    fn target(&self, targets: &Targets) -> Result<Option<OwnedFd>> {
        let path = targets.of(self.mount);
        let top = open_plain(path.as_str());
        if self.below.is_empty() && self.mount.is_users() {
            return self.fitting(path, top).map(Some);
        }
        let top = top.map_err(|errno| self.unopened(path, errno))?;
        if self.below.is_empty() {
            return Ok(Some(top));
        }
        match open_below(&top, self.below.trim_start_matches('/')) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.unopened(path, errno)),
        }
    }

    /// The place of a volume, which was made for what the node has, or for what nobody knew yet:
    /// it becomes a file or a directory, as the job's own is.
    fn fitting(
        &self,
        path: &GuestPath,
        found: std::result::Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd> {
        let directory = is_directory(&self.tree)?;
        match found {
            Ok(target) if is_directory(&target)? == directory => return Ok(target),
            // Missing where a rank died after it took the wrong one away.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.unopened(path, errno)),
        }
        kind::set(path, directory).map_err(|errno| match errno {
            // It is not ours to change.
            Errno::EXIST => fault::clash(self.mount),
            Errno::ROFS => {
                let what = "FROM is a directory on the node and a file in the job, or the reverse";
                fault::of_volume(self.mount, Error::user(what))
                    .hint("in the job, give it a name that the node does not have there")
            }
            errno => self.unopened(path, errno),
        })
    }

    fn unopened(&self, path: &GuestPath, errno: Errno) -> Error {
        match errno {
            Errno::LOOP if self.mount.is_users() => {
                let what = format!("{path} leads through a link inside, and FROM is the job's own");
                let error = fault::of_volume(self.mount, Error::user(what));
                error.hint("name where the link leads")
            }
            Errno::NOENT | Errno::NOTDIR if self.mount.is_users() => unreachable(self.mount, errno),
            errno => fault::site(format!("cannot reach {path} inside"))(errno),
        }
    }
}

/// Whether the user wants `mount` below `at`, by what is written or by where that led.
fn is_below(mount: &Mount, at: &str, targets: &Targets) -> bool {
    let names = [&mount.target, targets.of(mount)];
    mount.is_users() && names.iter().any(|name| name.as_str() != at && is_within(name.as_str(), at))
}

/// Opens what is at `path`, if no link is on the way.
pub(crate) fn open_plain(path: &str) -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// As [`open_plain`], from `top` down.
pub(crate) fn open_below(top: impl AsFd, path: &str) -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(top, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn move_onto(tree: &OwnedFd, target: &OwnedFd) -> std::result::Result<(), Errno> {
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", onto)
}

/// The place that the user wants is missing, or is a link, in a directory of the job's own.
fn unreachable(mount: &Mount, errno: Errno) -> Error {
    let what = format!("cannot reach {} in the job's own directory", mount.target);
    fault::of_volume(mount, fault::user(what)(errno).hint("make it there first, in a step before"))
}
