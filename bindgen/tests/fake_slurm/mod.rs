//! A Slurm to load a plugin into: `host.c`, built with the system's compiler, in a process of its
//! own for each test. The plugin is the one of the release profile, as it is installed.
#![allow(clippy::expect_used, dead_code, reason = "a test's own scaffolding, shared by tests")]

use std::{
    env, fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// What a plugin did, as the lines that Slurm would log or be told.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) String);

impl Told {
    /// Asserts that a line of the output is, or starts with, `line`.
    #[track_caller]
    pub(crate) fn says(&self, line: &str) -> &Told {
        assert!(self.0.lines().any(|l| l.starts_with(line)), "no line {line:?} in:\n{}", self.0);
        self
    }

    /// Asserts that the ranks of a node tell the user `words` once, after the name of the node if
    /// they say it.
    #[track_caller]
    pub(crate) fn tells_the_user_once(&self, plugin: &str, words: &str) -> &Told {
        let start = format!("user: {plugin}: ");
        let said = self.0.lines().filter_map(|line| line.strip_prefix(&start));
        let said =
            said.map(|line| match line.strip_prefix("on ").and_then(|l| l.split_once(": ")) {
                Some((_node, line)) => line,
                None => line,
            });
        let found = said.filter(|line| line.starts_with(words)).count();
        assert_eq!(found, 1, "times that the user is told {words:?} in:\n{}", self.0);
        self
    }

    /// Asserts that no line has `text` in it.
    #[track_caller]
    pub(crate) fn never_says(&self, text: &str) -> &Told {
        assert!(!self.0.contains(text), "{text:?} in:\n{}", self.0);
        self
    }

    /// Asserts how many lines start with `line`.
    #[track_caller]
    pub(crate) fn says_times(&self, times: usize, line: &str) -> &Told {
        let found = self.0.lines().filter(|l| l.starts_with(line)).count();
        assert_eq!(found, times, "lines that start with {line:?} in:\n{}", self.0);
        self
    }
}

/// Builds the release plugin: `arguments` of `cargo build --release`, then its file below
/// `target/release`.
pub(crate) fn plugin(arguments: &[&str], file: &str) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(built.success(), "cargo build --release {arguments:?} failed");
    target().join("release").join(file)
}

/// Runs `script` in the fake Slurm; `environment` is the process's from its start.
pub(crate) fn run(plugin: &Path, script: impl AsRef<[u8]>, environment: &[(&str, &str)]) -> Told {
    let mut slurm = Command::new(host());
    slurm.arg(plugin).env_clear().envs(environment.iter().copied());
    tell(slurm, script.as_ref())
}

/// As [`run`], in a program of this name that another one has loaded: nothing but the name tells.
pub(crate) fn run_as(name: &str, plugin: &Path, script: impl AsRef<[u8]>) -> Told {
    let mut slurm = Command::new(host());
    slurm.arg0(name).arg(plugin).env_clear();
    tell(slurm, script.as_ref())
}

/// As [`run`], on a machine of its own: a mount namespace with an empty `/run` and with `site` as
/// `/etc/shifter/shifter.toml`. Needs root.
pub(crate) fn run_at_site(
    site: &str,
    plugin: &Path,
    script: impl AsRef<[u8]>,
    environment: &[(&str, &str)],
) -> Told {
    let machine = "set -e
        mount -t tmpfs tmpfs /mnt
        mkdir /mnt/upper /mnt/work
        mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc
        mkdir /etc/shifter
        printf %s \"$1\" > /etc/shifter/shifter.toml
        mount -t tmpfs -o mode=755 tmpfs /run
        shift
        exec \"$@\"";
    let mut slurm = Command::new("unshare");
    slurm
        .args(["--mount", "--propagation", "private", "sh", "-c", machine, "sh", site])
        .arg(host())
        .arg(plugin)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(environment.iter().copied());
    tell(slurm, script.as_ref())
}

fn tell(mut slurm: Command, script: &[u8]) -> Told {
    let mut slurm =
        slurm.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the fake Slurm starts");
    let mut stdin = slurm.stdin.take().expect("piped");
    stdin.write_all(script).expect("the fake Slurm reads its script");
    drop(stdin);
    let output = slurm.wait_with_output().expect("the fake Slurm ends");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "the fake Slurm ended with {}:\n{told}", output.status);
    Told(told)
}

/// The names that a plugin exports, sorted.
pub(crate) fn exported(plugin: &Path) -> Vec<String> {
    let nm = Command::new("nm")
        .args(["-D", "--defined-only", "--format=just-symbols"])
        .arg(plugin)
        .output()
        .expect("nm of binutils runs");
    assert!(nm.status.success());
    let mut names: Vec<_> =
        String::from_utf8_lossy(&nm.stdout).lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn target() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().expect("cargo's own directory").to_owned()
}

/// The fake Slurm's program, compiled once in each test process.
fn host() -> &'static Path {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    HOST.get_or_init(|| {
        let source = concat!(env!("CARGO_TARGET_TMPDIR"), "/fake_slurm.c");
        let unique = format!("fake_slurm.{}", std::process::id());
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        fs::write(source, include_str!("host.c")).expect("cargo's directory is writable");
        let include = env::var("SLURM_INCLUDE").unwrap_or_else(|_| "/usr/include".into());
        let compiled = Command::new("cc")
            .args(["-rdynamic", "-I", &include, "-o"])
            .arg(&program)
            .args([source, "-ldl"])
            .status()
            .expect("the C compiler runs");
        assert!(compiled.success(), "the fake Slurm does not compile");
        // A test in another process may be starting it: the name appears when it is whole.
        let whole = program.with_file_name("fake_slurm");
        fs::rename(&program, &whole).expect("cargo's directory is writable");
        whole
    })
}
