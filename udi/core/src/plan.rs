//! The plan: what is put where, with whose rights, and because of whom. Data, no action.

mod mounts;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::request::{ELSEWHERE, check_source, protected, protecting};
use crate::{
    CacheFs, Config, Digest, Error, GuestPath, Ldcache, Replacement, Request, Result, Size, User,
    libraries,
};
use mounts::{files, home, of_the_site, volumes};

/// What is known of the job on this node when the plan is made.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The image.
    pub image: Base,
    /// Who the job runs as.
    pub user: User,
    /// Values of the variables that the request names ([`Request::variables`]).
    pub variables: BTreeMap<String, String>,
}

/// What everything else lies over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// An image of the store, as pinned at submission.
    Store(Digest),
    /// A directory or file of the node's, below one that the site lists.
    Local(GuestPath),
}

/// A UDI as a list of mounts. It is a decision, not a check: whether a source exists and
/// may be used is found out by opening it, once, in `udi-mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The image's name, with its digest.
    pub name: String,
    /// The image that everything else lies over.
    pub image: Base,
    /// How much may be written into it, in memory; nothing where it is read-only.
    pub writable: Option<Size>,
    /// Files that replace or complete the image's.
    pub files: Vec<SiteFile>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Directories whose libraries the image's loader finds before its own.
    pub ldcache: Vec<Ldcache>,
    /// Libraries of the host that take the place of the image's.
    pub libraries: Vec<Replacement>,
    /// The module that gives an image with an older glibc the host's.
    pub glibc: Option<String>,
    /// Where a user's mount may not end up, after symbolic links are resolved.
    pub protected: Vec<GuestPath>,
    /// At or below which directories it may be.
    pub allowed: Vec<GuestPath>,
    /// Who opens what is opened as the user.
    pub user: User,
}

/// A small file of the site layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteFile {
    /// Made for this job.
    Made {
        /// Where it appears.
        path: GuestPath,
        /// Its content.
        content: String,
    },
    /// A copy of a file of the host's.
    Copied {
        /// Where it appears.
        path: GuestPath,
        /// What is copied.
        from: PathBuf,
        /// Left out when it does not exist.
        optional: bool,
    },
}

impl SiteFile {
    /// Where it appears.
    pub fn path(&self) -> &GuestPath {
        match self {
            Self::Made { path, .. } | Self::Copied { path, .. } => path,
        }
    }
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory or file of the host.
    Host(PathBuf),
    /// An empty directory in memory, no larger than this.
    Tmpfs {
        /// How much fits.
        size: Size,
        /// Whether everybody may write it, as `/tmp`; else it is the user's alone.
        shared: bool,
    },
    /// A per-node cache.
    Cache(CachePlan),
    /// A data image of the store.
    Image(Digest),
}

/// A per-node cache, as it shall be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePlan {
    /// The site's directory for its file.
    pub directory: PathBuf,
    /// How much fits.
    pub size: Size,
    /// The file system in it.
    pub fs: CacheFs,
}

/// With whose rights a source is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// The site named it: root looks it up.
    Root,
    /// The user named it: looked up with the user's ids, groups and no capability.
    User,
}

/// Who wanted a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Every UDI has it.
    Builtin,
    /// `[[mount]]` of the site's configuration.
    Site,
    /// A site module.
    Module(String),
    /// `--volume`, as typed.
    Volume(String),
}

/// How a mount behaves. All are nosuid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Cannot be written.
    pub read_only: bool,
    /// Device nodes work: only below `/dev`.
    pub dev: bool,
    /// Takes along what is mounted below the source.
    pub recursive: bool,
    /// Follows the host's later mounts and unmounts.
    pub slave: bool,
    /// Left out when the source does not exist.
    pub optional: bool,
    /// What a job has for itself here or below (job_container/tmpfs) takes the place of the
    /// host's: the first rank of the job puts it there.
    pub per_job: bool,
}

/// One mount of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What.
    pub source: Source,
    /// Where, inside.
    pub target: GuestPath,
    /// With whose rights the source is looked up.
    pub rights: Rights,
    /// How.
    pub flags: Flags,
    /// Because of whom.
    pub origin: Origin,
}

impl Mount {
    /// Whether the user wanted it, so that it must not cover what is protected.
    pub fn is_users(&self) -> bool {
        matches!(self.origin, Origin::Volume(_))
    }
}

impl Plan {
    /// Merges the request with the site's policy.
    pub fn make(request: &Request, site: &Config, facts: &Facts) -> Result<Self> {
        if facts.user.uid == 0 && !site.node.allow_root {
            return Err(Error::user("root's jobs cannot use images at this site")
                .hint("submit the job as an ordinary user"));
        }
        let modules = request.modules(site)?;
        let mut mounts = of_the_site(&modules, site)?;
        mounts.extend(home(site, &facts.user)?);
        mounts.extend(volumes(request, site, &facts.variables)?);
        Ok(Self {
            name: request.image().to_string(),
            image: facts.image.clone(),
            writable: request.writable(),
            files: files(site, &facts.user)?,
            mounts,
            ldcache: libraries::directories(&modules),
            libraries: libraries::replacements(&modules),
            glibc: libraries::glibc(&modules),
            protected: protected(site, &modules),
            allowed: site.volumes.to.clone(),
            user: facts.user.clone(),
        })
    }

    /// The mounts that something of the job's own may have to replace, for a step that finds
    /// its UDI staged. `variables` as in [`Facts`].
    pub fn late(
        request: &Request,
        site: &Config,
        variables: &BTreeMap<String, String>,
    ) -> Result<Vec<Mount>> {
        let mut mounts = of_the_site(&request.modules(site)?, site)?;
        mounts.extend(volumes(request, site, variables)?);
        Ok(mounts)
    }

    /// Whether the image's loader gets anything.
    pub fn wants_libraries(&self) -> bool {
        !self.ldcache.is_empty() || !self.libraries.is_empty() || self.glibc.is_some()
    }

    /// Whether a user's mount may be at `resolved`, where symbolic links led it.
    pub fn check_target(&self, mount: &Mount, resolved: &GuestPath) -> Result<()> {
        let Origin::Volume(typed) = &mount.origin else {
            return Ok(());
        };
        let why = match protecting(resolved, &self.protected) {
            Some(_) => "is protected",
            None if self.allowed.iter().any(|place| resolved.is_within(place)) => return Ok(()),
            None => "this site does not allow",
        };
        let what = format!("--volume={typed}: inside the image that is {resolved}, which {why}");
        Err(Error::user(what).hint("mount it somewhere else, for example under /mnt"))
    }

    /// Whether the site lets the user mount what `resolved` is on the host.
    pub fn check_source(mount: &Mount, resolved: &str, site: &Config) -> Result<()> {
        match &mount.origin {
            Origin::Volume(typed) => check_source(resolved, site)
                .map_err(|why| Error::user(format!("--volume={typed}: {why}")).hint(ELSEWHERE)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
