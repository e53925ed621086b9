//! Logins, and who keeps them: `cargo test -p imgtool --test login -- --ignored` as root.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use serde_json::{Value, json};
use world::fake::{Fake, PASSWORD, USER};
use world::{ALICE, BOB, Done, World};

/// A site, and how a registry lets people in.
fn site(door: &'static str) -> (std::sync::Arc<Fake>, World) {
    let fake = Fake::start();
    *fake.door.lock().unwrap() = door;
    let world = World::new(&fake.address);
    (fake, world)
}

const KEPT: &str = "alice/.config/containers/auth.json";

fn kept(world: &World) -> Value {
    serde_json::from_slice(&std::fs::read(world.path(KEPT)).unwrap()).unwrap()
}

/// Writes a file of alice's.
fn write(world: &World, name: &str, text: &str, mode: u32) {
    let path = world.path("alice").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    for path in path.ancestors().take_while(|path| path.starts_with(world.path("alice"))) {
        chown(path, Some(ALICE), Some(ALICE)).unwrap();
    }
}

/// `shifterimg login`, with the password on standard input.
fn log_in(world: &World, variables: &[(&str, &str)], password: &str, words: &[&str]) -> Done {
    let tool = world.path("shifterimg");
    let script = r#"password=$1; tool=$2; shift 2; printf '%s\n' "$password" | "$tool" login --username alice --password-stdin "$@""#;
    let mut all = vec!["sh", "-c", script, "sh", password, tool.to_str().unwrap()];
    all.extend(words);
    Done(world.command(ALICE, variables, &all).output().unwrap())
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_login_is_kept_for_its_user_only_and_forgotten_when_asked() {
    for (door, image) in [("basic", "basic:1"), ("token", "token:1")] {
        let (fake, world) = site(door);
        let host = fake.address.as_str();
        let others =
            json!({ "auths": { "r.io": { "auth": "x", "email": "e" } }, "detachKeys": "ctrl-e" });
        write(&world, ".config/containers/auth.json", &others.to_string(), 0o644);
        world.tool(ALICE, &["pull", image]).fails(1, &[&format!("shifterimg login {host}")]);
        let said = log_in(&world, &[], PASSWORD, &[host]).ok();
        assert_eq!(
            said.out(),
            format!("logged in to {host} as alice, kept in {}\n", world.path(KEPT).display())
        );
        let file = world.path(KEPT).metadata().unwrap();
        assert_eq!((file.uid(), file.mode() & 0o7777), (ALICE, 0o600));
        let mut rest = kept(&world);
        assert!(rest["auths"].as_object_mut().unwrap().remove(host).is_some());
        assert_eq!(rest, others);
        world.tool(ALICE, &["pull", image]).ok();
        world.tool(BOB, &["pull", image]).fails(1, &["wants a login"]);

        world.tool(ALICE, &["logout", host]).ok();
        assert_eq!(kept(&world), others);
        world.tool(ALICE, &["pull", image]).fails(1, &["wants a login"]);
        world.tool(ALICE, &["logout", host]).fails(1, &["you are not logged in to", "hint: "]);
        assert_eq!(world.files("alice"), [".config/containers/auth.json"]);
    }
}

#[test]
#[ignore = "needs root: it becomes users"]
fn what_the_registry_does_not_take_is_not_kept_and_no_password_is_shown() {
    for door in ["basic", "token"] {
        let (fake, world) = site(door);
        let done = log_in(&world, &[], "hunter2", &[&fake.address])
            .fails(1, &["does not accept this name", "access token"]);
        assert!(!done.err().contains("hunter2"), "{}", done.err());
        assert!(world.files("alice").is_empty());
    }
    let (fake, world) = site("");
    let host = fake.address.as_str();
    log_in(&world, &[], PASSWORD, &[host]).fails(1, &["lets everybody in", "without a login"]);
    assert_eq!(fake.seen("Basic"), [""; 0]);
    log_in(&world, &[], "", &[host]).fails(1, &["no password on standard input"]);
    world.tool(ALICE, &["login", host]).fails(1, &["no terminal", "--password-stdin"]);
    world
        .tool(ALICE, &["login", "alice"])
        .fails(1, &["alice: not a registry's name", "a dot or a port"]);
    world.tool(ALICE, &["login", "--password", "x", host]).fails(2, &["--password"]);
    // Nor is anything lost that cannot be understood.
    *fake.door.lock().unwrap() = "basic";
    write(&world, ".config/containers/auth.json", "{ \"auths\": [", 0o600);
    log_in(&world, &[], PASSWORD, &[host]).fails(1, &["no file of logins", "move it away"]);
    assert_eq!(std::fs::read_to_string(world.path(KEPT)).unwrap(), "{ \"auths\": [");
}

#[test]
#[ignore = "needs root: it becomes users"]
fn on_a_terminal_the_password_is_asked_for_and_not_shown() {
    let (fake, world) = site("basic");
    let tool = world.path("shifterimg");
    // What is typed comes when it is asked for, as people do it.
    let script = format!(
        r#"mkfifo typed; exec 3<>typed
        script -qfec '{} login {}' screen <typed >/dev/null & child=$!
        wait_for() {{ for _ in $(seq 300); do grep -q "$1" screen 2>/dev/null && return; sleep 0.05; done; cat screen; exit 9; }}
        wait_for Username:; printf 'alice\n' >&3
        wait_for Password:; sleep 0.2; printf '{PASSWORD}\n' >&3
        wait $child; cat screen"#,
        tool.display(),
        fake.address
    );
    let script = format!("cd {}; {script}", world.path("alice").display());
    let done = Done(world.command(ALICE, &[], &["bash", "-c", &script]).output().unwrap()).ok();
    let screen = done.out();
    assert!(screen.contains("logged in to") && screen.contains("Password: "), "{screen}");
    assert!(screen.contains("alice") && !screen.contains(PASSWORD), "{screen}");
    assert_eq!(kept(&world)["auths"].as_object().unwrap().len(), 1);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_login_to_part_of_a_registry_is_for_that_part() {
    let (fake, world) = site("basic");
    let (host, part) = (fake.address.as_str(), format!("{}/basic", fake.address));
    world.configure(&format!("[[registry]]\nprefix = \"{host}\"\nhttp = true\n"));
    let (mine, other) = (format!("{part}/app:1"), format!("{host}/basic-not:1"));
    let said = log_in(&world, &[], PASSWORD, &[&part]).ok();
    assert!(said.out().starts_with(&format!("logged in to {part} as alice")), "{}", said.out());
    // As podman's `podman login REGISTRY/PATH` keeps it.
    assert_eq!(kept(&world)["auths"].as_object().unwrap().keys().collect::<Vec<_>>(), [&part]);
    world.tool(ALICE, &["pull", &mine]).ok();
    assert!(fake.seen("/v2/basic/app").iter().any(|line| line.contains("Basic")));
    world.tool(ALICE, &["pull", &other]).ok();
    assert!(fake.seen("/v2/basic-not").iter().all(|line| !line.contains("Basic")));
    world.tool(ALICE, &["logout", host]).fails(1, &["you are not logged in to"]);
    world.tool(ALICE, &["logout", &part]).ok();
    world.tool(ALICE, &["pull", &mine]).fails(1, &["wants a login"]);
    // A helper for all registries has none for a part; one for this registry would go before it.
    write(&world, ".docker/config.json", r#"{"credsStore":"desktop"}"#, 0o600);
    log_in(&world, &[], PASSWORD, &[&part]).ok();
    world.tool(ALICE, &["pull", &mine]).ok();
    let helpers = json!({ "credHelpers": { host: "desktop" } }).to_string();
    write(&world, ".docker/config.json", &helpers, 0o600);
    log_in(&world, &[], PASSWORD, &[&part])
        .fails(1, &["docker-credential-desktop keeps the login of", "credHelpers"]);
}

/// Keeps one login, and notes how it was run.
const HELPER: &str = r#"#!/bin/sh
cd "$HOME/kept" || exit 1
{ echo "args=$*"; id -u; grep -E '^(Uid|Gid|NoNewPrivs|CapEff)' /proc/self/status; env; ls -l /proc/self/fd; } >>log
case $1 in
store) cat >login ;;
get) read -r server; grep -qsF "\"ServerURL\":\"$server\"" login && cat login || { echo 'credentials not found in native keychain'; exit 1; } ;;
erase) rm -f login ;;
esac
"#;

