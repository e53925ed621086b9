//! A node to try things on: a private mount namespace, an image, a job.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use backhand::{FilesystemWriter, NodeHeader};
use rustix::mount::{MountFlags, MountPropagationFlags};
use udi::{Ask, Base, Config, Digest, Facts, ImageRef, Plan, Request, Result, Texts, User, Word};

use crate::image::ImageFile;
use crate::{Ids, JobKey, Node, Opened, Udi, open, sys};

pub(crate) const ALICE: u32 = 1001;
pub(crate) const BOB: u32 = 1002;
/// Nobody's uid on the machine that runs the tests.
pub(crate) const STORE_OWNER: u32 = 990;

/// Runs `test` in a thread with a mount namespace of its own, in which `/srv/t` is an empty
/// tmpfs, and fails if the namespace's mount table is not the same afterwards but for
/// Shifter's own directory and its pins.
pub(crate) fn on_a_node(test: impl FnOnce(&World) + Send) {
    let work = || {
        sys::unshare_mounts().unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let base = tmpfs_at("/srv");
        let world = World { base };
        for directory in ["store", "run", "scratch", "scratch/alice", "scratch/bob"] {
            world.directory(directory);
        }
        world.own("scratch/alice", ALICE, 0o700);
        world.own("scratch/bob", BOB, 0o700);
        Node::prepare(&world.run()).unwrap();
        let before = world.host_mounts();
        test(&world);
        assert_eq!(world.host_mounts(), before, "the host's mount table changed");
        Ok(())
    };
    open::in_thread("node", work).unwrap();
}

fn tmpfs_at(path: &str) -> String {
    let _ = std::fs::create_dir_all(path);
    let mode = Some(c"mode=755");
    rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), mode).unwrap();
    path.to_owned()
}

/// A node with a store, a scratch file system and Shifter's own directory.
pub(crate) struct World {
    base: String,
}

impl World {
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    pub(crate) fn run(&self) -> String {
        self.at("run/shifter")
    }

    pub(crate) fn node(&self) -> Node {
        Node::prepare(&self.run()).unwrap()
    }

    pub(crate) fn directory(&self, path: &str) -> String {
        std::fs::create_dir_all(self.at(path)).unwrap();
        self.at(path)
    }

