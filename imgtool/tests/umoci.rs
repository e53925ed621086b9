//! Random images through a real registry, against what `umoci` makes of the same layers:
//! `cargo test -p imgtool --test umoci -- --ignored` as root, with docker-registry, skopeo
//! and umoci. SEED=n repeats a run.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use world::{ALICE, World};

const IMAGES: usize = 60;

/// Debian's docker-registry on a port of its own, until dropped.
struct Registry {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let process =
            command.spawn().expect("docker-registry is needed: apt-get install docker-registry");
        let start = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "docker-registry does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { process, address, _dir: dir }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(text) }
}

#[test]
#[ignore = "needs root, docker-registry, skopeo and umoci"]
fn random_layers_become_what_umoci_makes_of_them() {
    let seed = std::env::var("SEED").unwrap_or_else(|_| std::process::id().to_string());
    let registry = Registry::start();
    let world = World::new(&registry.address);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layout = world.path("layout");
    let layout = layout.to_str().unwrap();
    run(Command::new("python3").arg(here.join("tests/layouts.py")).args([
        &seed,
        &IMAGES.to_string(),
        layout,
    ]))
    .unwrap();
    let mut compared = 0;
    for number in 0..IMAGES {
        let source = format!("oci:{layout}:i{number}");
        let target = format!("docker://{}/random:i{number}", registry.address);
        run(Command::new("skopeo").args([
            "copy",
            "-q",
            "--dest-tls-verify=false",
            &source,
            &target,
        ]))
        .unwrap();
        let bundle = world.path(&format!("bundle{number}"));
        std::fs::write(world.path("start"), "").unwrap();
        let theirs = run(Command::new("umoci")
            .args(["unpack", "--image", &format!("{layout}:i{number}")])
            .arg(&bundle));
        let ours = world.tool(ALICE, &["pull", &format!("random:i{number}")]);
        if theirs.is_err() {
            // umoci gives up where a file is in a directory's way and where a hard link leads
            // nowhere; we replace the one and refuse the other, in words.
            assert!(matches!(ours.code(), 0 | 1), "SEED={seed} i{number}: {ours:?}");
            continue;
        }
        assert_eq!(ours.code(), 0, "SEED={seed} i{number}: {ours:?}");
        let inspected =
            world.tool(ALICE, &["inspect", "--json", &format!("random:i{number}")]).ok().out();
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        let file = inspected["file"]["path"].as_str().unwrap();
        let compare = here.join("../testbed/lib/compare.py");
        let script = format!(
            "python3 {} $1 {}/rootfs {} || {{ echo DIFFERENT; exit 0; }}",
            compare.display(),
            bundle.display(),
            world.path("start").display()
        );
        let said = world.in_image(Path::new(file), &script);
        assert!(!said.contains("DIFFERENT"), "SEED={seed} i{number} in {layout}:\n{said}");
        compared += 1;
    }
    assert!(compared > IMAGES / 3, "SEED={seed}: only {compared} images could be compared");
}
