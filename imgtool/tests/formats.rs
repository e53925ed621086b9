//! Images as other file systems than squashfs: `cargo test -p imgtool --test formats -- --ignored`
//! as root, with fakeroot, mke2fs and mkfs.erofs.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use world::fake::Fake;
use world::{ALICE, BOB, Done, OWNER, World, json};

fn site(formats: &str) -> (std::sync::Arc<Fake>, World) {
    let fake = Fake::start();
    let world = World::new(&fake.address);
    std::fs::create_dir(world.path("scratch")).unwrap();
    chown(world.path("scratch"), Some(OWNER), Some(OWNER)).unwrap();
    world.configure(&format!(
        "[images]\nformats = [{formats}]\nscratch = \"{}\"\n[[registry]]\nprefix = \"docker.io/library\"\nmirror = \"{}\"\nhttp = true\n",
        world.path("scratch").display(),
        fake.address
    ));
    (fake, world)
}

/// The file that nodes would mount, and its format.
fn mounted(world: &World, name: &str) -> (PathBuf, String) {
    let shown = json(&world.tool(ALICE, &["inspect", "--json", name]).ok());
    let text = |key: &str| shown["file"][key].as_str().unwrap().to_owned();
    (text("path").into(), text("format"))
}

/// All that there is in an image, as the kernel shows it.
fn list(image: &Path, format: &str) -> String {
    let options = if format == "ext4" { "ro,loop,noload" } else { "ro,loop" };
    let mount = tempfile::tempdir().unwrap();
    let script = r#"mount -t "$3" -o "$4" "$2" "$1"; cd "$1"
        find . ! -type d -printf '%P %y %s %n %m %U:%G %T@ %l\n' -o -printf '%P %y %m %U:%G %T@\n' | sed 's,\.0* , ,' | sort
        find . -type f -size -10M -exec sha256sum {} + | sort -k2; [ etc/hello -ef bin/same ] && echo same"#;
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "bash", "-euc", script, "bash"]);
    command.arg(mount.path()).arg(image).args([format, options]);
    Done(command.output().unwrap()).ok().out()
}

fn tree(world: &World) -> String {
    let script = r#"mkdir -p root/etc root/bin root/$(printf 'n%.0s' {1..200}) root/"odd "$'\n'"name" root/deep/a/b/c; cd root
        echo hello >etc/hello; ln etc/hello etc/same; ln etc/hello bin/same; cp etc/hello etc/copy
        : >etc/none; ln -s hello etc/link; ln -s $(printf 't%.0s' {1..200}) etc/long; mkfifo etc/fifo
        seq 100000 >bin/data; truncate -s 1G etc/holes; echo end >>etc/holes; for i in $(seq 300); do echo $i >deep/a/$i; done
        chown 7:8 bin/data; chown 3000000000:70000 etc/copy deep; chmod 4755 bin/data; chmod 2750 bin; chmod 0 etc/none
        touch -d @1000000000 etc/hello etc; touch -hd @1000000001 etc/link; chmod 711 .; touch -d @5 .; tar --sparse -cf ../root.tar ."#;
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(world.path("alice"));
    Done(command.output().unwrap()).ok();
    world.mode("alice/root.tar", 0o644);
    format!("tar:{}", world.path("alice/root.tar").display())
}

