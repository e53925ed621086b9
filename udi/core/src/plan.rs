//! The plan: what is put where, with whose rights, and because of whom. Data, no action.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::error::printable;
use crate::request::{ELSEWHERE, cache_directory, check_source, protected, protecting};
use crate::{
    CacheFs, Config, Digest, Error, GuestPath, Home, Module, Request, Result, Scratch, SiteMount,
    Size, User, Volume, What, Word,
};

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

const HOST_TREE: Flags = Flags {
    read_only: false,
    dev: false,
    recursive: true,
    slave: true,
    optional: false,
    per_job: true,
};

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

/// What every UDI with these modules has.
fn of_the_site(modules: &[(String, &Module)], site: &Config) -> Result<Vec<Mount>> {
    let mut mounts = builtin(site)?;
    for mount in &site.mount {
        mounts.push(site_mount(mount, Origin::Site)?);
    }
    for (name, module) in modules {
        for mount in &module.mount {
            mounts.push(site_mount(mount, Origin::Module(name.clone()))?);
        }
    }
    Ok(mounts)
}

/// What a rank needs of the host in any image.
fn builtin(site: &Config) -> Result<Vec<Mount>> {
    let spool = site.node.spool.to_string_lossy();
    let plain = HOST_TREE;
    let host = |path: &str, flags| (path.to_owned(), Source::Host(path.into()), flags);
    let scratch = |path: &str, policy| match policy {
        Scratch::Job => host(path, Flags { optional: true, ..plain }),
        Scratch::Host => host(path, Flags { per_job: false, optional: true, ..plain }),
        Scratch::Tmpfs(size) => (path.to_owned(), Source::Tmpfs { size, shared: true }, plain),
    };
    [
        host("/proc", plain),
        host("/sys", plain),
        host("/dev", Flags { dev: true, ..plain }),
        scratch("/tmp", site.inside.tmp),
        scratch("/var/tmp", site.inside.var_tmp),
        // Munge's socket, the PMIx directories and the batch script's copy are Slurm's own.
        host(&spool, Flags { optional: true, ..plain }),
    ]
    .into_iter()
    .map(|(path, source, flags)| {
        let (target, rights) = (GuestPath::parse(&path)?, Rights::Root);
        Ok(Mount { source, target, rights, flags, origin: Origin::Builtin })
    })
    .collect()
}

/// The user's home directory, where the site arranges one.
fn home(site: &Config, user: &User) -> Result<Option<Mount>> {
    let (source, rights) = match site.inside.home {
        Home::Site => return Ok(None),
        Home::Mount => (Source::Host(user.home.clone().into()), Rights::User),
        Home::Tmpfs(size) => (Source::Tmpfs { size, shared: false }, Rights::Root),
    };
    let target = GuestPath::parse(&user.home)?;
    let flags = Flags { optional: true, ..HOST_TREE };
    Ok(Some(Mount { source, target, rights, flags, origin: Origin::Site }))
}

