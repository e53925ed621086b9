//! Importing from a daemon's images: `cargo test -p imgtool --test daemon -- --ignored` as root,
//! with skopeo and podman.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use world::{ALICE, BOB, Done, World, json, root};

/// `alice/app.tar`: docker's archive of an image of two layers, app:1.
fn archive(world: &World) {
    root(
        world,
        r#"for n in 1 2; do mkdir root$n; echo $n >root$n/file$n; tar -C root$n -cf $n.tar file$n; done
        sha() { sha256sum $1 | cut -d' ' -f1; }
        jq -n --arg a sha256:$(sha 1.tar) --arg b sha256:$(sha 2.tar) '{architecture: "amd64", os: "linux",
            config: {Env: ["A=b"]}, rootfs: {type: "layers", diff_ids: [$a, $b]}}' >config.json
        jq -n '[{Config: "config.json", RepoTags: ["app:1"], Layers: ["1.tar", "2.tar"]}]' >manifest.json
        tar -cf app.tar 2.tar 1.tar config.json manifest.json"#,
    );
}

/// Podman's service with its storage and socket below the world, until dropped.
struct Podman(Child);

impl Podman {
    fn start(world: &World) -> Self {
        let socket = world.path("alice/podman.sock");
        let storage = |command: &mut Command| {
            command.args(["--storage-driver", "vfs", "--root"]).arg(world.path("podman/root"));
            command.arg("--runroot").arg(world.path("podman/run"));
        };
        let mut load = Command::new("podman");
        storage(&mut load);
        load.args(["load", "-q", "-i"]).arg(world.path("alice/app.tar"));
        Done(load.output().expect("podman is needed: apt-get install podman")).ok();
        let mut serve = Command::new("podman");
        storage(&mut serve);
        serve.args(["system", "service", "--time=0"]).arg(format!("unix://{}", socket.display()));
        let process = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while !socket.exists() {
            assert!(start.elapsed() < Duration::from_secs(30), "podman does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        world.mode("alice/podman.sock", 0o600);
        chown(&socket, Some(ALICE), Some(ALICE)).unwrap();
        Self(process)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon that gives `answer` to whoever asks.
fn fake(world: &World, name: &str, answer: Vec<u8>) -> String {
    let socket = world.path(name);
    let listener = UnixListener::bind(&socket).unwrap();
    world.mode(name, 0o666);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = [0; 4096];
            let _ = stream.read(&mut question);
            let _ = stream.write_all(&answer);
        }
    });
    format!("unix://{}", socket.display())
}

#[test]
#[ignore = "needs root: it becomes users"]
fn an_image_of_podmans_daemon_is_the_one_that_podman_saves() {
    let world = World::new("127.0.0.1:1");
    archive(&world);
    let podman = Podman::start(&world);
    let host = format!("unix://{}", world.path("alice/podman.sock").display());
    let kept = world.path("kept");
    std::fs::create_dir(&kept).unwrap();
    world.mode("kept", 0o1777);
    let ask = |uid, words: &[&str]| {
        let words = [words, &["--tmpdir", kept.to_str().unwrap()]].concat();
        world.tool_with(uid, &[("DOCKER_HOST", &host)], &words)
    };
    let asked = ask(ALICE, &["import", "--json", "docker-daemon:app:1", "app:1"]).ok();
    let said = json(&asked);
    assert_eq!(said["image"], format!("user:{ALICE}/app:1"));
    let image = world.image();
    let shown = "cat $1/file1 $1/file2; jq -c .env $1/.shifter/image.json";
    assert!(world.in_image(&image, shown).starts_with("1\n2\n"));
    // Digest and file are those of the archive that podman writes.
    let curl = format!(
        "curl -sf --unix-socket podman.sock http://d/images/app:1/get -o saved.tar; chown {ALICE} saved.tar"
    );
    root(&world, &curl);
    world.tool(ALICE, &["rm", &format!("user:{ALICE}/app:1")]).ok();
    let saved = format!("docker-archive:{}", world.path("alice/saved.tar").display());
    let again = json(&world.tool(ALICE, &["import", "--json", &saved, "app:1"]).ok());
    assert_eq!(again["digest"], said["digest"]);
    assert_eq!(world.image(), image);
    ask(ALICE, &["import", "docker-daemon:none:1", "app:1"])
        .fails(1, &["none:1: no such image", "podman.sock", "hint: "]);
    // Bob may not talk to it, and the store's owner does not do it for him.
    ask(BOB, &["import", "docker-daemon:app:1", "app:1"])
        .fails(1, &["you may not talk to the daemon", "docker save NAME >FILE"]);
    drop(podman);
    // Nothing of it stayed where it was kept.
    assert!(world.files("kept").is_empty());
}

#[test]
#[ignore = "needs root: it becomes users"]
fn without_a_daemon_it_says_what_to_do_instead() {
    let world = World::new("127.0.0.1:1");
    let none = [("DOCKER_HOST", "unix:///nowhere/docker.sock")];
    world
        .tool_with(ALICE, &none, &["import", "docker-daemon:app:1", "app:1"])
        .fails(1, &["no daemon of docker or podman answers here", "docker save NAME >FILE"]);
    let far = [("DOCKER_HOST", "ssh://else")];
    world
        .tool_with(ALICE, &far, &["import", "docker-daemon:app:1", "app:1"])
        .fails(1, &["DOCKER_HOST is ssh://else"]);
    world
        .tool(ALICE, &["import", "docker-daemon:a?b", "app:1"])
        .fails(1, &["no daemon has an image of such a name"]);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_daemon_that_breaks_off_or_lies_publishes_nothing() {
    let world = World::new("127.0.0.1:1");
    archive(&world);
    let whole = std::fs::read(world.path("alice/app.tar")).unwrap();
    let good = [&b"HTTP/1.0 200 OK\r\n\r\n"[..], &whole].concat();
    let mut other = good.clone();
    let at = other.windows(2).rposition(|two| two == b"1\n").unwrap();
    other[at] = b'2';
    let rest = "HTTP/1.1 500 Oh\r\n\r\n{\"message\":\"out of \\u001b[31mluck\"}";
    for (n, (answer, words)) in [
        (good[..good.len() / 2].to_vec(), &["app:1"][..]),
        (b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), &["app:1"]),
        (b"SSH-2.0-x\r\n\r\n".to_vec(), &["not how docker's daemon answers"]),
        (Vec::new(), &["broke off"]),
        (rest.as_bytes().to_vec(), &["500 out of  [31mluck"]),
    ]
    .into_iter()
    .enumerate()
    {
        let host = fake(&world, &format!("socket{n}"), answer);
        let host = [("DOCKER_HOST", host.as_str())];
        let done = world
            .tool_with(ALICE, &host, &["import", "docker-daemon:app:1", "app:1"])
            .fails(1, words);
        assert!(done.err().contains("hint: "), "{n}: {}", done.err());
        assert!(world.files("store").is_empty(), "{n}: {:?}", world.files("store"));
    }
    let host = fake(&world, "good", good);
    let host = [("DOCKER_HOST", host.as_str())];
    world.tool_with(ALICE, &host, &["import", "docker-daemon:app:1", "app:1"]).ok();
    // Where there is no room for what it sends, that is said.
    let words = ["import", "--tmpdir", "/proc", "docker-daemon:app:1", "app:1"];
    world
        .tool_with(ALICE, &host, &words)
        .fails(1, &["/proc: cannot keep there what the daemon sends", "--tmpdir"]);
}
