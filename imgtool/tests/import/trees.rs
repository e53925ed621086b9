//! Root file systems: directories, archives, squashfs files.

use super::*;

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
fn owners_are_the_images_or_all_roots_as_the_site_wants() {
    let (_fake, world) = site();
    root(
        &world,
        r#"mkdir tree tree/games; cd tree; echo x >data; cp data games/chess; cp data sudo; ln games/chess same
        chown 3000000000:70000 data; chown 5:60 games games/chess; chmod 6755 games/chess sudo; chmod 640 data
        tar -cf ../a.tar .; chmod 644 ../a.tar"#,
    );
    let name = format!("user:{ALICE}/app:1");
    let list = r"cd $1; find . -mindepth 1 -path ./.shifter -prune -o -mindepth 1 -printf '%P %U:%G %m %n\n' | sort";
    let kept = ["data 3000000000:70000 640 1", "games 5:60 755 2", "games/chess 5:60 6755 2"];
    let squashed = ["data 0:0 640 1", "games 0:0 755 2", "games/chess 0:0 755 2"];
    let mut digests = Vec::new();
    for (owners, expected, same) in
        [("keep", kept, "same 5:60 6755 2"), ("root", squashed, "same 0:0 755 2")]
    {
        world.configure(&format!("[images]\nowners = \"{owners}\"\n"));
        let done = import(&world, ALICE, &["--json", "tar:a.tar", "app:1"]).ok();
        let shown = world.in_image(&world.image(), list);
        let shown: Vec<&str> = shown.lines().collect();
        assert_eq!(shown, [&expected[..], &[same, "sudo 0:0 6755 1"]].concat(), "{owners}");
        digests.push(json(&done)["digest"].clone());
        world.tool(ALICE, &["rm", &name]).ok();
    }
    // As of a pull it is the digest of what came.
    assert_eq!(digests[0], digests[1]);
}

/// What is in the image of attributes and devices.
fn extras(world: &World) -> String {
    world.in_image(
        &world.image(),
        r#"cd $1; exec python3 -c '
import os
at = {"follow_symlinks": False}
def keys(name):
    try: return os.listxattr(name, **at)
    except OSError: return []
for name in [".", "dir", "file", "link", "none"]:
    print(name, {key: os.getxattr(name, key, **at) for key in keys(name)})
print([(name, os.major(os.stat(name).st_rdev), os.minor(os.stat(name).st_rdev)) for name in ("block", "null") if os.path.exists(name)])'"#,
    )
}

#[test]
#[ignore = "needs root: it becomes users"]
fn attributes_of_users_and_device_nodes_are_kept_where_the_site_wants_them() {
    let (_fake, world) = site();
    alice(
        &world,
        r#"mkdir -p root/dir; cd root; echo x >file; ln file same; echo y >none; ln -s file link"#,
    );
    let script = r#"mknod null c 1 3; mknod block b 8 300; chmod 666 null block; python3 -c '
import os
os.setxattr(".", "user.top", b"1")
os.setxattr("dir", "user.b", b"two\nlines\n\n")
os.setxattr("dir", "user.a", b"")
for name in ("security.capability", "trusted.secret"):
    os.setxattr("file", name, bytes.fromhex("0100000200040000000000000000000000000000"))
os.setxattr("file", "user.large", b"l" * 3000)
os.setxattr("link", "trusted.secret", b"no", follow_symlinks=False)'"#;
    root(&world, &format!("cd root; {script}"));
    let tar = "tar --xattrs --xattrs-include='*' --format=pax --sort=name -C root -cf a.tar .";
    root(&world, tar);
    world.mode("alice/a.tar", 0o644);

    let remove = || drop(world.tool(ALICE, &["rm", &format!("user:{ALICE}/app:1")]).ok());
    let mut digests = Vec::new();
    let keep = "xattrs = \"keep\"\ndevices = \"keep\"\n";
    let nothing = ". {}\ndir {}\nfile {}\nlink {}\nnone {}\n[]\n";
    let all = format!(
        ". {{'user.top': b'1'}}\ndir {{'user.a': b'', 'user.b': b'two\\nlines\\n\\n'}}\n\
         file {{'user.large': b'{}'}}\nlink {{}}\nnone {{}}\n[('block', 8, 300), ('null', 1, 3)]\n",
        "l".repeat(3000)
    );
    for (images, expected) in [("", nothing), (keep, &all)] {
        world.configure(&format!("[images]\n{images}"));
        let mut bytes = Vec::new();
        for source in ["dir:root", "tar:a.tar"] {
            let done = import(&world, ALICE, &["--json", source, "app:1"]).ok();
            assert_eq!(done.err().contains("left out 2 device nodes"), images.is_empty());
            assert_eq!(extras(&world), expected, "{source}");
            digests.push(json(&done)["digest"].clone());
            bytes.push(world.image());
            remove();
        }
        // File names are digests.
        assert_eq!(bytes[0], bytes[1]);
    }
    assert_eq!((&digests[0], &digests[2]), (&digests[1], &digests[3]));
    assert_ne!(digests[0], digests[2]);
    // As a layer.
    alice(
        &world,
        r#"printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $(sha256sum <a.tar | cut -c-64) >c.json
        echo '[{"Config":"c.json","RepoTags":null,"Layers":["a.tar"]}]' >manifest.json; tar -cf app.tar manifest.json c.json a.tar"#,
    );
    import(&world, ALICE, &["docker-archive:app.tar", "app:1"]).ok();
    assert_eq!(extras(&world), all);
    remove();
    // Nodes mount images without devices: nobody can open them.
    import(&world, ALICE, &["tar:a.tar", "app:1"]).ok();
    let shown = world.in_image(
        &world.image(),
        "mount -o remount,bind,nodev,nosuid $1 2>/dev/null || mount -o remount,nodev $1; cat $1/null 2>&1 || true; cat $1/same",
    );
    assert!(shown.contains("Permission denied") && shown.ends_with("x\n"), "{shown}");
}
