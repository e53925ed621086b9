//! Late binds: what a job has for itself.
//!
//! job_container/tmpfs gives a job its own `/tmp` and the like in a namespace that only the
//! tasks join, after the UDI was staged. So the first rank of the job on the node, while it
//! is in the job's namespace and still root, takes those and lays them into the UDI; and the
//! user's volumes from there, which it opens as the user.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use udi::{Config, Error, Mount, Origin, Result, Source};

use crate::absent::Absent;
use crate::guest::{is_directory, is_mount};
use crate::job::Ids;
use crate::mountinfo::{Line, Place, Table, is_within};
use crate::proc::Proc;
use crate::source::{attributes, detached, of_host};
use crate::{fault, namespace, open, sys};

/// What ranks compare with what they find, and what they may have to replace.
#[derive(Debug)]
pub(crate) struct Late {
    /// The root of slurmstepd's namespace, and its mounts: opened there, read where they differ.
    host: u64,
    table: OwnedFd,
    mounts: Vec<Mount>,
    absent: Vec<Absent>,
    ids: Ids,
    site: Config,
}

/// Something of the job's own, not attached yet.
#[derive(Debug)]
struct Piece<'a> {
    tree: OwnedFd,
    place: Option<Place>,
    mount: &'a Mount,
    /// Where below the mount's target; the target itself if empty.
    below: String,
}

impl Late {
    /// Called in slurmstepd, in the host's namespace.
    pub(crate) fn new(
        mounts: Vec<Mount>,
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
        Ok(Self { host: own_root()?, table, mounts, absent, ids, site: site.clone() })
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
        let done = pieces.iter().try_for_each(|piece| self.attach(piece, &pieces, &proc));
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
                    let place = here.place_of(&line.point);
                    pieces.push(Piece { tree, place, mount, below: below.to_owned() });
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
                let (tree, place) = (detached(mount, &source)?, here.place_of(&path));
                pieces.push(Piece { tree, place, mount, below: String::new() });
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

    /// Attaches a piece where it belongs. Done is what the mounts say: a rank may have died
    /// half-way.
    fn attach(&self, piece: &Piece<'_>, pieces: &[Piece<'_>], proc: &Proc) -> Result<()> {
        let Some(target) = place_inside(piece)? else { return Ok(()) };
        let at = proc.path_of(&target)?;
        let is_done = |table: &Table| {
            table.mount_of(&at).is_some_and(|mount| mount.point == at)
                && table.place_of(&at) == piece.place
        };
        // Volumes that the user wants below would be covered, and are moved to the top.
        let comes_later = |mount: &Mount| pieces.iter().any(|it| it.mount.target == mount.target);
        let is_below = |mount: &&Mount| is_below(mount, &at) && !comes_later(mount);
        let below: Vec<&Mount> = self.mounts.iter().filter(is_below).collect();
        let mut covered = Vec::new();
        if !is_done(&proc.mounts()?) {
            covered = below.iter().map(|mount| open_plain(mount.target.as_str()).ok()).collect();
            move_onto(&piece.tree, &target).map_err(|errno| misplaced(piece, &target, errno))?;
        }
        for (nth, mount) in below.iter().enumerate() {
            let target = mount.target.as_str();
            let absent = |errno| unreachable(mount, errno);
            let place = open_plain(target).map_err(absent)?;
            match covered.get(nth) {
                Some(Some(volume)) => move_onto(volume, &place).map_err(absent)?,
                _ if is_mount(&place)? => {}
                _ => return Err(absent(Errno::NOENT)),
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

/// Where a piece goes; nothing where the UDI has no such place below what it shows of the host.
fn place_inside(piece: &Piece<'_>) -> Result<Option<OwnedFd>> {
    let target = &piece.mount.target;
    let failed = || fault::site(format!("cannot reach {target} inside"));
    let resolve = match piece.mount.is_users() {
        // It was judged as it is written; where a link leads now, the user may decide.
        true => ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
        false => ResolveFlags::NO_MAGICLINKS,
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = match rustix::fs::openat2(CWD, target.as_str(), flags, Mode::empty(), resolve) {
        Err(Errno::LOOP) if piece.mount.is_users() => {
            let what = format!("{target} leads through a link inside, and FROM is the job's own");
            return Err(said(piece.mount, Error::user(what)).hint("name where the link leads"));
        }
        Err(errno @ (Errno::NOENT | Errno::NOTDIR)) if piece.mount.is_users() => {
            return Err(unreachable(piece.mount, errno));
        }
        top => top.map_err(failed())?,
    };
    if piece.below.is_empty() {
        return Ok(Some(top));
    }
    let below = piece.below.trim_start_matches('/');
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&top, below, flags, Mode::empty(), resolve) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(failed()(errno)),
    }
}

/// Whether the user wants `mount` below `place`, which was judged as it is written.
fn is_below(mount: &Mount, place: &str) -> bool {
    mount.is_users() && mount.target.as_str() != place && is_within(mount.target.as_str(), place)
}

/// Opens what is at `path`, if no link is on the way.
fn open_plain(path: &str) -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn move_onto(tree: &OwnedFd, target: &OwnedFd) -> std::result::Result<(), Errno> {
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", onto)
}

fn misplaced(piece: &Piece<'_>, target: &OwnedFd, errno: Errno) -> Error {
    let is_file = |file| is_directory(file).is_ok_and(|directory| !directory);
    if piece.mount.is_users() && is_file(&piece.tree) != is_file(target) {
        let what = "FROM is the job's own, and of that only directories can be mounted";
        return said(piece.mount, Error::user(what)).hint("mount the directory that it is in");
    }
    let inside = format!("{}{}", piece.mount.target, piece.below);
    fault::site(format!("cannot put the job's own {inside} inside"))(errno)
}

/// The place that the user wants is missing, or is a link, in a directory of the job's own.
fn unreachable(mount: &Mount, errno: Errno) -> Error {
    let what = format!("cannot reach {} in the job's own directory", mount.target);
    said(mount, fault::user(what)(errno).hint("make it there first, in a step before"))
}

/// Puts what the user typed before the message.
fn said(mount: &Mount, error: Error) -> Error {
    match &mount.origin {
        Origin::Volume(typed) => error.about(format_args!("--volume={typed}: ")),
        _ => error,
    }
}
