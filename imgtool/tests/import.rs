//! Importing from files and directories: `cargo test -p imgtool --test import -- --ignored` as
//! root, with skopeo and mksquashfs.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use world::fake::Fake;
use world::{ALICE, BOB, Done, World};

fn site() -> (std::sync::Arc<Fake>, World) {
    let fake = Fake::start();
    let world = World::new(&fake.address);
    (fake, world)
}

fn json(done: &Done) -> serde_json::Value {
    serde_json::from_str(&done.out()).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

/// Runs a script in alice's directory, as alice.
#[track_caller]
fn alice(world: &World, script: &str) -> String {
    let script = format!("cd {}; {script}", world.path("alice").display());
    let done = world.command(ALICE, &[("LC_ALL", "C")], &["bash", "-euc", &script]).output();
    Done(done.unwrap()).ok().out()
}

fn own(path: PathBuf) {
    Command::new("chown").args(["-R", &format!("{ALICE}:{ALICE}")]).arg(path).status().unwrap();
}

/// The misbehaving registry's image as an OCI layout `alice/oci`, tag 1.
fn layout(world: &World, fake: &Fake) {
    let dir = world.path("alice/oci");
    let image = &fake.image;
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let hex = |bytes: &[u8]| {
        Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    for blob in [&image.manifest, &image.config, &image.layer] {
        std::fs::write(dir.join("blobs/sha256").join(hex(blob)), blob).unwrap();
    }
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{}", hex(&image.manifest)), "size": image.manifest.len(),
        "annotations": { "org.opencontainers.image.ref.name": "1" },
    }]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    own(dir);
}

const NOTHING: [String; 0] = [];

#[test]
#[ignore = "needs root: it becomes users"]
fn an_image_is_the_same_pulled_and_imported() {
    let (fake, world) = site();
    let pulled = json(&world.tool(ALICE, &["pull", "--json", "plain:1"]).ok());
    let id = world.image();
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    assert_eq!(world.files("store"), NOTHING);

    layout(&world, &fake);
    alice(
        &world,
        "skopeo copy -q oci:oci:1 oci-archive:app.oci:app:1; gzip -k app.oci; tar -C oci -cf late.tar blobs oci-layout index.json",
    );
    for source in [
        "oci:oci",
        "oci:oci:1",
        "oci-archive:app.oci",
        "oci-archive:app.oci:app:1",
        "oci-archive:app.oci.gz",
        "oci-archive:late.tar",
    ] {
        let done = import(&world, ALICE, &["--json", source, "app:1"]).ok();
        let said = json(&done);
        assert_eq!(said["image"], format!("user:{ALICE}/app:1"));
        assert_eq!((&said["digest"], &said["new"]), (&pulled["digest"], &true.into()), "{source}");
        assert_eq!(world.image(), id, "{source}");
        assert!(done.err().contains("import --readable"), "{}", done.err());
        let again = json(&import(&world, ALICE, &["--json", source, "app:1"]).ok());
        assert_eq!(again["new"], false);
        world.tool(ALICE, &["rm", &format!("user:{ALICE}/app:1")]).ok();
        assert_eq!(world.files("store"), NOTHING);
    }
}

/// `shifterimg import`, in alice's directory.
#[track_caller]
fn import(world: &World, uid: u32, words: &[&str]) -> Done {
    import_from(world, uid, words, Stdio::null())
}

fn import_from(world: &World, uid: u32, words: &[&str], stdin: Stdio) -> Done {
    let (tool, home) = (world.path("shifterimg"), world.path("alice"));
    let script = r#"cd "$1"; shift; exec "$0" import "$@""#;
    let mut all = vec!["sh", "-c", script, tool.to_str().unwrap(), home.to_str().unwrap()];
    all.extend(words);
    Done(world.command(uid, &[], &all).stdin(stdin).output().unwrap())
}