#[test]
#[ignore = "needs root: it becomes users"]
fn a_credential_helper_keeps_it_run_with_the_users_rights_and_environment() {
    for config in ["credHelpers", "credsStore"] {
        let (fake, world) = site("basic");
        let host = fake.address.as_str();
        let value = if config == "credsStore" { json!("test") } else { json!({ host: "test" }) };
        write(&world, ".docker/config.json", &json!({ config: value }).to_string(), 0o600);
        write(&world, "bin/docker-credential-test", HELPER, 0o755);
        write(&world, "kept/log", "", 0o600);
        let path = format!("{}:/usr/bin:/bin", world.path("alice/bin").display());
        let mine = [("PATH", path.as_str()), ("GNUPGHOME", "/nowhere"), ("LD_PRELOAD", "")];
        let said = log_in(&world, &mine, PASSWORD, &[host]).ok();
        assert!(said.out().ends_with("kept in docker-credential-test\n"), "{}", said.out());
        assert!(!world.path(KEPT).exists());
        world.tool_with(ALICE, &mine, &["pull", "basic:1"]).ok();
        let log = std::fs::read_to_string(world.path("alice/kept/log")).unwrap();
        assert!(log.contains("args=store\n") && log.contains("args=get\n"), "{log}");
        assert!(log.contains("GNUPGHOME=/nowhere") && log.contains("NoNewPrivs:\t1"), "{log}");
        assert!(log.contains(&format!("Uid:\t{ALICE}\t{ALICE}\t{ALICE}\t{ALICE}")), "{log}");
        assert!(log.contains(&format!("Gid:\t{ALICE}\t{ALICE}\t{ALICE}\t{ALICE}")), "{log}");
        assert!(log.contains("CapEff:\t0000000000000000") && !log.contains(PASSWORD), "{log}");
        // Nothing of ours is open in it but pipes: no socket to the writer, no file of the store.
        assert!(
            !log.contains("socket:") && !log.contains(world.path("store").to_str().unwrap()),
            "{log}"
        );
        let done = world.tool_with(ALICE, &mine, &["logout", host]).ok();
        assert_eq!(
            done.out(),
            format!("logged out of {host}, forgotten in docker-credential-test\n")
        );
        assert!(!world.path("alice/kept/login").exists());
        world.tool_with(ALICE, &mine, &["pull", "basic:1"]).fails(1, &["wants a login"]);
    }
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_helper_that_is_not_there_is_no_matter_where_no_login_is_needed() {
    let (fake, world) = site("basic");
    write(&world, ".docker/config.json", r#"{"credsStore":"desktop"}"#, 0o600);
    let done = world.tool(ALICE, &["pull", "plain:1"]).ok();
    assert!(!done.err().contains("desktop"), "{}", done.err());
    let missing = "there is no \"docker-credential-desktop\" in your PATH";
    world.tool(ALICE, &["pull", "basic:1"]).fails(1, &["wants a login", missing]);
    log_in(&world, &[], PASSWORD, &[&fake.address]).fails(1, &[missing, "credsStore"]);
    // Whoever says which file means that file.
    let file = world.path("alice/auth.json");
    let mine = [("REGISTRY_AUTH_FILE", file.to_str().unwrap())];
    log_in(&world, &mine, PASSWORD, &[&fake.address]).ok();
    world.tool_with(ALICE, &mine, &["pull", "basic:1"]).ok();
}

#[test]
#[ignore = "needs root: it becomes users"]
fn an_identity_token_opens_what_its_password_would() {
    let (fake, world) = site("token");
    let auths = json!({ "auths": { &fake.address: { "auth": "", "identitytoken": "identity" } } });
    write(&world, ".docker/config.json", &auths.to_string(), 0o600);
    world.tool(ALICE, &["pull", "token:1"]).ok();
    // What docker has written only docker changes.
    let said = format!("docker logout {}", fake.address);
    world.tool(ALICE, &["logout", &fake.address]).fails(1, &["docker keeps a login", &said]);
    assert!(world.path("alice/.docker/config.json").exists());
}

#[test]
#[ignore = "needs root: it becomes users"]
fn who_logs_in_to_a_registry_that_is_not_asked_here_is_told_which_one_is() {
    let (fake, world) = site("basic");
    let host = &fake.address;
    world.configure(&format!(
        "[[registry]]\nprefix = \"{host}\"\nmirror = \"mirror.example:5000\"\n[[registry]]\nprefix = \"{host}/x\"\nhttp = true\n"
    ));
    let done = log_in(&world, &[], PASSWORD, &[host]).ok();
    assert_eq!(
        done.err(),
        format!(
            "note: here images of {host} come from mirror.example:5000, which has logins of its own\n"
        )
    );
}

#[test]
#[ignore = "needs root: it becomes users"]
fn roots_logins_are_roots_and_what_talks_to_the_registry_is_nobody() {
    let (fake, world) = site("basic");
    let tool = world.path("shifterimg");
    let script = format!(
        "echo {PASSWORD} | {} login -u {USER} --password-stdin {}",
        tool.display(),
        fake.address
    );
    let home = world.path("etc/root");
    std::fs::create_dir(&home).unwrap();
    let mine = [("HOME", home.to_str().unwrap())];
    Done(world.command(0, &mine, &["sh", "-c", &script]).output().unwrap()).ok();
    let file = home.join(".config/containers/auth.json").metadata().unwrap();
    assert_eq!((file.uid(), file.mode() & 0o7777), (0, 0o600));
    world.tool_with(0, &mine, &["pull", "basic:1"]).ok();
    world.tool_with(0, &mine, &["logout", &fake.address]).ok();
}
