//! Late binds: what a job has for itself.
//!
//! job_container/tmpfs gives a job its own `/tmp` and the like in a namespace that only the
//! tasks join, after the UDI was staged. So the first rank of the job on the node, while it
//! is in the job's namespace and still root, takes those and lays them into the UDI; and the
//! user's volumes from there, which it opens as the user.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use udi::{Config, Error, Mount, Result, Source};

use crate::absent::Absent;
use crate::job::Ids;
use crate::mountinfo::{Line, Table, is_within};
use crate::piece::{Piece, open_plain};
use crate::proc::Proc;
use crate::source::{attributes, detached, of_host};
use crate::targets::Targets;
use crate::{fault, namespace, open, sys};

/// What ranks compare with what they find, and what they may have to replace.
#[derive(Debug)]
pub(crate) struct Late {
    /// The root of slurmstepd's namespace, and its mounts: opened there, read where they differ.
    host: u64,
    table: OwnedFd,
    mounts: Vec<Mount>,
    targets: Targets,
    absent: Vec<Absent>,
    ids: Ids,
    site: Config,
}

impl Late {
    /// Called in slurmstepd, in the host's namespace.
    pub(crate) fn new(
        mounts: Vec<Mount>,
        targets: Targets,
        absent: Vec<Absent>,
        ids: Ids,
        site: &Config,
    ) -> Result<Self> {
        let table = rustix::fs::open(
            "/proc/thread-self/mountinfo",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(fault::site("cannot open /proc/thread-self/mountinfo"))?;
        Ok(Self { host: own_root()?, table, mounts, targets, absent, ids, site: site.clone() })
    }

    /// Called by a rank: enters the UDI and lays in what the job has for itself, unless another
    /// rank did. `lock` was opened in slurmstepd.
    pub(crate) fn enter(&self, udi: &OwnedFd, lock: &OwnedFd) -> Result<()> {
        let enter = || namespace::enter(udi).map_err(fault::site("cannot enter the image"));
        if own_root()? == self.host {
            self.complaint().map_or(Ok(()), Err)?;
            return enter();
        }
        let proc = Proc::open()?;
        let here = proc.mounts()?;
        let host = Table::read(&self.table)?;
        // Where nothing is seen nothing would be the job's own.
        if here.mount_of("/").is_none() || host.mount_of("/").is_none() {
            return Err(Error::bug("the table of mounts has no root"));
        }
        let own = here.own(&host);
        let mut pieces = self.directories(&own, &here, &proc)?;
        pieces.extend(self.volumes(&own, &here)?);
        enter()?;
        // A POSIX lock, because it is the process's: ranks inherited one open file.
        rustix::fs::fcntl_lock(lock, FlockOperation::LockExclusive)
            .map_err(fault::site("cannot lock the job's directories"))?;
        let done = self.attach(&pieces, &proc);
        rustix::fs::fcntl_lock(lock, FlockOperation::Unlock)
            .map_err(fault::bug("cannot unlock the job's directories"))?;
        done
    }

    /// What is wrong where the job has nothing for itself.
    pub(crate) fn complaint(&self) -> Option<Error> {
        self.absent.first().map(Absent::error)
    }

    /// The job's own directories, for each mount that shows the host's.
    fn directories(&self, own: &[&Line], here: &Table, proc: &Proc) -> Result<Vec<Piece<'_>>> {
        let mut pieces = Vec::new();
        for (nth, mount) in self.mounts.iter().enumerate().filter(|(_, it)| it.flags.per_job) {
            let Source::Host(from) = &mount.source else { continue };
            let from = from.to_string_lossy();
            for line in own.iter().filter(|line| is_within(&line.point, &from)) {
                let below = line.point.get(from.trim_end_matches('/').len()..).unwrap_or_default();
                let inside = format!("{}{below}", mount.target.as_str().trim_end_matches('/'));
                let covers = |later: &Mount| {
                    let place = later.target.as_str();
                    is_within(&inside, place) && is_within(place, mount.target.as_str())
                };
                let is_covered = self.mounts.iter().skip(nth + 1).any(covers);
                // The volume itself is opened as the user.
                let shown =
                    if below.is_empty() { !mount.is_users() } else { mount.flags.recursive };
                if shown && !is_covered {
                    let tree = take(line, mount, below, proc)?;
                    let what = here.place_of(&line.point);
                    pieces.push(Piece { tree, what, mount, below: below.to_owned() });
                }
            }
        }
        Ok(pieces)
    }

