//! What users see and can do: `cargo test -p imgtool -- --ignored` as root.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use base64::Engine;
use world::fake::{PASSWORD, USER};
use world::{ALICE, BOB, Done, OWNER, World, json, site};

/// Waits for what happens soon, or never.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "it never happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn log_in(world: &World, host: &str) {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = world.path("alice/auth.json");
    std::fs::write(&file, serde_json::json!({"auths": {host: {"auth": auth}}}).to_string())
        .unwrap();
    std::os::unix::fs::chown(&file, Some(ALICE), Some(ALICE)).unwrap();
    world.mode("alice/auth.json", 0o600);
}

fn processes(name: &str, world: &World) -> Vec<std::path::PathBuf> {
    let tool = world.path("shifterimg");
    let all = std::fs::read_dir("/proc").unwrap().map(|e| e.unwrap().path());
    let ours = all.filter(|p| {
        let line = std::fs::read(p.join("cmdline")).unwrap_or_default();
        line.starts_with(tool.as_os_str().as_encoded_bytes())
            && String::from_utf8_lossy(&line).contains(name)
    });
    ours.collect()
}

fn status(process: &std::path::Path, key: &str) -> String {
    let text = std::fs::read_to_string(process.join("status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
#[ignore = "needs root: it becomes users and mounts"]
fn a_user_pulls_and_everybody_uses_it() {
    let (_fake, world) = site();
    let pulled = world.tool(ALICE, &["pull", "--json", "plain:1"]).ok();
    assert_eq!(json(&pulled)["new"], true);
    let image = world.image();
    let meta = image.metadata().unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777, meta.nlink()), (OWNER, 0o644, 1));
    assert_eq!(
        world.in_image(&image, "cat $1/etc/hello; jq -c .env $1/.shifter/image.json"),
        "hello\n[\"PATH=/bin\"]\n"
    );
    let digest = world.tool(BOB, &["lookup", "plain:1"]).ok().out();
    assert_eq!(digest.trim(), json(&pulled)["digest"]);
    assert!(world.tool(BOB, &["images"]).ok().out().contains("plain:1 "));
    assert!(world.tool(BOB, &["inspect", "plain:1"]).ok().out().contains("PATH=/bin"));
    let shown = json(&world.tool(BOB, &["inspect", "--json", "plain:1"]).ok());
    assert_eq!(shown["file"]["path"], image.to_str().unwrap());
    assert_eq!(json(&world.tool(BOB, &["pull", "--json", "plain:1"]).ok())["new"], false);
    world.tool(BOB, &["rm", "plain:1"]).fails(1, &["was pulled by", "hint: "]);
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    assert!(world.files("store").is_empty(), "{:?}", world.files("store"));
    world
        .tool(ALICE, &["lookup", "plain:1"])
        .fails(1, &["no such image", "shifterimg pull plain:1"]);
}

#[test]
#[ignore = "needs root: it becomes users and mounts"]
fn files_that_users_cannot_read_are_told_and_made_readable_once_for_all() {
    let (_fake, world) = site();
    let pulled = world.tool(ALICE, &["pull", "--json", "plain:1"]).ok();
    let told = "2 files (/app/data, …) cannot be read by ordinary users; \
                shifterimg pull --readable plain:1 makes them readable";
    assert!(pulled.err().lines().any(|line| line == told), "{}", pulled.err());
    assert_eq!(json(&pulled)["unreadable"]["files"], 2);
    let again = world.tool(BOB, &["pull", "plain:1"]).ok().err();
    assert!(again.lines().any(|line| line == told), "{again}");
    assert!(world.tool(BOB, &["inspect", "plain:1"]).ok().out().contains("unreadable:  2 files"));
    let plain = world.image();
    let modes = "stat -c '%a %n' $1/app/* $1/etc/*";
    let shown = |image: &std::path::Path| {
        let said = world.in_image(image, &format!("cd $1; {}", modes.replace("$1/", "")));
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let kept = ["600 app/data", "700 app/tool", "644 etc/hello", "640 etc/shadow"];
    assert_eq!(shown(&plain), kept);

    let readable = world.tool(BOB, &["pull", "--readable", "--json", "plain:1"]).ok();
    assert!(readable.err().contains("made readable: 2 files"), "{}", readable.err());
    assert_eq!(
        (&json(&readable)["new"], &json(&readable)["readable"]),
        (&true.into(), &true.into())
    );
    assert_eq!(json(&readable)["digest"], json(&pulled)["digest"]);
    let inspected = json(&world.tool(ALICE, &["inspect", "--json", "plain:1"]).ok());
    let file = std::path::PathBuf::from(inspected["file"]["path"].as_str().unwrap());
    assert_ne!(file, plain);
    assert_eq!(shown(&file), ["644 app/data", "755 app/tool", "644 etc/hello", "640 etc/shadow"]);

    // Who pulls without it takes it from nobody, and there is no more to tell.
    let third = world.tool(ALICE, &["pull", "--json", "plain:1"]).ok();
    assert_eq!((&json(&third)["new"], &json(&third)["readable"]), (&false.into(), &true.into()));
    assert!(!third.err().contains("cannot be read"), "{}", third.err());
    let after = json(&world.tool(ALICE, &["inspect", "--json", "plain:1"]).ok());
    assert_eq!(after["file"]["path"], inspected["file"]["path"]);

    // The same image, packed in the same way, is the same file, byte by byte: its name says so.
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    assert!(world.files("store").is_empty(), "{:?}", world.files("store"));
    world.tool(ALICE, &["pull", "--readable", "plain:1"]).ok();
    assert_eq!(world.image(), file);
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    world.tool(ALICE, &["pull", "plain:1"]).ok();
    assert_eq!(world.image(), plain);

    let private = world.tool(ALICE, &["pull", "--private", "plain:1"]).ok().err();
    assert!(private.contains("pull --readable --private plain:1 makes"), "{private}");
    world.tool(ALICE, &["rm", "plain:1"]).ok();

    // A site may want it so for all.
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    let text = std::fs::read_to_string(world.path("etc/shifter/shifter.toml")).unwrap();
    let text = format!("{text}[images]\nmodes = \"readable\"\n");
    std::fs::write(world.path("etc/shifter/shifter.toml"), text).unwrap();
    world.tool(ALICE, &["pull", "plain:1"]).ok();
    assert_eq!(world.image(), file);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_private_image_is_invisible_to_others() {
    let (_fake, world) = site();
    world.tool(ALICE, &["pull", "--private", "plain:1"]).ok();
    let digest = world.tool(ALICE, &["lookup", "plain:1"]).ok().out().trim().to_owned();
    let by_digest = format!("id:{digest}");
    world.tool(ALICE, &["inspect", &by_digest]).ok();
    assert!(world.tool(ALICE, &["images"]).ok().out().contains("private"));
    assert_eq!(world.tool(BOB, &["images", "-q"]).ok().out(), "");
    let none = format!("id:sha256:{}", "0".repeat(64));
    for command in ["lookup", "inspect", "rm"] {
        let missing =
            world.tool(BOB, &[command, "plain:2"]).fails(1, &[]).err().replace("plain:2", "NAME");
        let private =
            world.tool(BOB, &[command, "plain:1"]).fails(1, &[]).err().replace("plain:1", "NAME");
        assert_eq!(private, missing);
        let missing = world.tool(BOB, &[command, &none]).fails(1, &[]).err().replace(&none, "NAME");
        let private =
            world.tool(BOB, &[command, &by_digest]).fails(1, &[]).err().replace(&by_digest, "NAME");
        assert_eq!(private, missing);
    }
    let image = world.image();
    let cat =
        |uid| Done(world.command(uid, &[], &["cat", image.to_str().unwrap()]).output().unwrap());
    cat(ALICE).ok();
    cat(BOB).fails(1, &["Permission denied"]);
    for dir in ["store", "store/refs", "store/refs/.private", "store/images", "store/tmp"] {
        let path = world.path(dir);
        Done(world.command(BOB, &[], &["ls", path.to_str().unwrap()]).output().unwrap())
            .fails(2, &["Permission denied"]);
    }
    // The registry gives it to everybody, so bob may have it too, and then everybody.
    world.tool(BOB, &["pull", "--private", "plain:1"]).ok();
    cat(BOB).ok();
    world.tool(BOB, &["rm", "plain:1"]).ok();
    cat(BOB).fails(1, &["Permission denied"]);
    cat(ALICE).ok();
    world.tool(BOB, &["pull", "plain:1"]).ok();
    cat(BOB).ok();
}

#[test]
#[ignore = "needs root: it becomes users"]
fn an_image_that_wants_a_login_is_private_unless_shared() {
    for repository in ["basic:1", "token:1"] {
        let (fake, world) = site();
        world
            .tool(ALICE, &["pull", repository])
            .fails(1, &["wants a login", "who are you?", "shifterimg login"]);
        log_in(&world, &fake.address);
        let auth = world.path("alice/auth.json");
        let variables = [("REGISTRY_AUTH_FILE", auth.to_str().unwrap())];
        let pulled = world.tool_with(ALICE, &variables, &["pull", "--json", repository]).ok();
        assert_eq!(json(&pulled)["private"], true);
        assert!(pulled.err().contains("--public"), "{}", pulled.err());
        assert_eq!(world.tool(BOB, &["images", "-q"]).ok().out(), "");
        // Somebody else's login file is no way in, whoever owns the program.
        world.tool_with(BOB, &variables, &["pull", repository]).fails(1, &["wants a login"]);
        world.tool_with(ALICE, &variables, &["pull", "--public", repository]).ok();
        world.tool(BOB, &["lookup", repository]).ok();
        let wrong =
            serde_json::json!({"auths": {&fake.address: {"username": "alice", "password": "no"}}});
        std::fs::write(&auth, wrong.to_string()).unwrap();
        world
            .tool_with(ALICE, &variables, &["pull", repository])
            .fails(1, &["does not let you pull"]);
    }
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_login_is_not_shown_to_registries_that_do_not_ask() {
    let (fake, world) = site();
    log_in(&world, &fake.address);
    let auth = world.path("alice/auth.json");
    let variables = [("REGISTRY_AUTH_FILE", auth.to_str().unwrap())];
    let pulled = world.tool_with(ALICE, &variables, &["pull", "--json", "plain:1"]).ok();
    assert_eq!(json(&pulled)["private"], false);
    let log = fake.log.lock().unwrap().join("\n");
    assert!(log.contains("/plain/manifests/1") && !log.contains("Basic"), "{log}");
}

#[test]
#[ignore = "needs root: it becomes users"]
fn what_passes_is_tried_again_and_what_does_not_is_explained() {
    let (fake, world) = site();
    world.tool(ALICE, &["pull", "busy:1"]).ok();
    world.tool(ALICE, &["rm", "busy:1"]).ok();
    assert_eq!(fake.seen("/busy/manifests").len(), 3);
    world
        .tool(ALICE, &["pull", "corrupt:1"])
        .fails(1, &["sent something else than sha256:", "push it again"]);
    world.tool(ALICE, &["pull", "gone:1"]).fails(1, &["has no gone:1", "check name and tag"]);
    world.tool(ALICE, &["pull", "broken:1"]).fails(1, &["fault of its own", "try again later"]);
    world
        .tool(ALICE, &["pull", "--platform", "linux/arm64", "plain:1"])
        .fails(1, &["for linux/amd64, not for linux/arm64"]);
    // Of several platforms none is pulled if one is missing; and there are not that many.
    world
        .tool(ALICE, &["pull", "--platform", "linux/amd64,linux/arm64", "plain:1"])
        .fails(1, &["for linux/amd64, not for linux/arm64"]);
    let many = (0..9).map(|n| format!("linux/a{n}")).collect::<Vec<_>>().join(",");
    world
        .tool(ALICE, &["pull", "--platform", &many, "plain:1"])
        .fails(1, &["9 of them are too many"]);
    world.tool(ALICE, &["pull", "id:sha256:0"]).fails(1, &["not an image name"]);
    world.tool(ALICE, &["pull"]).fails(2, &["IMAGE"]);
    assert!(world.files("store").is_empty(), "{:?}", world.files("store"));
}

#[test]
#[ignore = "needs root: it becomes users"]
fn two_pulls_of_one_image_at_once_are_one_job() {
    let (fake, world) = site();
    let first = world.start(ALICE, &["pull", "--json", "slow:1"]);
    eventually(|| (fake.fetches() > 0).then_some(()));
    let second = world.start(BOB, &["pull", "--json", "slow:1"]);
    let (first, second) = (
        Done(first.wait_with_output().unwrap()).ok(),
        Done(second.wait_with_output().unwrap()).ok(),
    );
    assert_eq!(
        (json(&first)["new"].clone(), json(&second)["new"].clone()),
        (true.into(), false.into())
    );
    assert!(second.err().contains("is pulling the same image; waiting"), "{}", second.err());
    assert_eq!(fake.fetches(), 1);
    world.image();
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_killed_pull_leaves_nothing_and_the_next_one_cleans_up() {
    for victims in [&[0][..], &[1], &[0, 1]] {
        let (fake, world) = site();
        let mut pull = world.start(ALICE, &["pull", "stall:1"]);
        eventually(|| (fake.fetches() > 0 && !world.files("store/tmp").is_empty()).then_some(()));
        let mut both = processes("stall:1", &world);
        both.sort_by_key(|p| status(p, "Uid"));
        assert_eq!(both.len(), 2);
        for victim in victims {
            let pid: i32 = both[*victim].file_name().unwrap().to_str().unwrap().parse().unwrap();
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid).unwrap(),
                rustix::process::Signal::KILL,
            )
            .unwrap();
        }
        // Whoever is left notices.
        let _ = pull.wait();
        eventually(|| processes("stall:1", &world).is_empty().then_some(()));
        assert!(world.files("store/refs").is_empty() && world.files("store/manifests").is_empty());
        assert!(world.files("store/images").is_empty());
        world.tool(BOB, &["pull", "plain:1"]).ok();
        assert_eq!(world.files("store/tmp"), Vec::<String>::new());
        assert_eq!(world.files("store/leases"), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs root: it becomes users"]
fn of_a_pull_for_several_platforms_nobody_stays_when_its_reader_is_killed() {
    let (fake, world) = site();
    let words = ["pull", "--platform", "linux/amd64,linux", "stall:1"];
    world.tool(ALICE, &words).fails(2, &["a platform is OS/ARCHITECTURE"]);
    // The same image serves for both.
    let mut pull =
        world.start(ALICE, &["pull", "--platform", "linux/amd64,linux/amd64/v1", "stall:1"]);
    eventually(|| (fake.fetches() > 0 && !world.files("store/tmp").is_empty()).then_some(()));
    let all = processes("stall:1", &world);
    assert_eq!(all.len(), 3);
    let reader = all.iter().find(|p| status(p, "Uid").starts_with(&ALICE.to_string())).unwrap();
    let pid: i32 = reader.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let _ = pull.wait();
    eventually(|| processes("stall:1", &world).is_empty().then_some(()));
    assert!(world.files("store").is_empty(), "{:?}", world.files("store"));
}

#[test]
#[ignore = "needs root: it becomes users"]
fn the_reader_has_the_users_rights_only_and_the_writer_no_network() {
    let (fake, world) = site();
    let mut pull = world
        .command(
            ALICE,
            &[
                ("LD_PRELOAD", "/nowhere.so"),
                ("TMPDIR", "/nowhere"),
                ("HTTP_PROXY", "http://127.0.0.1:1"),
                ("SECRET", "x"),
            ],
            &[world.path("shifterimg").to_str().unwrap(), "pull", "stall:1"],
        )
        .spawn()
        .unwrap();
    eventually(|| (fake.fetches() > 0 && !world.files("store/tmp").is_empty()).then_some(()));
    let mut both = processes("stall:1", &world);
    both.sort_by_key(|p| status(p, "Uid"));
    let [writer, reader] = &both[..] else { panic!("{both:?}") };
    assert_eq!(status(writer, "Uid"), format!("{OWNER} {OWNER} {OWNER} {OWNER}"));
    assert_eq!(status(reader, "Uid"), format!("{ALICE} {ALICE} {ALICE} {ALICE}"));
    for process in [writer, reader] {
        assert_eq!(status(process, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(process, set), "0000000000000000");
        }
        // Not dumpable: its user can neither trace it nor look into it.
        assert_eq!(process.join("mem").symlink_metadata().unwrap().uid(), 0);
        let environment = process.join("environ");
        Done(world.command(ALICE, &[], &["cat", environment.to_str().unwrap()]).output().unwrap())
            .fails(1, &["denied"]);
    }
    let sockets = |process: &std::path::Path| {
        let tcp = std::fs::read_to_string(process.join("net/tcp")).unwrap();
        let inodes: Vec<String> = tcp
            .lines()
            .skip(1)
            .filter_map(|l| l.split_whitespace().nth(9).map(str::to_owned))
            .collect();
        let links = std::fs::read_dir(process.join("fd"))
            .unwrap()
            .filter_map(|e| std::fs::read_link(e.unwrap().path()).ok());
        links
            .filter(|l| inodes.iter().any(|i| l.to_str() == Some(&format!("socket:[{i}]"))))
            .count()
    };
    assert_eq!(sockets(writer), 0);
    assert!(sockets(reader) > 0);
    let pid = |p: &std::path::Path| p.file_name().unwrap().to_str().unwrap().to_owned();
    Done(world.command(ALICE, &[], &["kill", "-9", &pid(writer)]).output().unwrap())
        .fails(1, &["not permitted"]);
    Done(world.command(ALICE, &[], &["kill", "-9", &pid(reader)]).output().unwrap()).ok();
    let _ = pull.wait();
}

#[test]
#[ignore = "needs root: it becomes users"]
fn who_runs_it_with_odd_files_and_limits_gains_nothing() {
    let (_fake, world) = site();
    let tool = world.path("shifterimg");
    let tool = tool.to_str().unwrap();
    // Closed standard files: nothing of the store may get their numbers.
    let closed = format!("exec {tool} pull plain:1 0<&- 1>&- 2>&-");
    Done(world.command(ALICE, &[], &["sh", "-c", &closed]).output().unwrap()).ok();
    world.in_image(&world.image(), "cmp <(cat $1/etc/hello) <(echo hello)");
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    let small = format!("ulimit -f 100; exec {tool} pull plain:1");
    let done = Done(world.command(ALICE, &[], &["sh", "-c", &small]).output().unwrap());
    assert_ne!(done.code(), 0);
    assert!(world.files("store/images").is_empty());
    let other = world.path("etc/shifter/shifter.toml");
    world
        .tool(ALICE, &["--config", other.to_str().unwrap(), "images"])
        .fails(1, &["only root may use another configuration"]);
    world.tool(0, &["--config", other.to_str().unwrap(), "images"]).ok();
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_wrong_installation_is_named() {
    let (_fake, world) = site();
    world.mode("shifterimg", 0o755);
    world
        .tool(ALICE, &["pull", "plain:1"])
        .fails(1, &["not installed set-user-ID", "administrator"]);
    world.tool(0, &["pull", "plain:1"]).ok();
    world.tool(OWNER, &["pull", "plain:1"]).ok();
    world.tool(ALICE, &["lookup", "plain:1"]).ok();
    std::os::unix::fs::chown(world.path("shifterimg"), Some(0), Some(0)).unwrap();
    world.mode("shifterimg", 0o4755);
    world.tool(ALICE, &["pull", "plain:1"]).fails(3, &["set-user-ID to root", "chown"]);
    std::os::unix::fs::chown(world.path("shifterimg"), Some(OWNER), Some(OWNER)).unwrap();
    world.mode("shifterimg", 0o4755);
    world.mode("etc/shifter/shifter.toml", 0o666);
    world
        .tool(ALICE, &["pull", "plain:1"])
        .fails(3, &["others than root can write it", "HPC support"]);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn the_same_image_is_packed_to_the_same_bytes_by_one_core_and_by_all() {
    let ids = [&["env"][..], &["taskset", "-c", "0"]].map(|how| {
        let (_fake, world) = site();
        let tool = world.path("shifterimg");
        let words = [how, &[tool.to_str().unwrap(), "pull", "plain:1"]].concat();
        Done(world.command(ALICE, &[], &words).output().unwrap()).ok();
        // Their names are their digests.
        world.files("store/images")
    });
    assert_eq!(ids[0], ids[1]);
}
