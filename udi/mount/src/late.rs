//! Late binds: directories that a job has for itself.
//!
//! job_container/tmpfs gives a job its own `/tmp` and the like in a namespace that only the
//! tasks join, after the UDI was staged. So the first rank of the job on the node, while it
//! is in the job's namespace and still root, takes those and lays them into the UDI.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use udi::{GuestPath, Mount, Plan, Result, Source};

use crate::assemble::attributes;
use crate::sys::{self, MountAttr};
use crate::{fault, namespace};

/// A directory that may be the job's own, and what it is on the host.
#[derive(Debug)]
pub(crate) struct Candidate {
    host: String,
    inside: GuestPath,
    attr: MountAttr,
    id: Option<FileId>,
}

type FileId = (u64, u64);

/// What the job's own directories will be compared with. Called in slurmstepd, in the host's
/// namespace.
pub(crate) fn candidates<'a>(mounts: impl IntoIterator<Item = &'a Mount>) -> Vec<Candidate> {
    let of = |mount: &Mount| {
        let Source::Host(host) = &mount.source else { return None };
        let host = host.to_string_lossy().into_owned();
        let id = file_id(&host);
        Some(Candidate { host, inside: mount.target.clone(), attr: attributes(mount), id })
    };
    mounts.into_iter().filter(|mount| mount.flags.per_job).filter_map(of).collect()
}

/// As [`candidates`], of a plan.
pub(crate) fn of_plan(plan: &Plan) -> Vec<Candidate> {
    candidates(&plan.mounts)
}

fn file_id(path: &str) -> Option<FileId> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty()).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Called by a rank in the job's namespace: enters the UDI and lays in what the job has for
/// itself, unless another rank did. `lock` was opened in slurmstepd: no path is looked up here
/// but the candidates, which are the job's.
pub(crate) fn enter(udi: &OwnedFd, lock: &OwnedFd, candidates: &[Candidate]) -> Result<()> {
    let mut own = Vec::new();
    for candidate in candidates {
        let here = file_id(&candidate.host);
        if here.is_none() || here == candidate.id {
            continue;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(CWD, candidate.host.as_str(), flags)
            .map_err(fault::site(format!("cannot take the job's own {}", candidate.host)))?;
        sys::mount_setattr(&tree, candidate.attr)
            .map_err(fault::site(format!("cannot take the job's own {}", candidate.host)))?;
        own.push((candidate, here, tree));
    }
    namespace::enter(udi).map_err(fault::site("cannot enter the image"))?;
    if own.is_empty() {
        return Ok(());
    }
    // A POSIX lock, because it is the process's: ranks inherited one open file.
    rustix::fs::fcntl_lock(lock, FlockOperation::LockExclusive)
        .map_err(fault::site("cannot lock the job's directories"))?;
    for (candidate, here, tree) in own {
        let failed = || fault::site(format!("cannot put the job's own {} inside", candidate.host));
        let target = rustix::fs::openat2(
            CWD,
            candidate.inside.as_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(failed())?;
        let stat = rustix::fs::fstat(&target).map_err(failed())?;
        // Done is what the mount says: a rank may have died half-way.
        if here != Some((stat.st_dev, stat.st_ino)) {
            let onto =
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            rustix::mount::move_mount(&tree, "", &target, "", onto).map_err(failed())?;
        }
    }
    rustix::fs::fcntl_lock(lock, FlockOperation::Unlock)
        .map_err(fault::bug("cannot unlock the job's directories"))
}