    /// The user's volumes that are of the job's own directories, opened as the user.
    fn volumes(&self, own: &[&Line], here: &Table) -> Result<Vec<Piece<'_>>> {
        let of_the_host =
            |mount: &&Mount| mount.is_users() && matches!(mount.source, Source::Host(_));
        let mounts: Vec<&Mount> = self.mounts.iter().filter(of_the_host).collect();
        if mounts.is_empty() {
            return Ok(Vec::new());
        }
        let Ids { uid, gid, groups } = &self.ids;
        let sources = open::as_account(*uid, *gid, groups, || {
            mounts.iter().map(|mount| self.volume(mount, own)).collect::<Result<Vec<_>>>()
        })?;
        let mut pieces = Vec::new();
        for (mount, source) in mounts.into_iter().zip(sources) {
            if let Some((source, path)) = source {
                let (tree, what) = (detached(mount, &source)?, here.place_of(&path));
                pieces.push(Piece { tree, what, mount, below: String::new() });
            }
        }
        Ok(pieces)
    }

    /// What the job has for a volume, and where; nothing where the host's, which is in the UDI
    /// already, is the same.
    fn volume(&self, mount: &Mount, own: &[&Line]) -> Result<Option<(OwnedFd, String)>> {
        let is_own = |path: &str| own.iter().any(|line| is_within(path, &line.point));
        let Source::Host(typed) = &mount.source else { return Ok(None) };
        let absent = self.absent.iter().any(|absent| absent.is(mount));
        let must = absent || is_own(&typed.to_string_lossy());
        match of_host(mount, &self.site) {
            Ok(Some(source)) => {
                let path = Proc::open()?.path_of(&source)?;
                Ok((must || is_own(&path)).then_some((source, path)))
            }
            Err(error) if must => Err(error),
            _ => Ok(None),
        }
    }

    fn attach(&self, pieces: &[Piece<'_>], proc: &Proc) -> Result<()> {
        // What has a piece of its own is laid over the others when its turn comes.
        let has_own = |mount: &Mount| pieces.iter().any(|piece| piece.mount.target == mount.target);
        let others: Vec<&Mount> = self.mounts.iter().filter(|mount| !has_own(mount)).collect();
        for (nth, piece) in pieces.iter().enumerate() {
            // By a link of the image's two may have one place (`/var/tmp -> /tmp`).
            let is_there =
                |later: &Piece<'_>| later.path(&self.targets) == piece.path(&self.targets);
            if !pieces.iter().skip(nth + 1).any(is_there) {
                piece.attach(&others, &self.targets, proc)?;
            }
        }
        Ok(())
    }
}

/// The number of the mount at the root: no two namespaces share one. Unlike the namespace itself it
/// is asked for without /proc, whose part for a new process takes longer than entering the image.
fn own_root() -> Result<u64> {
    rustix::fs::statx(CWD, "/", AtFlags::empty(), StatxFlags::MNT_ID)
        .map(|stat| stat.stx_mnt_id)
        .map_err(fault::site("cannot look at the root directory"))
}

/// A copy of a directory of the job's own, with the flags of the mount it goes into.
///
/// Its path may lead through directories of the user's, who may exchange them for links: what is
/// opened must be the very mount.
fn take(line: &Line, mount: &Mount, below: &str, proc: &Proc) -> Result<OwnedFd> {
    let point = line.point.as_str();
    let failed = || fault::site(format!("cannot take the job's own {point}"));
    let directory = open_plain(point).map_err(failed())?;
    if proc.mount_of(&directory)? != line.id || proc.path_of(&directory)? != point {
        return Err(failed()(Errno::STALE));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(&directory, "", flags).map_err(failed())?;
    let mut mount = mount.clone();
    mount.flags.dev &= below.is_empty();
    mount.flags.recursive = true;
    sys::mount_setattr(&tree, attributes(&mount)).map_err(failed())?;
    Ok(tree)
}