    pub(crate) fn own(&self, path: &str, uid: u32, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::os::unix::fs::chown(self.at(path), Some(uid), Some(uid)).unwrap();
        std::fs::set_permissions(self.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn file(&self, path: &str, content: &str) -> String {
        self.bytes(path, content.as_bytes())
    }

    pub(crate) fn bytes(&self, path: &str, content: &[u8]) -> String {
        std::fs::write(self.at(path), content).unwrap();
        self.at(path)
    }

    pub(crate) fn link(&self, to: &str, path: &str) -> String {
        std::os::unix::fs::symlink(to, self.at(path)).unwrap();
        self.at(path)
    }

    /// The mount table but for what Shifter may leave: its directory and pins.
    pub(crate) fn host_mounts(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let point = |line: &str| line.split(' ').nth(4).unwrap().to_owned();
        let mounts = table.lines().map(point);
        mounts.filter(|point| !point.starts_with(&self.run())).collect()
    }

    pub(crate) fn site(&self, more: &str) -> Config {
        let text = format!(
            "[store]\npath = \"{}\"\nowner = \"{STORE_OWNER}\"\n[node]\nspool = \"/nonexistent\"\n{more}",
            self.at("store")
        );
        Config::parse(&text, Path::new("shifter.toml")).unwrap()
    }

    /// Packs `image` below the store and opens it.
    pub(crate) fn image(&self, name: &str, image: &Image) -> ImageFile {
        let path = self.at(&format!("store/{name}"));
        if !std::fs::exists(&path).unwrap() {
            std::fs::write(&path, image.pack()).unwrap();
        }
        let fd = std::fs::File::open(&path).unwrap().into();
        ImageFile { fd, name: name.into(), kind: "squashfs".into() }
    }

    /// Stages as slurmstepd would for `user`.
    pub(crate) fn stage(&self, job: Job<'_>) -> Result<Udi> {
        self.stage_logging(job, |_| ())
    }

    pub(crate) fn stage_logging(&self, job: Job<'_>, log: fn(&str)) -> Result<Udi> {
        let site = self.site(job.site);
        let of = if job.local.is_empty() { "x:1" } else { job.local };
        let mut texts = Texts::of(of, job.volume, job.module);
        texts.set(Word::Writable, Some(job.writable.into()));
        let Ask::Image(request) = Request::parse(&texts, &site)? else {
            panic!("no request");
        };
        let image = match request.image() {
            ImageRef::Local(path) => Base::Local(path.clone()),
            _ => Base::Store(Digest::from_bytes(&[7; 32])),
        };
        let facts = Facts { image, user: user(job.uid), variables: BTreeMap::new() };
        let plan = Plan::make(&request, &site, &facts)?;
        let key = JobKey {
            id: job.id,
            run: format!("uid={}", job.uid),
            identity: format!("{} {}", job.name, request.identity()),
            of_job: job.of_job,
            ids: Ids { uid: job.uid, gid: job.uid, groups: vec![job.uid] },
        };
        let late = Plan::late(&request, &site, &facts.variables)?;
        let opened = match plan.image {
            Base::Local(_) => Opened::of(&plan, &site)?,
            Base::Store(_) => self.image(job.name, job.image).into(),
        };
        let data = job.data.map(|data| (data_digest(), self.image("data", data)));
        let opened = Opened { data: data.into_iter().collect(), ..opened };
        let udi = self.node().logging(log).stage(&key, &site, late, || Ok((plan, opened)))?;
        // What a rank would say, for the jobs that have no directories of their own.
        match udi.late.complaint() {
            Some(error) if !job.has_own => Err(error),
            _ => Ok(udi),
        }
    }
}

/// What a volume names as the data image of [`Job::data`].
pub(crate) fn data_digest() -> Digest {
    Digest::from_bytes(&[8; 32])
}

/// A step to stage.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) id: u32,
    pub(crate) uid: u32,
    pub(crate) name: &'a str,
    pub(crate) image: &'a Image,
    pub(crate) volume: &'a str,
    pub(crate) module: &'a str,
    pub(crate) site: &'a str,
    pub(crate) writable: &'a str,
    /// Instead of `image`: `local:PATH`.
    pub(crate) local: &'a str,
    pub(crate) data: Option<&'a Image>,
    pub(crate) of_job: bool,
    /// Whether ranks will be in a namespace with directories of the job's own.
    pub(crate) has_own: bool,
}

impl<'a> Job<'a> {
    /// Alice's first job with `image`.
    pub(crate) fn new(image: &'a Image) -> Self {
        let name = "image";
        Self {
            id: 1,
            uid: ALICE,
            name,
            image,
            volume: "",
            module: "",
            site: "",
            writable: "",
            local: "",
            data: None,
            of_job: true,
            has_own: false,
        }
    }
}

pub(crate) fn user(uid: u32) -> User {
    User {
        uid,
        gid: uid,
        groups: vec![uid],
        login: "alice".into(),
        gecos: String::new(),
        home: "/home/alice".into(),
        shell: "/bin/sh".into(),
        group_names: vec![(uid, "alice".into())],
        others: vec![],
    }
}

/// Runs `rank` inside the UDI as `uid`, as a task of Slurm's would be.
pub(crate) fn as_rank<T: Send>(udi: &Udi, uid: u32, rank: impl FnOnce() -> T + Send) -> T {
    let work = || {
        sys::unshare_fs().unwrap();
        udi.enter()?;
        open::as_account(uid, uid, &[uid], || Ok(rank()))
    };
    open::in_thread("rank", work).unwrap()
}

/// An image as a list of entries.
#[derive(Clone, Default)]
pub(crate) struct Image {
    entries: BTreeMap<String, (Entry, u16)>,
}

#[derive(Clone)]
enum Entry {
    Directory,
    File(Vec<u8>),
    Link(String),
}

impl Image {
    /// What most images have.
    pub(crate) fn plain() -> Self {
        Self::default()
            .directory("/etc", 0o755)
            .file("/etc/passwd", "image:x:0:0::/:/bin/false\n")
            .file("/etc/os-release", "NAME=image\n")
            .directory("/usr/lib", 0o755)
            .link("/lib", "usr/lib")
            .directory("/tmp", 0o1777)
    }

    pub(crate) fn directory(self, path: &str, mode: u16) -> Self {
        self.with(path, Entry::Directory, mode)
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.with(path, Entry::File(content.into()), 0o644)
    }

    pub(crate) fn bytes(self, path: &str, content: Vec<u8>) -> Self {
        self.with(path, Entry::File(content), 0o644)
    }

    pub(crate) fn executable(self, path: &str, content: &str, mode: u16) -> Self {
        self.with(path, Entry::File(content.into()), mode)
    }

    pub(crate) fn link(self, path: &str, to: &str) -> Self {
        self.with(path, Entry::Link(to.into()), 0o777)
    }

    fn with(mut self, path: &str, entry: Entry, mode: u16) -> Self {
        for (at, _) in path.match_indices('/').skip(1) {
            let parent = path[..at].to_owned();
            self.entries.entry(parent).or_insert((Entry::Directory, 0o755));
        }
        self.entries.insert(path.into(), (entry, mode));
        self
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut writer = FilesystemWriter::default();
        writer.set_compressor(
            backhand::FilesystemCompressor::new(backhand::compression::Compressor::Zstd, None)
                .unwrap(),
        );
        for (path, (entry, permissions)) in &self.entries {
            let header = NodeHeader { permissions: *permissions, ..NodeHeader::default() };
            match entry {
                Entry::Directory => writer.push_dir(path, header).unwrap(),
                Entry::File(content) => {
                    writer.push_file(Cursor::new(content.clone()), path, header).unwrap();
                }
                Entry::Link(to) => writer.push_symlink(to, path, header).unwrap(),
            }
        }
        writer.set_root_mode(0o755);
        let mut bytes = Cursor::new(Vec::new());
        writer.write(&mut bytes).unwrap();
        bytes.into_inner()
    }
}
