//! Who may read what, and name what.

use super::*;

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

#[test]
#[ignore = "needs root: it becomes users"]
fn whoever_parses_a_users_file_can_open_nothing_else() {
    let (fake, world) = site();
    layout(&world, &fake);
    alice(
        &world,
        "mkdir root; echo x >root/x; tar -cf a.tar root; tar -C oci -cf app.oci .
        mksquashfs root a.squashfs -quiet -no-progress >/dev/null; chmod 755 .",
    );
    for source in ["tar:a.tar", "squashfs:a.squashfs", "oci-archive:app.oci", "oci:oci", "dir:root"]
    {
        let (tool, home) = (world.path("shifterimg"), world.path("alice"));
        let script = r#"cd "$1"; exec "$0" import "$2" app:1"#;
        let words = ["sh", "-c", script, tool.to_str().unwrap(), home.to_str().unwrap(), source];
        let calls = tempfile::tempdir().unwrap();
        let mut traced = Command::new("strace");
        // A file for each thread.
        traced.args(["-qq", "-ff", "-e", "trace=landlock_restrict_self,open,openat,execve", "-o"]);
        let command = world.command(ALICE, &[], &words);
        traced.arg(calls.path().join("of")).arg(command.get_program()).args(command.get_args());
        Done(traced.output().expect("strace is needed: apt-get install strace")).ok();
        let calls = std::fs::read_dir(calls.path()).unwrap();
        let calls = calls.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let calls = calls.filter(|calls| calls.contains("landlock_restrict_self("));
        let calls: Vec<String> = calls.collect();
        // The reader, and the writer.
        assert_eq!(calls.len(), 2, "{source}");
        for calls in calls {
            let (_, after) = calls.split_once("landlock_restrict_self(").unwrap();
            let (mut after, store) = (after.lines(), world.path("store"));
            assert!(after.next().unwrap().ends_with("= 0"), "{source}: {calls}");
            let ours = [format!("\"{}", store.display()), "\"/proc".to_owned()];
            for line in after {
                assert!(!line.starts_with("execve("), "{source}: {line}");
                // By path: not below a directory that it has open already.
                let opened = line.contains("(AT_FDCWD, ") && !line.contains("= -1 ");
                assert!(!opened || ours.iter().any(|path| line.contains(path)), "{source}: {line}");
            }
        }
        world.tool(ALICE, &["rm", &format!("user:{ALICE}/app:1")]).ok();
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
