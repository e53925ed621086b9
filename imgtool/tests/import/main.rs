//! Importing from files and directories: `cargo test -p imgtool --test import -- --ignored` as
//! root, with skopeo, mksquashfs and strace.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod archives;
mod broken;
mod rights;
mod trees;
#[path = "../world/mod.rs"]
mod world;

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use world::fake::Fake;
use world::{ALICE, BOB, Done, World, json, root, site};

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
