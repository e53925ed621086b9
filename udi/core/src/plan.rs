//! The plan: what is put where, with whose rights, and because of whom. Data, no action.

use std::fmt;
use std::path::PathBuf;

use crate::request::{check_source, protected, protecting};
use crate::{Config, Digest, Error, GuestPath, Request, Result, SiteMount, User};

/// What is known of the job on this node when the plan is made.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The image's digest, as pinned at submission.
    pub image: Digest,
    /// Who the job runs as.
    pub user: User,
}

/// A UDI as a list of mounts. It is a decision, not a check: whether a source exists and
/// may be used is found out by opening it, once, in `udi-mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The image that everything else lies over.
    pub image: Digest,
    /// Files that replace or complete the image's.
    pub files: Vec<SiteFile>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Where a user's mount may not end up, after symbolic links are resolved.
    pub protected: Vec<GuestPath>,
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
    /// A copy of the host's file of the same path, if there is one.
    Copied(GuestPath),
}

impl SiteFile {
    /// Where it appears.
    pub fn path(&self) -> &GuestPath {
        match self {
            Self::Made { path, .. } | Self::Copied(path) => path,
        }
    }
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory or file of the host.
    Host(PathBuf),
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
    /// A job may have a directory of its own here (job_container/tmpfs): then the first
    /// rank of the job puts that in its place.
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

const HOST_TREE: Flags = Flags {
    read_only: false,
    dev: false,
    recursive: true,
    slave: true,
    optional: false,
    per_job: false,
};

impl Plan {
    /// Merges the request with the site's policy.
    pub fn make(request: &Request, site: &Config, facts: &Facts) -> Result<Self> {
        if facts.user.uid == 0 && !site.node.allow_root {
            return Err(Error::user("root's jobs cannot use images at this site")
                .hint("submit the job as an ordinary user"));
        }
        let mut mounts = builtin(site)?;
        for mount in &site.mount {
            mounts.push(site_mount(mount, Origin::Site)?);
        }
        let modules = request.modules(site)?;
        for (name, module) in &modules {
            for mount in &module.mount {
                mounts.push(site_mount(mount, Origin::Module(name.clone()))?);
            }
        }
        for volume in request.volumes() {
            mounts.push(Mount {
                source: Source::Host(volume.from.clone().into()),
                target: volume.to.clone(),
                rights: Rights::User,
                flags: Flags { read_only: volume.read_only, ..HOST_TREE },
                origin: Origin::Volume(volume.to_string()),
            });
        }
        let files = files(site, &facts.user)?;
        let protected = protected(site, &modules);
        Ok(Self { image: facts.image.clone(), files, mounts, protected, user: facts.user.clone() })
    }

    /// The directories of every UDI that a job may have for itself.
    pub fn per_job(site: &Config) -> Result<Vec<Mount>> {
        Ok(builtin(site)?.into_iter().filter(|mount| mount.flags.per_job).collect())
    }

    /// Whether a user's mount may be at `resolved`, where symbolic links led it.
    pub fn check_target(&self, mount: &Mount, resolved: &GuestPath) -> Result<()> {
        let Origin::Volume(typed) = &mount.origin else {
            return Ok(());
        };
        if protecting(resolved, &self.protected).is_none() {
            return Ok(());
        }
        let what =
            format!("--volume={typed}: inside the image that is {resolved}, which is protected");
        Err(Error::user(what).hint("mount it somewhere else, for example under /mnt"))
    }

