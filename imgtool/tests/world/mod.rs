//! A site in a directory: a store with its owner, shifterimg set-user-ID to that, two users.
//!
//! Every command runs in a mount namespace of its own, in which /etc/shifter is the site's.
// Not every test uses all of it.
#![allow(dead_code)]

pub mod fake;
pub mod ways;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use fake::Fake;

pub const OWNER: u32 = 64_001;
pub const ALICE: u32 = 64_002;
pub const BOB: u32 = 64_003;

pub struct World {
    dir: tempfile::TempDir,
}

/// A site, and the registry that its names come from.
pub fn site() -> (Arc<Fake>, World) {
    let fake = Fake::start();
    let world = World::new(&fake.address);
    (fake, world)
}

/// What a command has printed for programs.
#[track_caller]
pub fn json(done: &Done) -> serde_json::Value {
    serde_json::from_str(&done.out()).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

/// Runs a script in alice's directory, as root.
#[track_caller]
pub fn root(world: &World, script: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(world.path("alice"));
    Done(command.output().unwrap()).ok().out()
}

impl World {
    /// A site whose names without registry come from `mirror`, by plain HTTP.
    pub fn new(mirror: &str) -> Self {
        assert!(rustix::process::getuid().is_root(), "these tests need root");
        // Not in /tmp: it may be mounted nosuid.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let world = Self { dir };
        world.mode("", 0o755);
        for (name, owner, mode) in [
            ("etc", 0, 0o755),
            ("etc/shifter", 0, 0o755),
            ("store", OWNER, 0o2711),
            ("alice", ALICE, 0o700),
            ("bob", BOB, 0o700),
        ] {
            std::fs::create_dir(world.path(name)).unwrap();
            chown(world.path(name), Some(owner), Some(owner)).unwrap();
            world.mode(name, mode);
        }
        world.configure(&format!(
            "[[registry]]\nprefix = \"docker.io/library\"\nmirror = \"{mirror}\"\nhttp = true\n"
        ));
        // Not by ourselves: what another test starts meanwhile would hold it open for writing.
        let mut copy = Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_shifterimg")).arg(world.path("shifterimg"));
        Done(copy.output().unwrap()).ok();
        chown(world.path("shifterimg"), Some(OWNER), Some(OWNER)).unwrap();
        world.mode("shifterimg", 0o4755);
        world
    }

    pub fn configure(&self, rules: &str) {
        let text = format!(
            "[store]\npath = \"{}\"\nowner = \"{OWNER}\"\n{rules}",
            self.path("store").display()
        );
        std::fs::write(self.path("etc/shifter/shifter.toml"), text).unwrap();
        self.mode("etc/shifter/shifter.toml", 0o644);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Gives alice a login, where podman keeps it.
    pub fn log_in(&self, host: &str, user: &str, password: &str) {
        let auths =
            serde_json::json!({ "auths": { host: { "username": user, "password": password } } });
        std::fs::create_dir_all(self.path("alice/.config/containers")).unwrap();
        std::fs::write(self.path("alice/.config/containers/auth.json"), auths.to_string()).unwrap();
    }

    /// A command of user `uid`, with the environment of `env -i` and `variables`.
    pub fn command(&self, uid: u32, variables: &[(&str, &str)], words: &[&str]) -> Command {
        let script = r#"
            mount -t overlay overlay -o "lowerdir=$1/etc:/etc" /etc
            cd / ; uid=$2 ; shift 2
            exec setpriv --reuid=$uid --regid=$uid --clear-groups env -i PATH="$PATH" "$@""#;
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "bash", "-euc", script, "bash"]);
        command.arg(self.dir.path()).arg(uid.to_string());
        let home = self.path(match uid {
            ALICE => "alice",
            BOB => "bob",
            _ => "etc",
        });
        command.arg(format!("HOME={}", home.display()));
        command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(words);
        command
    }

    /// shifterimg, as `uid`.
    pub fn tool(&self, uid: u32, words: &[&str]) -> Done {
        self.tool_with(uid, &[], words)
    }

    pub fn tool_with(&self, uid: u32, variables: &[(&str, &str)], words: &[&str]) -> Done {
        let tool = self.path("shifterimg");
        let all: Vec<&str> =
            [tool.to_str().unwrap()].into_iter().chain(words.iter().copied()).collect();
        Done(self.command(uid, variables, &all).stdin(Stdio::null()).output().unwrap())
    }

    /// shifterimg, still running.
    pub fn start(&self, uid: u32, words: &[&str]) -> Child {
        let tool = self.path("shifterimg");
        let all: Vec<&str> =
            [tool.to_str().unwrap()].into_iter().chain(words.iter().copied()).collect();
        let mut command = self.command(uid, &[], &all);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// All files below `name`, relative to it.
    pub fn files(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let top = self.path(name);
        let mut todo = vec![top.clone()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    found.push(path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// The one image file of the store.
    pub fn image(&self) -> PathBuf {
        let images = self.files("store/images");
        assert_eq!(images.len(), 1, "{images:?}");
        self.path("store/images").join(&images[0])
    }

    /// Runs `script` with `image` mounted at `$1`.
    pub fn in_image(&self, image: &Path, script: &str) -> String {
        let mount = tempfile::tempdir().unwrap();
        let outer = r#"mount -t squashfs -o ro,loop "$2" "$1"; exec bash -euc "$3" bash "$1""#;
        let output = Command::new("unshare")
            .args(["-m", "--propagation", "private", "bash", "-euc", outer, "bash"])
            .arg(mount.path())
            .arg(image)
            .arg(script)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Done(pub Output);

impl Done {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code(), 0, "{}{}", self.out(), self.err());
        self
    }

    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code(), code, "{}{}", self.out(), self.err());
        for word in words {
            assert!(self.err().contains(word), "no {word:?} in: {}", self.err());
        }
        self
    }
}