fn volumes(
    request: &Request,
    site: &Config,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<Mount>> {
    request.volumes().iter().map(|volume| volume_mount(volume, site, variables)).collect()
}

fn volume_mount(
    volume: &Volume,
    site: &Config,
    variables: &BTreeMap<String, String>,
) -> Result<Mount> {
    let refuse = |why: String| Error::user(format!("--volume={volume}: {why}"));
    let flags = Flags { read_only: volume.read_only, ..HOST_TREE };
    let alone = Flags { recursive: false, slave: false, ..flags };
    let (source, rights, flags) = match &volume.what {
        What::Host(path) => {
            let path = path.expand(|name| variables.get(name).cloned()).map_err(|why| {
                refuse(why).hint("set it in the job to an absolute path, or write the path itself")
            })?;
            (Source::Host(path.into()), Rights::User, flags)
        }
        What::Tmpfs(size) => (Source::Tmpfs { size: *size, shared: false }, Rights::Root, alone),
        What::Cache { near, size, fs } => {
            let directory = cache_directory(near.as_deref(), site).map_err(refuse)?;
            let cache = CachePlan { directory, size: *size, fs: fs.unwrap_or(site.cache.fs) };
            (Source::Cache(cache), Rights::Root, alone)
        }
        What::Image(image) => {
            let digest = image.digest().ok_or_else(|| {
                refuse("nobody pinned the image to its digest".into()).hint(
                    "name the digest: NAME:TAG@sha256:… (shifterimg lookup NAME:TAG prints it)",
                )
            })?;
            (Source::Image(digest.clone()), Rights::User, alone)
        }
    };
    let origin = Origin::Volume(volume.to_string());
    Ok(Mount { source, target: volume.to.clone(), rights, flags, origin })
}

fn site_mount(mount: &SiteMount, origin: Origin) -> Result<Mount> {
    Ok(Mount {
        source: Source::Host(mount.from.clone()),
        target: mount.target()?,
        rights: Rights::Root,
        flags: Flags {
            read_only: mount.read_only,
            slave: mount.slave,
            recursive: mount.recursive,
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
    let copies = site.etc.copy.iter().map(|path| (path, PathBuf::from(path.as_str()), true));
    let replaced = site.etc.replace.iter().map(|(path, from)| (path, from.clone(), false));
    for (path, from, optional) in copies.chain(replaced) {
        // The site's own wins over what we would make.
        files.retain(|file: &SiteFile| file.path() != path);
        files.push(SiteFile::Copied { path: path.clone(), from, optional });
    }
    Ok(files)
}

impl fmt::Display for Plan {
    /// A mount table with the origin of each line: what a dry run shows, and what users paste
    /// into tickets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["TARGET", "SOURCE", "TYPE", "OPTIONS", "BECAUSE OF"].map(Into::into)];
        rows.push(self.root());
        if let Some(size) = self.writable {
            let origin = format!("--{}={size}", Word::Writable.option());
            rows.push(row("/", format!("size={size}"), "tmpfs", "rw,over-the-image", origin));
        }
        rows.extend(self.files.iter().map(file_row));
        rows.extend(self.mounts.iter().map(Mount::row));
        let mut widths = [0; 5];
        for cells in &rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                // What is longer sticks out, and the other lines stay where they are.
                let length = Some(cell.chars().count()).filter(|length| *length <= WIDEST);
                *width = length.unwrap_or(0).max(*width);
            }
        }
        rows.iter().try_for_each(|cells| {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
        })
    }
}

/// The widest column that others are moved for.
const WIDEST: usize = 40;

/// Where an image comes from: its name, with the digest, is in the last column.
const STORE: &str = "store";

/// A line of the table: where, what, its type, how, because of whom.
type Row = [String; 5];

fn row(target: &str, source: impl Into<String>, kind: &str, options: &str, origin: String) -> Row {
    let options = if options.is_empty() { "-" } else { options };
    let (target, source) = (printable(target), printable(&source.into()));
    [target, source, kind.into(), options.into(), printable(&origin)]
}

fn file_row(file: &SiteFile) -> Row {
    let (source, options) = match file {
        SiteFile::Made { .. } => ("made".to_owned(), ""),
        SiteFile::Copied { from, optional, .. } => {
            (from.display().to_string(), if *optional { "optional" } else { "" })
        }
    };
    row(file.path().as_str(), source, "file", options, "every image".into())
}

impl Plan {
    fn root(&self) -> Row {
        let source = match &self.image {
            Base::Store(_) => STORE,
            Base::Local(path) => path.as_str(),
        };
        row("/", source, "image", "ro", format!("--{}={}", Word::Image.option(), self.name))
    }
}

impl Mount {
    fn row(&self) -> Row {
        let (source, kind) = match &self.source {
            Source::Host(from) => (from.display().to_string(), "bind"),
            Source::Tmpfs { size, .. } => (format!("size={size}"), "tmpfs"),
            Source::Cache(CachePlan { directory, size, fs }) => {
                (format!("size={size} in {}", directory.display()), fs.name())
            }
            Source::Image(_) => (STORE.to_owned(), "image"),
        };
        let flags = [
            (self.flags.read_only, "ro"),
            (self.flags.dev, "dev"),
            (self.flags.recursive, "rec"),
            (self.flags.slave, "slave"),
            (self.flags.optional, "optional"),
            (self.rights == Rights::User, "as-user"),
        ];
        let words: Vec<&str> = flags.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        row(self.target.as_str(), source, kind, &words.join(","), self.origin.to_string())
    }
}

impl fmt::Display for Mount {
    /// On one line of its own, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [target, source, kind, options, origin] = self.row();
        write!(f, "{kind} {source} on {target} {options} [{origin}]")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("every image"),
            Self::Site => f.write_str("site"),
            Self::Module(name) => write!(f, "--module={name}"),
            Self::Volume(typed) => write!(f, "--volume={typed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ask, Texts, Word};
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
            others: vec![],
        }
    }

    fn plan(uid: u32) -> Result<Plan> {
        plan_of(uid, "/scratch/me:/data:ro", "", "")
    }

    fn plan_of(uid: u32, volumes: &str, writable: &str, more: &str) -> Result<Plan> {
        let text = format!(
            "{more}
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
        "
        );
        let site = Config::parse(&text, Path::new("shifter.toml"))?;
        let mut texts = Texts::of("x:1", volumes, "mpich");
        texts.set(Word::Writable, Some(writable.into()));
        let Ask::Image(request) = Request::parse(&texts, &site)? else { panic!("no request") };
        let digest = Digest::from_bytes(&[1; 32]);
        let (request, image) = (request.pinned(&digest), Base::Store(digest));
        let variables = BTreeMap::from([("BB".into(), "/mnt/bb/7".into())]);
        let facts = Facts { image, user: user(uid), variables };
        Plan::make(&request, &site, &facts)
    }

    #[test]
    fn the_plan_reads_like_a_mount_table() {
        let expected = "
TARGET              SOURCE             TYPE   OPTIONS               BECAUSE OF
/                   store              image  ro                    --image=docker:docker.io/library/x:1@sha256:DIGEST
/etc/passwd         made               file   -                     every image
/etc/group          made               file   -                     every image
/etc/nsswitch.conf  made               file   -                     every image
/etc/hosts          /etc/hosts         file   optional              every image
/proc               /proc              bind   rec,slave             every image
/sys                /sys               bind   rec,slave             every image
/dev                /dev               bind   dev,rec,slave         every image
/tmp                /tmp               bind   rec,slave,optional    every image
/var/tmp            /var/tmp           bind   rec,slave,optional    every image
/var/spool/slurmd   /var/spool/slurmd  bind   rec,slave,optional    every image
/home               /home              bind   rec,slave             site
/opt/site/mpich     /opt/mpich/lib     bind   ro,rec,slave          --module=mpich
/data               /scratch/me        bind   ro,rec,slave,as-user  --volume=/scratch/me:/data:ro
"
        .trim_start()
        .replace("DIGEST", &"01".repeat(32));
        assert_eq!(plan(1001).unwrap().to_string(), expected);
    }

    #[test]
    fn what_the_site_arranges_and_what_a_volume_is_made_of_stand_in_the_table() {
        let site = "
            [inside]
            tmp = \"tmpfs=1G\"
            var_tmp = \"host\"
            home = \"mount\"
            [etc.replace]
            \"/etc/group\" = \"/etc/shifter/group\"
            [cache]
            directories = [\"/local/caches\", \"/scratch/.caches\"]
            [volumes]
            variables = [\"BB*\"]
            [limits]
            tmpfs = \"2G\"
        ";
        let digest = "02".repeat(32);
        let volumes = format!(
            "$BB/in:/in;none:/m:tmpfs=size=1G;/scratch/me:/c:perNodeCache=size=1T;\
             none:/d:perNodeCache=size=1M,fs=ext4;data@sha256:{digest}:/x:squashfs"
        );
        let table = plan_of(1001, &volumes, "1G", site).unwrap().to_string();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = table.lines().map(words).collect();
        for line in [
            "/ size=1G tmpfs rw,over-the-image --image-writable=1G",
            "/etc/group /etc/shifter/group file - every image",
            "/tmp size=1G tmpfs rec,slave every image",
            "/var/tmp /var/tmp bind rec,slave,optional every image",
            "/home/alice /home/alice bind rec,slave,optional,as-user site",
            "/in /mnt/bb/7/in bind rec,slave,as-user --volume=${BB}/in:/in",
            "/m size=1G tmpfs - --volume=none:/m:tmpfs=size=1G",
            "/c size=1T in /scratch/.caches xfs - --volume=/scratch/me:/c:perNodeCache=size=1T",
            "/d size=1M in /local/caches ext4 - --volume=none:/d:perNodeCache=size=1M,fs=ext4",
            &format!(
                "/x store image ro,as-user \
                 --volume=docker:docker.io/library/data@sha256:{digest}:/x:squashfs"
            ),
        ] {
            assert!(lines.iter().any(|found| found == line), "{line}\nis not in\n{table}");
        }
        assert_eq!(lines.iter().filter(|line| line.contains("/etc/group")).count(), 1);
        let unset = plan_of(1001, "$BBX:/in", "", site).unwrap_err();
        assert!(unset.what().contains("BBX is not set in the job's environment"), "{unset}");
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