#[test]
#[ignore = "needs root: it becomes users and mounts"]
fn ext4_and_erofs_show_what_squashfs_shows() {
    let (_fake, world) = site(r#""squashfs", "ext4", "erofs""#);
    let source = tree(&world);
    let name = format!("user:{ALICE}/app:1");
    let plain = json(&world.tool(ALICE, &["import", "--json", &source, "app:1"]).ok());
    let (squashfs, format) = mounted(&world, &name);
    assert_eq!(format, "squashfs");
    let expected = list(&squashfs, "squashfs");
    assert!(expected.contains("bin/data f 588895 1 4755 7:8 "), "{expected}");
    assert!(expected.contains("etc/copy f 6 1 644 3000000000:70000 "), "{expected}");
    assert!(expected.ends_with("same\n"));
    for format in ["ext4", "erofs"] {
        let words = ["import", "--json", "--format", format, &source, "app:1"];
        let said = json(&world.tool(ALICE, &words).ok());
        assert_eq!(said["digest"], plain["digest"]);
        let (file, found) = mounted(&world, &name);
        assert_eq!(found, format);
        assert_eq!(list(&file, format), expected, "{format}");
        let meta = file.metadata().unwrap();
        assert_eq!((meta.uid(), meta.nlink()), (OWNER, 1));
        assert_eq!(said["size"], meta.len());
        // Holes take no room, on ext4 not in the store either.
        assert!(meta.blocks() * 512 < 64 << 20, "{format}: {}", meta.blocks());
        // Whose it is, stays so: it is the same image.
        let cat = world.command(BOB, &[], &["cat", file.to_str().unwrap()]).output().unwrap();
        Done(cat).fails(1, &["Permission denied"]);
        // And it is made once.
        let again = json(&world.tool(ALICE, &words).ok());
        assert_eq!((&again["new"], &again["size"]), (&false.into(), &meta.len().into()));
    }
    assert_eq!(world.files("store/images").len(), 3);
    assert!(world.files("scratch").is_empty() && world.files("store/tmp").is_empty());
    // What leaves the store is the squashfs file.
    let out = world.path("alice/out").display().to_string();
    chown(world.path("alice"), Some(ALICE), Some(ALICE)).unwrap();
    world.tool(ALICE, &["export", &name, &format!("squashfs:{out}")]).ok();
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&squashfs).unwrap());
    world.tool(ALICE, &["rm", &name]).ok();
    assert!(world.files("store").is_empty(), "{:?}", world.files("store"));
}

#[test]
#[ignore = "needs root: it becomes users and mounts"]
fn a_pulled_image_is_made_once_more_in_the_modes_that_it_has() {
    let (_fake, world) = site(r#""erofs", "ext4""#);
    world.tool(ALICE, &["pull", "--readable", "plain:1"]).ok();
    for format in ["ext4", "erofs"] {
        world.tool(BOB, &["pull", "--format", format, "plain:1"]).ok();
        let (file, found) = mounted(&world, "plain:1");
        assert_eq!(found, format);
        let shown = list_modes(&file, format);
        assert_eq!(shown, "644 app/data\n755 app/tool\n644 etc/hello\n640 etc/shadow\n");
    }
    // The same image gives the same bytes, as long as the programs are the same.
    let (erofs, _) = mounted(&world, "plain:1");
    world.tool(0, &["rm", "plain:1"]).ok();
    world.tool(ALICE, &["pull", "--readable", "--format", "erofs", "plain:1"]).ok();
    assert_eq!(mounted(&world, "plain:1").0, erofs);
    // Readable is more than a format: who asks for it later is not taken from by an older file.
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    world.tool(ALICE, &["pull", "--format", "ext4", "plain:1"]).ok();
    world.tool(ALICE, &["pull", "--readable", "plain:1"]).ok();
    assert_eq!(mounted(&world, "plain:1").1, "squashfs");
}

fn list_modes(image: &Path, format: &str) -> String {
    let mount = tempfile::tempdir().unwrap();
    let script = r#"mount -t "$3" -o ro,loop "$2" "$1"; cd "$1"; stat -c '%a %n' app/* etc/*"#;
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "bash", "-euc", script, "bash"]);
    command.arg(mount.path()).arg(image).arg(format);
    Done(command.output().unwrap()).ok().out()
}

#[test]
#[ignore = "needs root: it becomes users"]
fn what_the_site_does_not_want_or_cannot_do_is_said() {
    let (_fake, world) = site(r#""squashfs""#);
    world
        .tool(ALICE, &["pull", "--format", "ext4", "plain:1"])
        .fails(1, &["this site packs no images so", "here there is: squashfs"]);
    assert!(world.files("store").is_empty());
    world
        .tool(ALICE, &["pull", "--format", "ntfs", "plain:1"])
        .fails(2, &["squashfs, ext4 or erofs"]);
    let (_fake, world) = site(r#""ext4""#);
    world.mode("scratch", 0o500);
    world
        .tool(ALICE, &["pull", "--format", "ext4", "plain:1"])
        .fails(3, &["cannot unpack an image in ", "images.scratch must be a directory"]);
    // The image itself is there, as squashfs.
    assert_eq!(mounted(&world, "plain:1").1, "squashfs");
    assert!(world.files("store/tmp").is_empty() && world.files("store/leases").is_empty());
}
