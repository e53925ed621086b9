//! Exporting: `cargo test -p imgtool --test export -- --ignored` as root, with skopeo and umoci.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::os::unix::fs::PermissionsExt;

use world::{ALICE, BOB, Done, World, json, root, site};

/// shifterimg, in the home directory of `uid`.
fn tool(world: &World, uid: u32, words: &[&str]) -> Done {
    let tool = world.path("shifterimg");
    let all =
        [&["sh", "-c", r#"cd "$HOME"; exec "$0" "$@""#, tool.to_str().unwrap()], words].concat();
    Done(world.command(uid, &[], &all).output().unwrap())
}

/// An image with all that there may be, `user:ALICE/app:1`.
fn app(world: &World) -> String {
    root(
        world,
        r#"mkdir -p root/etc root/bin root/$(printf 'n%.0s' {1..120}) root/.shifter; cd root
        echo hello >etc/hello; ln etc/hello etc/same; ln etc/hello bin/same; cp etc/hello etc/copy; cp etc/hello etc/twin; ln etc/twin etc/twin2
        : >etc/none; ln etc/none etc/none2; ln -s hello etc/link; ln -s $(printf 't%.0s' {1..200}) etc/long; mkfifo etc/fifo
        seq 100000 >bin/data; truncate -s 3M etc/holes; echo end >>etc/holes; ln bin/data $(echo nnn*)/linked
        chown 7:8 bin/data; chown 3000000000:70000 etc/copy; chmod 4755 bin/data; chmod 2750 bin; chmod 600 etc/none; touch -d @1000000000 etc/hello etc; touch -d @5 .
        tar -cf ../root.tar ."#,
    );
    world.mode("alice/root.tar", 0o644);
    let name = format!("user:{ALICE}/app:1");
    tool(world, ALICE, &["import", "tar:root.tar", "app:1"]).ok();
    name
}

#[test]
#[ignore = "needs root: it becomes users and mounts"]
fn an_oci_archive_is_what_skopeo_and_umoci_read_and_has_all_that_is_in_the_image() {
    let (_fake, world) = site();
    let name = app(&world);
    let done = tool(&world, ALICE, &["export", "--json", &name, "oci-archive:app.oci"]).ok();
    let said = json(&done);
    let shown = root(&world, "skopeo inspect --raw oci-archive:app.oci | sha256sum");
    assert_eq!(said["digest"], format!("sha256:{}", shown.split(' ').next().unwrap()));
    let size = world.path("alice/app.oci").metadata().unwrap().len();
    assert_eq!(said["size"], size);
    // The name's tag is the image's.
    root(
        &world,
        "mkdir l && tar -C l -xf app.oci && umoci unpack --image l:1 b && skopeo copy -q oci-archive:app.oci:1 docker-archive:x.tar:a:1",
    );
    let names = "-printf '%p %y %m %U:%G %n %T@ %l\\n'";
    let list = |top: &str| {
        format!(
            "cd {top}; find . -path ./.shifter -prune -o {names} | sed 's,\\([0-9]\\)\\.0* ,\\1 ,' | sort; find . -path ./.shifter -prune -o -type f -exec sha256sum {{}} + | sort; ls -i etc/hello bin/same etc/same | cut -d' ' -f1 | uniq | wc -l"
        )
    };
    // How many names a directory has, is the file system's own business.
    let plain = |text: String| {
        let lines: Vec<String> =
            text.lines().filter(|l| !l.starts_with(". d ")).map(str::to_owned).collect();
        lines.join("\n").replace(" 2750 0:0 2 ", " 2750 0:0 ")
    };
    let theirs = plain(root(&world, &list("b/rootfs")));
    let ours = plain(world.in_image(&world.image(), &list("$1")));
    assert_eq!(theirs, ours);
    assert!(ours.contains("./bin/data f 4755 7:8 2 "), "{ours}");
    assert!(ours.contains("./etc/copy f 644 3000000000:70000 1 "), "{ours}");
    // Another one is the same bytes, also on its way to somebody else; and the way back is open.
    tool(&world, ALICE, &["export", &name, "oci-archive:again.oci:1"]).ok();
    let piped = tool(&world, ALICE, &["export", &name, "oci-archive:-"]).ok();
    let first = std::fs::read(world.path("alice/app.oci")).unwrap();
    assert!(first == std::fs::read(world.path("alice/again.oci")).unwrap());
    assert!(first == piped.0.stdout);
    let back = tool(&world, ALICE, &["import", "--json", "oci-archive:app.oci", "back:1"]).ok();
    assert_eq!(json(&back)["digest"], said["digest"]);
}

#[test]
#[ignore = "needs root: it becomes users and mounts"]
fn what_an_image_says_of_itself_is_exported_too() {
    let (_fake, world) = site();
    tool(&world, ALICE, &["pull", "plain:1"]).ok();
    tool(&world, BOB, &["export", "plain:1", "oci-archive:app.oci:v2"]).ok();
    root(&world, "cp ../bob/app.oci . && mkdir l && tar -C l -xf app.oci");
    let config =
        root(&world, "umoci config --image l:v2 --author x && skopeo inspect --config oci:l:v2");
    assert!(config.contains("\"PATH=/bin\""), "{config}");
    let shown = root(&world, "skopeo inspect oci-archive:app.oci");
    assert!(shown.contains("\"Architecture\": \"amd64\""), "{shown}");
    tool(&world, BOB, &["import", "oci-archive:app.oci:v2", "app:1"]).ok();
    let back = tool(&world, BOB, &["inspect", &format!("user:{BOB}/app:1")]).ok().out();
    assert!(back.contains("PATH=/bin"), "{back}");
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_squashfs_file_is_a_copy_and_replaces_nothing_unasked() {
    let (_fake, world) = site();
    tool(&world, ALICE, &["pull", "plain:1"]).ok();
    let image = std::fs::read(world.image()).unwrap();
    let done = tool(&world, BOB, &["export", "-q", "plain:1", "squashfs:plain.squashfs"]).ok();
    let id = world.image().file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(done.out().trim(), format!("sha256:{id}"));
    let file = world.path("bob/plain.squashfs");
    assert!(std::fs::read(&file).unwrap() == image);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    assert!(tool(&world, BOB, &["export", "plain:1", "squashfs:-"]).ok().0.stdout == image);
    std::fs::write(&file, "mine").unwrap();
    for target in ["squashfs:plain.squashfs", "oci-archive:plain.squashfs"] {
        tool(&world, BOB, &["export", "plain:1", target])
            .fails(1, &["plain.squashfs is there already", "--force"]);
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    tool(&world, BOB, &["export", "--force", "plain:1", "squashfs:plain.squashfs"]).ok();
    assert!(std::fs::read(&file).unwrap() == image);
    assert_eq!(world.files("bob"), ["plain.squashfs"]);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn only_who_may_use_an_image_exports_it_and_only_to_where_they_may_write() {
    let (_fake, world) = site();
    tool(&world, ALICE, &["pull", "--private", "plain:1"]).ok();
    tool(&world, BOB, &["export", "plain:1", "squashfs:x"]).fails(1, &["no such image"]);
    let digest = format!("id:{}", tool(&world, ALICE, &["lookup", "plain:1"]).ok().out().trim());
    tool(&world, BOB, &["export", &digest, "oci-archive:x"]).fails(1, &["no such image"]);
    let store = world.path("store/images/x").display().to_string();
    for target in [
        format!("squashfs:{store}"),
        "oci-archive:/etc/x".to_owned(),
        "squashfs:/nowhere/x".to_owned(),
    ] {
        tool(&world, ALICE, &["export", "plain:1", &target]).fails(1, &["cannot be written"]);
    }
    tool(&world, ALICE, &["export", "plain:1", "squashfs:x"]).ok();
    let mode = world.path("alice/x").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(world.files("bob"), [""; 0]);
    tool(&world, ALICE, &["export", "plain:1", "docker-archive:x"])
        .fails(1, &["oci-archive:, squashfs:"]);
}