    /// Whether the site lets the user mount what `resolved` is on the host.
    pub fn check_source(mount: &Mount, resolved: &str, site: &Config) -> Result<()> {
        match &mount.origin {
            Origin::Volume(typed) => check_source(resolved, site)
                .map_err(|why| Error::user(format!("--volume={typed}: {why}"))),
            _ => Ok(()),
        }
    }
}

/// What a rank needs of the host in any image.
fn builtin(site: &Config) -> Result<Vec<Mount>> {
    let spool = site.node.spool.to_string_lossy();
    let plain = Flags { per_job: false, ..HOST_TREE };
    let job = Flags { per_job: true, optional: true, ..HOST_TREE };
    [
        ("/proc", plain),
        ("/sys", plain),
        ("/dev", Flags { dev: true, ..plain }),
        ("/tmp", job),
        ("/var/tmp", job),
        // Munge's socket, the PMIx directories and the batch script's copy are Slurm's own.
        (&*spool, Flags { optional: true, ..plain }),
    ]
    .into_iter()
    .map(|(path, flags)| {
        Ok(Mount {
            source: Source::Host(path.into()),
            target: GuestPath::parse(path)?,
            rights: Rights::Root,
            flags,
            origin: Origin::Builtin,
        })
    })
    .collect()
}

fn site_mount(mount: &SiteMount, origin: Origin) -> Result<Mount> {
    Ok(Mount {
        source: Source::Host(mount.from.clone()),
        target: mount.target()?,
        rights: Rights::Root,
        flags: Flags {
            read_only: mount.read_only,
            slave: mount.slave,
            optional: mount.optional,
            ..HOST_TREE
        },
        origin,
    })
}

fn files(site: &Config, user: &User) -> Result<Vec<SiteFile>> {
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
                    protocols: files\nservices: files\nethers: files\nrpc: files\n";
    let mut files = Vec::new();
    for (path, content) in [
        ("/etc/passwd", user.passwd()),
        ("/etc/group", user.group()),
        ("/etc/nsswitch.conf", nsswitch.to_owned()),
    ] {
        files.push(SiteFile::Made { path: GuestPath::parse(path)?, content });
    }
    files.extend(site.etc.copy.iter().cloned().map(SiteFile::Copied));
    Ok(files)
}

impl fmt::Display for Plan {
    /// A mount table with the origin of each line: what users paste into tickets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "image  {}", self.image)?;
        for file in &self.files {
            match file {
                SiteFile::Made { path, .. } => writeln!(f, "file   {path} (made)")?,
                SiteFile::Copied(path) => writeln!(f, "file   {path} (the host's)")?,
            }
        }
        self.mounts.iter().try_for_each(|mount| writeln!(f, "{mount}"))
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source::Host(from) = &self.source;
        write!(f, "bind   {}", from.display())?;
        if from.as_os_str() != self.target.as_str() {
            write!(f, " -> {}", self.target)?;
        }
        let flags = [
            (self.flags.read_only, "ro"),
            (self.flags.dev, "dev"),
            (self.flags.recursive, "rec"),
            (self.flags.slave, "slave"),
            (self.flags.optional, "optional"),
            (self.rights == Rights::User, "as-user"),
        ];
        let words: Vec<&str> = flags.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        write!(f, " {}", words.join(","))?;
        match &self.origin {
            Origin::Builtin => f.write_str(" [every image]"),
            Origin::Site => f.write_str(" [site]"),
            Origin::Module(name) => write!(f, " [module {name}]"),
            Origin::Volume(typed) => write!(f, " [--volume={typed}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ask;
    use std::path::Path;

    fn user(uid: u32) -> User {
        User {
            uid,
            gid: 1001,
            groups: vec![1001],
            login: "alice".into(),
            gecos: String::new(),
            home: "/home/alice".into(),
            shell: "/bin/sh".into(),
            group_names: vec![],
        }
    }

    fn plan(uid: u32) -> Result<Plan> {
        let text = "
            [store]
            path = \"/shared/shifter\"
            [etc]
            copy = [\"/etc/hosts\"]
            [[mount]]
            from = \"/home\"
            [modules.mpich]
            [[modules.mpich.mount]]
            from = \"/opt/mpich/lib\"
            to = \"/opt/site/mpich\"
            read_only = true
        ";
        let site = Config::parse(text, Path::new("shifter.toml"))?;
        let Ask::Image(request) = Request::parse("x:1", "/scratch/me:/data:ro", "mpich", &site)?
        else {
            panic!("no request")
        };
        let facts = Facts { image: Digest::from_bytes(&[1; 32]), user: user(uid) };
        Plan::make(&request, &site, &facts)
    }

    #[test]
    fn the_plan_reads_like_a_mount_table() {
        let expected = format!(
            "image  sha256:{}
file   /etc/passwd (made)
file   /etc/group (made)
file   /etc/nsswitch.conf (made)
file   /etc/hosts (the host's)
bind   /proc rec,slave [every image]
bind   /sys rec,slave [every image]
bind   /dev dev,rec,slave [every image]
bind   /tmp rec,slave,optional [every image]
bind   /var/tmp rec,slave,optional [every image]
bind   /var/spool/slurmd rec,slave,optional [every image]
bind   /home rec,slave [site]
bind   /opt/mpich/lib -> /opt/site/mpich ro,rec,slave [module mpich]
bind   /scratch/me -> /data ro,rec,slave,as-user [--volume=/scratch/me:/data:ro]
",
            "01".repeat(32)
        );
        assert_eq!(plan(1001).unwrap().to_string(), expected);
    }

    #[test]
    fn a_symlink_of_the_image_cannot_lead_a_volume_to_a_protected_place() {
        let plan = plan(1001).unwrap();
        let volume = plan.mounts.last().unwrap();
        let place = |path| GuestPath::parse(path).unwrap();
        for bad in ["/etc", "/etc/ssl", "/", "/home/alice"] {
            assert!(plan.check_target(volume, &place(bad)).is_err(), "{bad}");
        }
        plan.check_target(volume, &place("/data")).unwrap();
        plan.check_target(&plan.mounts[0], &place("/proc")).unwrap();
    }

    #[test]
    fn root_is_refused_unless_the_site_allows_it() {
        assert_eq!(plan(0).unwrap_err().blame(), crate::Blame::User);
    }
}
