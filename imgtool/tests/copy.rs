//! Copying between two sites: `cargo test -p imgtool --test copy -- --ignored` as root, with
//! openssh-server.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use world::fake::Fake;
use world::{ALICE, BOB, Done, OWNER, World, json};

/// Two sites, `here` and `there`, with an sshd there that alice's key opens.
struct Sites {
    here: World,
    there: World,
    sshd: Child,
    _fake: std::sync::Arc<Fake>,
}

impl Drop for Sites {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

fn root(world: &World, script: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(world.path(""));
    Done(command.output().unwrap()).ok().out()
}

impl Sites {
    fn new() -> Self {
        let fake = Fake::start();
        let (here, there) = (World::new(&fake.address), World::new(&fake.address));
        for world in [&here, &there] {
            let home = world.path("");
            let mut passwd = std::fs::read_to_string("/etc/passwd").unwrap();
            for (name, uid) in [("alice", ALICE), ("bob", BOB)] {
                passwd += &format!("{name}:x:{uid}:{uid}::{}{name}:/bin/bash\n", home.display());
            }
            std::fs::write(world.path("etc/passwd"), passwd).unwrap();
            world.mode("etc/passwd", 0o644);
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let top = there.path("");
        root(
            &there,
            &format!(
                r#"ssh-keygen -q -t ed25519 -N "" -f etc/key
                printf '%s\n' 'ListenAddress 127.0.0.1' 'Port {port}' 'HostKey {0}etc/key' 'PidFile none' 'UsePAM no' \
                    'StrictModes no' 'AuthorizedKeysFile {0}etc/authorized' >etc/sshd_config
                # A login shell has something to say.
                echo 'echo welcome to the other site' >alice/.bashrc"#,
                top.display()
            ),
        );
        root(
            &here,
            &format!(
                r#"mkdir alice/.ssh; cd alice/.ssh; ssh-keygen -q -t ed25519 -N "" -f id_ed25519
                echo "[127.0.0.1]:{port} $(cat {0}etc/key.pub)" >known_hosts
                printf '%s\n' 'Host there' 'HostName 127.0.0.1' 'Port {port}' >config; cp id_ed25519.pub {0}etc/authorized
                cd ..; chmod 700 .ssh; chown -R {ALICE}:{ALICE} .ssh"#,
                top.display()
            ),
        );
        chown(there.path("alice/.bashrc"), Some(ALICE), Some(ALICE)).unwrap();
        let config = there.path("etc/sshd_config");
        let mut sshd =
            there.command(0, &[], &["/usr/sbin/sshd", "-D", "-f", config.to_str().unwrap()]);
        let sshd = sshd.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let sshd = sshd.expect("sshd is needed: apt-get install openssh-server");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "sshd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { here, there, sshd, _fake: fake }
    }

    /// shifterimg copy, by alice.
    fn copy(&self, words: &[&str]) -> Done {
        let program = self.there.path("shifterimg");
        let all = [&["copy", "--program", program.to_str().unwrap()], words].concat();
        self.here.tool(ALICE, &all)
    }

    /// Where what has arrived is kept.
    fn partial(&self) -> PathBuf {
        let id = self.here.image().file_stem().unwrap().to_str().unwrap().to_owned();
        self.there.path("alice/.cache/shifterimg").join(format!("{id}.partial"))
    }

    fn leave(&self, bytes: &[u8]) {
        let path = self.partial();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        root(&self.there, &format!("chown -R {ALICE}:{ALICE} alice/.cache"));
    }
}

const LIST: &str = "cd $1; find . -path ./.shifter -prune -o -printf '%p %y %m %U:%G %T@ %l\\n' | sort; find . -path ./.shifter -prune -o -type f -exec sha256sum {} + | sort; jq -c .env .shifter/image.json";

#[test]
#[ignore = "needs root: it becomes users, and starts sshd"]
fn an_image_is_copied_to_another_sites_store_and_is_the_users_there() {
    let sites = Sites::new();
    sites.here.tool(ALICE, &["pull", "plain:1"]).ok();
    let done = sites.copy(&["--json", "plain:1", "there"]).ok();
    let said = json(&done);
    assert_eq!(said["image"], "user:alice/plain:1");
    let (ours, theirs) = (sites.here.image(), sites.there.image());
    assert_eq!(sites.here.in_image(&ours, LIST), sites.there.in_image(&theirs, LIST));
    // Written anew by that site, whoever sent it; and nothing of it lies about.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(theirs.metadata().unwrap().uid(), OWNER);
    assert!(sites.there.files("alice/.cache").is_empty());
    let found = sites.there.tool(ALICE, &["lookup", "user:alice/plain:1"]).ok().out();
    assert_eq!(said["digest"], found.trim());
    // Alice's alone, until she says otherwise.
    sites.there.tool(BOB, &["lookup", "user:alice/plain:1"]).fails(1, &["no such image"]);
    sites.copy(&["plain:1", "there"]).ok();
    sites
        .copy(&["--public", "plain:1", "there"])
        .fails(1, &["for you alone", "there did not take the image"]);
    let public = sites.copy(&["--public", "plain:1", "there:group/other:2"]).ok().out();
    assert!(public.starts_with("user:alice/group/other:2@sha256:"), "{public}");
    sites.there.tool(BOB, &["lookup", "user:alice/group/other:2"]).ok();
}

#[test]
#[ignore = "needs root: it becomes users, and starts sshd"]
fn a_copy_goes_on_where_it_broke_off_and_what_is_wrong_is_not_published() {
    let sites = Sites::new();
    sites.here.tool(ALICE, &["pull", "plain:1"]).ok();
    let bytes = std::fs::read(sites.here.image()).unwrap();
    sites.leave(&bytes[..bytes.len() / 2]);
    let done = sites.copy(&["plain:1", "there"]).ok();
    assert!(done.err().contains("goes on after"), "{}", done.err());
    sites.there.tool(ALICE, &["rm", "user:alice/plain:1"]).ok();
    // Half of something else.
    sites.leave(&vec![7; bytes.len() / 2]);
    sites
        .copy(&["plain:1", "there"])
        .fails(1, &["are not the image that was announced", "begins anew"]);
    assert!(sites.there.files("store").is_empty());
    assert!(!sites.partial().exists());
    sites.copy(&["plain:1", "there"]).ok();
    sites.there.tool(ALICE, &["rm", "user:alice/plain:1"]).ok();
    // What the sender breaks off, stays for the next time.
    let header = serde_json::json!({"file": { "digest": format!("sha256:{}", sites.partial().file_stem().unwrap().to_str().unwrap()), "size": bytes.len(), "info": {} }});
    let tool = sites.there.path("shifterimg");
    let words = [
        "sh",
        "-c",
        r#"{ printf 'shifterimg-copy-1 %s\n' "$1"; printf %0999d 7; } | "$0" receive x:1"#,
        tool.to_str().unwrap(),
        &header.to_string(),
    ];
    Done(sites.there.command(ALICE, &[], &words).output().unwrap())
        .fails(1, &["the connection broke off after 999 B", "it goes on from there"]);
    assert_eq!(sites.partial().metadata().unwrap().len(), 999);
}

#[test]
#[ignore = "needs root: it becomes users, and starts sshd"]
fn the_other_sides_rules_hold_and_what_went_wrong_is_told() {
    let sites = Sites::new();
    sites.here.tool(ALICE, &["pull", "--private", "plain:1"]).ok();
    // Bob cannot send what he cannot use.
    sites.here.tool(BOB, &["copy", "plain:1", "there"]).fails(1, &["no such image"]);
    sites
        .here
        .tool(ALICE, &["copy", "--program", "/nowhere/x", "plain:1", "there"])
        .fails(1, &["there is no /nowhere/x at there", "--program"]);
    sites.copy(&["plain:1", "nowhere.invalid"]).fails(1, &["ssh could not reach nowhere.invalid"]);
    sites.copy(&["plain:1", "-oProxyCommand=touch x"]).fails(2, &[]);
    sites.copy(&["plain:1", "there:/shared/store"]).fails(1, &["cannot be an image's name"]);
    sites.there.tool(ALICE, &["receive", "x:1"]).fails(1, &["shifterimg copy"]);
    let text = std::fs::read_to_string(sites.there.path("etc/shifter/shifter.toml")).unwrap();
    let text = format!("{text}[images]\ntypes = [\"docker\"]\n");
    std::fs::write(sites.there.path("etc/shifter/shifter.toml"), text).unwrap();
    sites.copy(&["plain:1", "there"]).fails(1, &["this site does not allow images of this kind"]);
    assert!(sites.there.files("store").is_empty());
}
