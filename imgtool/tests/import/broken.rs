//! Sources that are broken, and imports that are stopped.

use super::*;

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

fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().fold(String::new(), |text, b| format!("{text}{b:02x}"));
    format!("sha256:{hex}")
}

/// `alice/bad`: an OCI layout of one layer, which unpacks to `plain`, as it says of itself.
fn layout_of(world: &World, layer: &[u8], plain: &[u8]) {
    let dir = world.path("alice/bad");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let keep = |bytes: &[u8]| {
        let digest = digest(bytes);
        std::fs::write(dir.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        serde_json::json!({ "digest": digest, "size": bytes.len() })
    };
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": [digest(plain)] },
    });
    let config = keep(config.to_string().as_bytes());
    let manifest =
        serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [keep(layer)] });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [keep(manifest.to_string().as_bytes())] });
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    own(dir);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_layer_that_is_what_its_digest_says_and_no_good_all_the_same_is_named() {
    let (fake, world) = site();
    let mut plain = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&fake.image.layer[..]);
    std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
    let gzip = &fake.image.layer[..];
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let noise = plain[4096..8192].to_vec();
    for (layer, unpacked, words) in [
        (gzip[..gzip.len() / 2].to_vec(), &plain, "cannot be decompressed"),
        // Its checksum.
        (flipped(gzip, gzip.len() - 8), &plain, "cannot be decompressed"),
        (zstd[..zstd.len() / 2].to_vec(), &plain, "cannot be decompressed"),
        (flipped(&zstd, zstd.len() / 2), &plain, "not what the image's configuration says"),
        (plain[..700].to_vec(), &plain, ""),
        (flipped(&plain, 600), &plain, "not what the image's configuration says"),
        (gzip.to_vec(), &noise, "not what the image's configuration says"),
        (noise.clone(), &noise, "the archive is broken"),
    ] {
        layout_of(&world, &layer, unpacked);
        let named = format!("layer {}", &digest(&layer)["sha256:".len()..][..12]);
        let done =
            import(&world, ALICE, &["oci:bad", "app:1"]).fails(1, &[&named, words, "hint: "]);
        assert!(!done.err().contains("panicked"), "{}", done.err());
        assert_eq!(world.files("store"), NOTHING, "{words}");
    }
    layout_of(&world, &zstd, &plain);
    import(&world, ALICE, &["oci:bad", "app:1"]).ok();
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

/// An archive with one entry of `size` bytes, of which none are there: all is a hole.
fn hole(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("holes").unwrap();
    header.set_mode(0o644);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    let number = |field: &mut [u8; 12], number: u64| {
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    };
    number(&mut gnu.realsize, size);
    number(&mut gnu.sparse[0].offset, size);
    number(&mut gnu.sparse[0].numbytes, 0);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.resize(2048, 0);
    archive
}

#[test]
#[ignore = "needs root: it becomes users"]
fn what_is_larger_than_any_image_is_refused_and_leaves_nothing() {
    let (_fake, world) = site();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(world.path(&format!("alice/{name}")), bytes).unwrap();
        own(world.path(&format!("alice/{name}")));
    };
    write("holes.tar", &hole((16 << 40) + 1));
    let mut deep = tar::Builder::new(Vec::new());
    let path = "d/".repeat(1002);
    deep.append_pax_extensions([("path", path.as_bytes())]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_path("d").unwrap();
    header.set_mode(0o755);
    header.set_size(0);
    header.set_cksum();
    deep.append(&header, std::io::empty()).unwrap();
    write("deep.tar", &deep.into_inner().unwrap());
    for (source, words) in [
        ("tar:holes.tar", &["the image has more than 16 TiB of files", "into a volume"][..]),
        ("tar:deep.tar", &["deep.tar: d/d/", "its path is too deep"]),
    ] {
        let done = import(&world, ALICE, &[source, "app:1"]).fails(1, words);
        assert!(done.err().contains("hint: "), "{source}: {}", done.err());
        assert_eq!(world.files("store"), NOTHING, "{source}");
    }
    // A terabyte of nothing is fine.
    write("holes.tar", &hole(1 << 40));
    import(&world, ALICE, &["tar:holes.tar", "app:1"]).ok();
    let shown = world
        .in_image(&world.image(), "stat -c '%s %b' $1/holes; tail -c 4 $1/holes | od -An -tx1");
    assert_eq!(shown, "1099511627776 0\n 00 00 00 00\n");
}