#[test]
#[ignore = "needs root: it becomes users"]
fn dockers_archives_have_the_digest_that_skopeo_shows() {
    let (fake, world) = site();
    layout(&world, &fake);
    alice(&world, "skopeo copy -q oci:oci:1 docker-archive:app.tar:app:1; gzip -k app.tar");
    let shown = alice(&world, "skopeo inspect --raw docker-archive:app.tar | sha256sum");
    let digest = format!("sha256:{}", shown.split_whitespace().next().unwrap());
    for source in
        ["docker-archive:app.tar", "docker-archive:app.tar:app:1", "docker-archive:app.tar.gz:@0"]
    {
        let said = json(&import(&world, ALICE, &["--json", source, "app"]).ok());
        assert_eq!(said["digest"], digest, "{source}");
        let shown = world.in_image(
            &world.image(),
            "cat $1/etc/hello; stat -c %s $1/noise; jq -c .env $1/.shifter/image.json",
        );
        assert_eq!(shown, "hello\n1048576\n[\"PATH=/bin\"]\n");
        world.tool(ALICE, &["rm", &format!("user:{ALICE}/app")]).ok();
    }
    // As docker wrote them for years: a layer is a link to another's, the list comes last.
    alice(
        &world,
        r#"mkdir old; cd old; tar xf ../app.tar; layer=$(jq -r '.[0].Layers[0]' manifest.json)
        mkdir one two; mv "$layer" one/layer.tar; ln -sf ../one/layer.tar two/layer.tar
        jq '.[0].Layers[0] = "two/layer.tar"' manifest.json >m; mv m manifest.json
        tar cf ../old.tar one two ./*.json"#,
    );
    let said = json(&import(&world, ALICE, &["--json", "docker-archive:old.tar", "app"]).ok());
    assert_eq!(said["digest"], digest);
    // Layers that are compressed in it are the same layers.
    alice(
        &world,
        "cd old; gzip -n <one/layer.tar >zipped; mv -f zipped one/layer.tar; tar cf ../zipped.tar *.json two one",
    );
    let said = json(&import(&world, ALICE, &["--json", "docker-archive:zipped.tar", "app"]).ok());
    assert_eq!((&said["digest"], &said["new"]), (&digest.into(), &false.into()));
    import(&world, ALICE, &["docker-archive:app.tar:other:1", "x"])
        .fails(1, &["there is no image other:1 in it", "it has: ", "app:1"]);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_directory_and_its_archives_are_one_image_whose_files_are_roots() {
    let (_fake, world) = site();
    alice(
        &world,
        r#"mkdir -p root/etc root/bin root/empty; cd root
        echo hello >etc/hello; ln etc/hello etc/same; ln -s hello etc/link; mkfifo etc/fifo; : >etc/none; : >none
        truncate -s 1G etc/holes; printf x | dd of=etc/holes bs=1 seek=1000000 conv=notrunc status=none
        chmod 4755 bin; chmod 600 etc/none; touch -d @1000000000 etc/hello
        mkdir .shifter; echo lies >.shifter/image.json"#,
    );
    let said = json(&import(&world, ALICE, &["--json", "dir:root", "app:1"]).ok());
    assert_eq!(said["private"], true);
    let digest = said["digest"].clone();
    let image = world.image();
    let shown = world.in_image(&image, r#"cd $1; stat -c '%n %a %u:%g %h %s' etc/hello etc/none bin etc/holes; stat -c %Y etc/hello
        [ etc/hello -ef etc/same ] && readlink etc/link && [ -p etc/fifo ] && dd if=etc/holes bs=1 skip=1000000 count=1 status=none; echo
        jq -r .digest .shifter/image.json"#);
    let expected = format!(
        "etc/hello 644 0:0 2 6\netc/none 600 0:0 1 0\nbin 4755 0:0 2 3\netc/holes 644 0:0 1 1073741824\n1000000000\nhello\nx\n{}\n",
        digest.as_str().unwrap()
    );
    // How many bytes a directory has, squashfs says in its own way.
    assert_eq!(shown.replace("bin 4755 0:0 2 27", "bin 4755 0:0 2 3"), expected);
    // Packed to the same bytes, whenever it is done; and known, whichever way it comes.
    let name = format!("user:{ALICE}/app:1");
    world.tool(ALICE, &["rm", &name]).ok();
    import(&world, ALICE, &["dir:root", "app:1"]).ok();
    assert_eq!(world.image(), image);
    alice(
        &world,
        "tar -C root --sparse -cf a.tar . ; tar -C root --sparse --sort=name --format=pax -czf b.tgz $(ls -rA root); zstd -q a.tar",
    );
    for source in ["tar:a.tar", "tar:b.tgz", "tar:a.tar.zst"] {
        let done = import(&world, ALICE, &["--json", source, "app:1"]).ok();
        // Of what is at the root of `b.tgz` no entry speaks of the root itself.
        if !source.contains("b.tgz") {
            assert_eq!(json(&done)["digest"], digest, "{source}");
            assert_eq!(json(&done)["new"], false);
        }
    }
    let file = std::fs::File::open(world.path("alice/a.tar")).unwrap();
    let done = import_from(&world, ALICE, &["--json", "tar:-", "app:2"], file.into()).ok();
    assert_eq!(json(&done)["digest"], digest);
    // Another platform, another image.
    let other =
        import(&world, ALICE, &["--json", "--platform", "linux/arm64", "dir:root", "arm"]).ok();
    assert_ne!(json(&other)["digest"], digest);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_squashfs_file_is_read_and_written_anew() {
    let (_fake, world) = site();
    alice(
        &world,
        r#"mkdir -p root/etc/deep/er root/none; cd root; echo hello >etc/hello; ln etc/hello etc/same; ln -s hello etc/link; mkfifo etc/fifo; : >etc/empty
        seq 300000 >etc/deep/long; truncate -s 10M etc/deep/er/holes; chmod 4711 etc/deep/long; touch -d @1000000000 etc/deep/long; cd ..
        for c in gzip zstd lz4 xz; do mksquashfs root $c.squashfs -quiet -no-progress -comp $c >/dev/null; done
        head -c 100000 zstd.squashfs >short.squashfs; head -c 100000 /dev/zero >zeros"#,
    );
    let digest =
        json(&import(&world, ALICE, &["--json", "dir:root", "app:1"]).ok())["digest"].clone();
    let theirs = world.path("alice/gzip.squashfs");
    let list = |image: &std::path::Path| {
        world.in_image(image, r"cd $1; rm -f x; find . -path ./.shifter -prune -o -type f -exec sha256sum {} + -o -printf '%p %y %m %T@ %l\n' | sort")
    };
    for source in ["squashfs:gzip.squashfs", "squashfs:zstd.squashfs", "squashfs:lz4.squashfs"] {
        world.tool(ALICE, &["rm", &format!("user:{ALICE}/app:1")]).ok();
        let said = json(&import(&world, ALICE, &["--json", source, "app:1"]).ok());
        assert_eq!((&said["digest"], &said["new"]), (&digest, &true.into()), "{source}");
        let image = world.image();
        assert_eq!(list(&image), list(&theirs), "{source}");
        assert_ne!(std::fs::read(&image).unwrap(), std::fs::read(&theirs).unwrap());
    }
    // More fragments than are kept in memory: the parser starts anew in between.
    alice(
        &world,
        "mkdir many; for i in $(seq 80); do yes $i | head -c 600000 >many/$i || true; done
        mksquashfs many many.squashfs -quiet -no-progress -b 1M >/dev/null",
    );
    let many = |source| json(&import(&world, ALICE, &["--json", source, "many:1"]).ok());
    let (packed, plain) = (many("squashfs:many.squashfs"), many("dir:many"));
    assert_eq!((&packed["digest"], &plain["new"]), (&plain["digest"], &false.into()));
    world.tool(ALICE, &["rm", &format!("user:{ALICE}/many:1")]).ok();
    // Apptainer's image: a header, one descriptor, the file system.
    let payload = std::fs::read(&theirs).unwrap();
    let mut sif = vec![0; 40960];
    for (at, bytes) in [
        (0, &b"#!/usr/bin/env run-singularity\n\0"[..]),
        (32, b"SIF_MAGIC\0"),
        (88, &48i64.to_le_bytes()),
        (96, &4096i64.to_le_bytes()),
        (4096 + 585, &0x4004i32.to_le_bytes()),
        (4096 + 585 + 4, &[1]),
        (4096 + 585 + 17, &40960i64.to_le_bytes()),
        (4096 + 585 + 25, &(payload.len() as i64).to_le_bytes()),
        (4096 + 585 + 201, &1i32.to_le_bytes()),
        (4096 + 585 + 205, &2i32.to_le_bytes()),
    ] {
        sif[at..at + bytes.len()].copy_from_slice(bytes);
    }
    sif.extend(payload);
    std::fs::write(world.path("alice/app.sif"), &sif).unwrap();
    std::fs::write(world.path("alice/short.sif"), &sif[..100_000]).unwrap();
    own(world.path("alice"));
    let said = json(&import(&world, ALICE, &["--json", "squashfs:app.sif", "app:1"]).ok());
    assert_eq!((&said["digest"], &said["new"]), (&digest, &false.into()));
    world.tool(ALICE, &["rm", &format!("user:{ALICE}/app:1")]).ok();
    for (source, words) in [
        ("squashfs:xz.squashfs", &["xz.squashfs"][..]),
        ("squashfs:short.squashfs", &["short.squashfs is no squashfs file, or a broken one"]),
        ("squashfs:short.sif", &["short.sif: the header of this Apptainer image is broken"]),
        ("squashfs:zeros", &["zeros is no squashfs file, or a broken one"]),
    ] {
        let done = import(&world, ALICE, &[source, "app:1"]).fails(1, words);
        assert!(done.err().contains("hint: "), "{source}: {}", done.err());
        assert_eq!(world.files("store"), NOTHING, "{source}");
    }
}

#[test]
#[ignore = "needs root: it becomes users"]
fn the_callers_rights_decide_what_is_read_also_those_of_root() {
    let (fake, world) = site();
    layout(&world, &fake);
    alice(
        &world,
        "tar -C oci -cf app.oci .; mkdir -p root/closed; echo secret >root/closed/x; chmod 700 root/closed; chmod 755 .",
    );
    alice(
        &world,
        "chmod 600 app.oci; chmod 700 oci; cp -r root open; chmod 755 open; chmod 000 open/closed",
    );
    // Neither bob's rights nor those of the store's owner are enough.
    for source in ["oci-archive:app.oci", "oci:oci", "dir:root"] {
        import(&world, BOB, &[source, "app:1"]).fails(1, &["Permission denied", "hint: "]);
    }
    import(&world, ALICE, &["dir:open", "app:1"])
        .fails(1, &["/closed cannot be read: Permission denied"]);
    let store = world.path("store").display().to_string();
    world.tool(ALICE, &["pull", "--private", "plain:1"]).ok();
    let image = world.image();
    for source in
        [format!("dir:{store}"), format!("dir:{store}/refs"), format!("tar:{}", image.display())]
    {
        import(&world, BOB, &[&source, "app:1"]).fails(1, &["Permission denied"]);
    }
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    assert_eq!(world.files("store"), NOTHING);
    // Root reads what is root's own, and keeps owners as they are.
    let mine = world.path("etc/mine");
    std::fs::create_dir_all(mine.join("closed")).unwrap();
    std::fs::write(mine.join("closed/x"), "x").unwrap();
    std::fs::write(mine.join("of-alice"), "x").unwrap();
    chown(mine.join("of-alice"), Some(ALICE), Some(ALICE)).unwrap();
    for closed in ["closed/x", "closed", ""] {
        std::fs::set_permissions(mine.join(closed), PermissionsExt::from_mode(0o700)).unwrap();
    }
    let source = format!("dir:{}", mine.display());
    let said = json(&world.tool(0, &["import", "--json", &source, "docker:mine:1"]).ok());
    assert_eq!(
        (&said["image"], &said["private"]),
        (&"docker:docker.io/library/mine:1".into(), &false.into())
    );
    let shown = world.in_image(&world.image(), "stat -c '%u %a' $1/of-alice $1/closed/x");
    assert_eq!(shown, format!("{ALICE} 644\n0 700\n"));
    world.tool(BOB, &["lookup", "mine:1"]).ok();
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_users_names_are_the_users_own() {
    let (fake, world) = site();
    layout(&world, &fake);
    alice(&world, "chmod 755 .; chmod -R a+rX oci");
    let name = format!("user:{ALICE}/app:1");
    import(&world, ALICE, &["oci:oci", "app:1"]).ok();
    // Alone at first: bob neither sees it nor can use it, nor take its place.
    let digest = world.tool(ALICE, &["lookup", &name]).ok().out();
    assert_eq!(world.tool(ALICE, &["images", "-q"]).ok().out().trim(), name);
    assert_eq!(world.tool(BOB, &["images", "-q"]).ok().out(), "");
    world.tool(BOB, &["lookup", &name]).fails(1, &["no such image"]);
    import(&world, BOB, &["oci:oci", &name])
        .fails(1, &["cannot name an image so", &format!("user:{BOB}/NAME:TAG")]);
    import(&world, BOB, &["oci:oci", "docker:debian:12"])
        .fails(1, &["only administrators", "leave docker: out"]);
    world.tool(BOB, &["rm", &name]).fails(1, &["no such image"]);
    // One name means one thing.
    import(&world, ALICE, &["--public", "oci:oci", "app:1"])
        .fails(1, &["for you alone", "shifterimg rm"]);
    world.tool(ALICE, &["rm", &name]).ok();
    import(&world, ALICE, &["--public", "oci:oci", "app:1"]).ok();
    import(&world, ALICE, &["oci:oci", "app:1"]).fails(1, &["for everybody", "--public"]);
    assert_eq!(world.tool(BOB, &["lookup", &name]).ok().out(), digest);
    world.tool(BOB, &["rm", &name]).fails(1, &["not by you"]);
    // What no job could use is not imported.
    let file = world.path("etc/shifter/shifter.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[images]\ntypes = [\"docker\", \"id\"]\n")).unwrap();
    import(&world, ALICE, &["oci:oci", "app:2"]).fails(1, &["does not allow images of this kind"]);
    std::fs::write(&file, text).unwrap();
    // A login that changed hands gives no right to what its first owner left.
    let text = std::fs::read_dir(world.path(&format!("store/refs/user/{ALICE}/app"))).unwrap();
    for entry in text.map(|e| e.unwrap().path()) {
        let old = std::fs::read_to_string(&entry).unwrap();
        let new = old.replace(&format!("\"uid\":{ALICE}"), "\"uid\":4242");
        assert_ne!(old, new);
        std::fs::write(&entry, new).unwrap();
    }
    import(&world, ALICE, &["--public", "oci:oci", "app:1"]).fails(1, &["belongs to uid 4242"]);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn who_has_but_the_manifest_of_somebodys_image_gets_nothing() {
    let (fake, world) = site();
    layout(&world, &fake);
    alice(&world, "chmod 755 .; chmod -R a+rX oci");
    import(&world, ALICE, &["oci:oci", "app:1"]).ok();
    // Bob knows manifest and configuration, but not what is in the layers.
    alice(&world, r#"cp -r oci less; cd less/blobs/sha256; rm "$(ls -S | head -n 1)""#);
    import(&world, BOB, &["oci:less", "app:1"]).fails(1, &["it has no blobs/sha256/", "hint: "]);
    let cat = |uid| {
        let image = world.image();
        Done(world.command(uid, &[], &["cat", image.to_str().unwrap()]).output().unwrap())
    };
    cat(BOB).fails(1, &["Permission denied"]);
    assert_eq!(world.tool(BOB, &["images", "-q"]).ok().out(), "");
    // With all of it he has it anyway, and then it is one file for both.
    let said = json(&import(&world, BOB, &["--json", "oci:oci", "app:1"]).ok());
    assert_eq!(said["private"], true);
    cat(BOB).ok();
    cat(ALICE).ok();
}

#[test]
#[ignore = "needs root: it becomes users"]
fn what_is_broken_is_told_and_leaves_nothing() {
    let (fake, world) = site();
    layout(&world, &fake);
    alice(
        &world,
        r#"
        tar -C oci -cf app.oci .; skopeo copy -q oci:oci:1 docker-archive:app.tar:app:1
        layer=$(ls -S oci/blobs/sha256 | head -n 1)
        head -c 500000 app.tar >short.tar; gzip -c app.tar | head -c 300000 >short.tgz
        cp -r oci flipped; printf X | dd of=flipped/blobs/sha256/$layer bs=1 seek=5000 conv=notrunc status=none
        mkdir f; cd f; tar xf ../app.tar; l=$(jq -r '.[0].Layers[0]' manifest.json)
        chmod u+w "$l"; printf X | dd of="$l" bs=1 seek=600 conv=notrunc status=none; tar cf ../flipped.tar *; cd ..
        mkdir up; echo x >up/x; tar -cf up.tar --transform 's,^,../../,' -P up/x; xz -k up.tar
        head -c 100000 /dev/urandom >noise; mkdir none; : >empty
        tar -C oci -cf nolist.tar blobs; mkdir two; cp -r oci/* two
        jq '.manifests += [.manifests[0] | .annotations["org.opencontainers.image.ref.name"] = "2"]' oci/index.json >two/index.json"#,
    );
    for (source, words) in [
        ("docker-archive:short.tar", &["short.tar", "the archive ends in the middle of it"][..]),
        ("docker-archive:short.tgz", &["short.tgz is no archive of an image"]),
        ("docker-archive:noise", &["noise is no archive of an image"]),
        ("docker-archive:empty", &["it has no manifest.json"]),
        ("docker-archive:app.oci", &["it has no manifest.json", "oci-archive:"]),
        ("docker-archive:flipped.tar", &["layer ", "not what the image's configuration says"]),
        ("docker-archive:nothing.tar", &["nothing.tar cannot be opened: No such file"]),
        ("docker-archive:oci", &["oci is not a plain file", "oci:"]),
        ("oci:flipped", &["it has something else than sha256:"]),
        ("oci:none", &["it has no index.json"]),
        ("oci:noise", &["Not a directory"]),
        ("oci:oci:2", &["there is no image 2 in it", "it has: 1"]),
        ("oci:two", &["several images", "say which one, after a colon: 1, 2"]),
        ("oci-archive:nolist.tar", &["it has no index.json", "docker-archive:"]),
        ("tar:noise", &["noise: the archive is broken"]),
        ("tar:up.tar", &["leads out of the image"]),
        ("tar:short.tgz", &["short.tgz: "]),
        ("tar:-", &["tar:-: there is nothing in it"]),
        ("dir:none", &["dir:none: there is nothing in it"]),
        ("tar:up.tar.xz", &["is compressed with xz", "xz -d"]),
        ("dir:noise", &["Not a directory"]),
        ("app.tar", &["what kind of source", "docker-archive:"]),
    ] {
        let done = import(&world, ALICE, &[source, "app:1"]).fails(1, words);
        assert!(done.err().contains("hint: "), "{source}: {}", done.err());
        assert_eq!(world.files("store"), NOTHING, "{source}");
    }
    import(&world, ALICE, &["--platform", "linux/arm64", "oci:oci", "app:1"])
        .fails(1, &["for linux/amd64, not for linux/arm64"]);
    import(&world, ALICE, &["oci:oci"]).fails(2, &["NAME"]);
    import(&world, ALICE, &["oci:two:2", "app:1"]).ok();
}

#[test]
#[ignore = "needs root: it becomes users"]
fn the_reader_has_the_callers_rights_only_and_root_becomes_nobody() {
    let (_fake, world) = site();
    std::fs::create_dir(world.path("etc/tree")).unwrap();
    Command::new("mkfifo").arg(world.path("etc/pipe")).status().unwrap();
    let tool = world.path("shifterimg");
    // The reader of a tree of root's may read it, and nothing else: capability 2 is to read files.
    for (uid, source, as_whom, capabilities) in
        [(ALICE, "tar:-", ALICE, "0"), (0, "tar:-", 65534, "0"), (0, "dir:etc/tree", 65534, "4")]
    {
        let script = format!(
            "cd {}; exec {} import {source} app:1",
            world.path("").display(),
            tool.display()
        );
        if source.starts_with("dir") {
            // As many files as it takes to be seen.
            for n in 0..20_000 {
                std::fs::write(world.path(&format!("etc/tree/{n}")), n.to_string()).unwrap();
            }
        }
        let mut child =
            world.command(uid, &[], &["sh", "-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        let start = std::time::Instant::now();
        let (reader, status) = loop {
            let found = readers(&tool).into_iter().find(|(_, status)| {
                field(status, "Uid") == format!("{as_whom} {as_whom} {as_whom} {as_whom}")
                    && field(status, "NoNewPrivs") == "1"
                    && (as_whom != 65534
                        || field(status, "CapEff").trim_start_matches('0').len() <= 1)
            });
            if let Some(found) = found {
                break found;
            }
            assert!(start.elapsed().as_secs() < 30, "{source}: no such process");
        };
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{source} {set}");
        }
        for set in ["CapPrm", "CapEff"] {
            let left = format!("{:0>16}", capabilities);
            assert_eq!(field(&status, set), left, "{source} {set}");
        }
        drop(reader);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

/// Processes of the tool, and what the kernel says of them.
fn readers(tool: &std::path::Path) -> Vec<(PathBuf, String)> {
    let all = std::fs::read_dir("/proc").unwrap().map(|e| e.unwrap().path());
    let ours = all.filter(|p| {
        let line = std::fs::read(p.join("cmdline")).unwrap_or_default();
        line.starts_with(tool.as_os_str().as_encoded_bytes())
    });
    ours.filter_map(|p| std::fs::read_to_string(p.join("status")).ok().map(|status| (p, status)))
        .collect()
}

fn field(status: &str, key: &str) -> String {
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).unwrap_or("");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
#[ignore = "needs root: it becomes users"]
fn two_imports_of_one_tree_at_once_are_one_image() {
    let (_fake, world) = site();
    alice(
        &world,
        "mkdir root; seq 100000 >root/a; for i in $(seq 300); do echo $i >root/$i; done; chmod 755 . root",
    );
    let (tool, home) = (world.path("shifterimg"), world.path("alice"));
    let children: Vec<_> = (0..4)
        .map(|n| {
            let script = format!(
                "cd {}; exec {} import --json dir:root app:{n}",
                home.display(),
                tool.display()
            );
            let mut command = world.command(ALICE, &[], &["sh", "-c", &script]);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let said: Vec<_> =
        children.into_iter().map(|c| json(&Done(c.wait_with_output().unwrap()).ok())).collect();
    assert!(said.iter().all(|one| one["digest"] == said[0]["digest"]));
    assert_eq!(said.iter().filter(|one| one["new"] == true).count(), 1);
    world.image();
    assert_eq!(world.files("store/tmp"), NOTHING);
    assert_eq!(world.files("store/leases"), NOTHING);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn an_import_that_is_stopped_leaves_nothing() {
    let (_fake, world) = site();
    let (tool, home) = (world.path("shifterimg"), world.path("alice"));
    let script = r#"cd "$1"; exec "$0" import tar:- app:1"#;
    let words = ["sh", "-c", script, tool.to_str().unwrap(), home.to_str().unwrap()];
    let mut child = world.command(ALICE, &[], &words).stdin(Stdio::piped()).spawn().unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1 << 30);
    header.set_mode(0o644);
    header.set_path("big").unwrap();
    header.set_cksum();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(header.as_bytes()).unwrap();
    stdin.write_all(&[1; 1 << 20]).unwrap();
    let start = std::time::Instant::now();
    while world.files("store/tmp").is_empty() {
        assert!(start.elapsed().as_secs() < 30, "it never began");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(world.files("store"), NOTHING);
}
