//! How much memory an image of a million files takes, and one of large layers:
//! `cargo test -p imgtool --test memory -- --ignored` as root.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use world::{ALICE, Done, World, site};

/// Files of a directory.
const TOGETHER: u32 = 100;

/// An archive of so many small files, all different, as distributions name and date them.
fn archive(files: u32, to: impl Write) -> std::io::Result<()> {
    let mut to = BufWriter::with_capacity(1 << 20, to);
    let mut header = tar::Header::new_ustar();
    for n in 0..files {
        let directory = format!("usr/lib/python3/dist-packages/package-{}", n / TOGETHER);
        if n % TOGETHER == 0 {
            entry(&mut to, &mut header, &format!("{directory}/"), n, None)?;
        }
        let name = format!("{directory}/module_{n}.py");
        entry(&mut to, &mut header, &name, n, Some(&format!("number = {n}\n")))?;
    }
    to.write_all(&[0; 1024])
}

fn entry(
    to: &mut impl Write,
    header: &mut tar::Header,
    name: &str,
    n: u32,
    contents: Option<&str>,
) -> std::io::Result<()> {
    let old = header.as_old_mut();
    old.name = [0; 100];
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    let kind = if contents.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory };
    header.set_entry_type(kind);
    header.set_mode(if contents.is_some() { 0o644 } else { 0o755 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000 + u64::from(n % 50_000));
    let contents = contents.unwrap_or("").as_bytes();
    header.set_size(contents.len() as u64);
    header.set_cksum();
    to.write_all(header.as_bytes())?;
    if contents.is_empty() {
        return Ok(());
    }
    let mut block = [0; 512];
    block[..contents.len()].copy_from_slice(contents);
    to.write_all(&block)
}

/// Of each process that runs `program`, how much memory it had at most, in KiB.
fn peaks(program: &std::path::Path, peaks: &mut BTreeMap<i32, u64>) {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let runs = std::fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == program);
        let Ok(status) = std::fs::read_to_string(process.path().join("status")) else { continue };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let (true, Some(peak)) = (runs, peak) {
            let peak = peak.trim().trim_end_matches(" kB").parse().unwrap();
            peaks.insert(pid, peak);
        }
    }
}

/// Imports an archive that `write` writes; gives the peaks of all processes together, in KiB.
fn import(
    world: &World,
    write: impl FnOnce(ChildStdin) -> std::io::Result<()> + Send + 'static,
) -> u64 {
    let tool = world.path("shifterimg");
    let words = [tool.to_str().unwrap(), "import", "-q", "tar:-", "app:1"];
    let mut command = world.command(ALICE, &[], &words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let sent = std::thread::spawn(move || write(stdin));
    let mut seen = BTreeMap::new();
    while child.try_wait().unwrap().is_none() {
        peaks(&tool, &mut seen);
        std::thread::sleep(Duration::from_millis(50));
    }
    Done(child.wait_with_output().unwrap()).ok();
    sent.join().unwrap().unwrap();
    // One reads, one writes; somebody else's process would make the test worthless.
    assert!(seen.len() >= 2, "{seen:?}");
    seen.values().sum()
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_million_files_take_no_more_than_256_mib_in_both_processes_together() {
    let (_fake, world) = site();
    let some = import(&world, |to| archive(250_000, to));
    world.tool(ALICE, &["rm", &format!("user:{ALICE}/app:1")]).ok();
    let all = import(&world, |to| archive(1_000_000, to));
    assert!(all > 32 << 10 && all <= 256 << 10, "{all} KiB");
    let each = all.saturating_sub(some) * 1024 / 750_000;
    assert!(each <= 150, "{each} bytes for each more: {some} KiB, {all} KiB");
    let shown = world.in_image(
        &world.image(),
        "cd $1/usr/lib/python3/dist-packages; ls | wc -l; cat package-9999/module_999999.py",
    );
    assert_eq!(shown, "10000\nnumber = 999999\n");
}

#[test]
#[ignore = "needs root: it becomes users"]
fn the_size_of_a_layer_takes_no_memory() {
    const SIZE: u64 = 1 << 29;
    let (_fake, world) = site();
    let peak = import(&world, |mut to| {
        let mut header = tar::Header::new_ustar();
        header.set_path("large").unwrap();
        header.set_mode(0o644);
        header.set_size(SIZE);
        header.set_cksum();
        to.write_all(header.as_bytes())?;
        // No block like another, and nothing that compresses to nothing.
        let mut piece: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        for n in 0..SIZE >> 20 {
            piece.chunks_mut(4096).for_each(|page| page[..8].copy_from_slice(&n.to_le_bytes()));
            to.write_all(&piece)?;
        }
        to.write_all(&[0; 1024])
    });
    assert!(peak <= 128 << 10, "{peak} KiB");
    assert_eq!(world.in_image(&world.image(), "stat -c %s $1/large"), format!("{SIZE}\n"));
}
