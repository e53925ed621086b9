//! Stages one image again and again and prints what each part took: for testbed/bench, which
//! compares it with the floor program.
//!
//! `stage --image FILE [--repeat N] [--ranks N]`, as root. Everything happens in a mount
//! namespace of its own. Prints JSON: microseconds of staging with a cold and with a warm
//! image mount, of entering, and how many binds the plan has.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use udi::{Ask, Base, Config, Digest, Error, Facts, Plan, Request, Result, Texts, User};
use udi_mount::{Ids, ImageFile, JobKey, Node, Udi};

struct Options {
    image: String,
    repeat: u32,
    ranks: u32,
}

fn options() -> Result<Options> {
    let mut options = Options { image: String::new(), repeat: 50, ranks: 4 };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_default();
        let number = value.parse().unwrap_or(1);
        match name.as_str() {
            "--image" => options.image = value,
            "--repeat" => options.repeat = number,
            "--ranks" => options.ranks = number,
            other => return Err(Error::user(format!("{other}: unknown option"))),
        }
    }
    Ok(options)
}

fn main() -> std::process::ExitCode {
    match options().and_then(|options| measure(&options)) {
        Ok(json) => {
            println!("{json}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<String> {
    let base = "/run/shifter-bench";
    let node = Node::prepare(base)?;
    let site = Config::parse("[store]\npath = \"/x\"", Path::new("bench"))?;
    let Ask::Image(request) = Request::parse(&Texts::of("bench:1", "", ""), &site)? else {
        return Err(Error::bug("no request"));
    };
    let image = Base::Store(Digest::from_bytes(&[0; 32]));
    let facts = Facts { image, user: nobody(), variables: BTreeMap::new() };
    let plan = Plan::make(&request, &site, &facts)?;
    let binds = plan.mounts.iter().filter(|m| !m.flags.optional || exists(&m.source)).count();
    let stage = |id: u32| {
        let file = std::fs::File::open(&options.image)
            .map_err(|e| Error::user(format!("cannot open {}", options.image)).because(e))?;
        let image = ImageFile { fd: file.into(), name: "bench".into(), kind: "squashfs".into() };
        let run = id.to_string();
        let ids = Ids { uid: 65534, gid: 65534, groups: vec![] };
        let key = JobKey { id, run, identity: String::new(), of_job: true, ids };
        let plan = plan.clone();
        let start = Instant::now();
        let udi = node.stage(&key, &site, plan.mounts.clone(), || Ok((plan, image.into())))?;
        Ok::<_, Error>((udi, start.elapsed().as_micros()))
    };
    let (mut cold, mut warm, mut enter) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.repeat {
        let (udi, took) = stage(2 * round)?;
        cold.push(took);
        let (other, took) = stage(2 * round + 1)?;
        warm.push(took);
        for _ in 0..options.ranks {
            enter.push(entering(&udi)?);
        }
        drop((udi, other));
        node.drop_job(2 * round, 0, 0)?;
        node.drop_job(2 * round + 1, 0, 0)?;
        wait_until_free(&options.image);
    }
    for pin in ["images.ns", ""] {
        let _ = std::process::Command::new("/bin/umount").arg(format!("{base}/{pin}")).status();
    }
    let _ = std::fs::remove_dir(base);
    Ok(format!(
        "{{\"binds\": {binds}, \"stage_cold_us\": {cold:?}, \"stage_warm_us\": {warm:?}, \
         \"enter_us\": {enter:?}}}"
    ))
}

/// The kernel takes a loop device back a moment after its last user; without the wait the next
/// round would pay for that, and the floor program's does not.
fn wait_until_free(image: &str) {
    let held = || {
        let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
        devices
            .map(|device| device.path().join("loop/backing_file"))
            .any(|file| std::fs::read_to_string(file).is_ok_and(|path| path.trim_end() == image))
    };
    for _ in 0..5000 {
        if !held() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn exists(source: &udi::Source) -> bool {
    !matches!(source, udi::Source::Host(path) if !path.exists())
}

/// One rank: a process of one thread, as Slurm forks them. Entering cannot be undone, so the
/// child reports by its exit and a pipe.
#[allow(unsafe_code)]
fn entering(udi: &Udi) -> Result<f64> {
    let (reader, writer) =
        std::io::pipe().map_err(|e| Error::admin("cannot make a pipe").because(e))?;
    // SAFETY: this program has one thread here, and the child only enters, writes and exits.
    match unsafe { libc::fork() } {
        0 => {
            let start = Instant::now();
            let entered = udi.enter().is_ok();
            let took = if entered { start.elapsed().as_nanos() as u64 } else { u64::MAX };
            let _ = std::io::Write::write_all(&mut &writer, &took.to_ne_bytes());
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        child => {
            drop(writer);
            let mut bytes = [0u8; 8];
            let read = std::io::Read::read_exact(&mut &reader, &mut bytes);
            // SAFETY: waits for the child just made.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            read.map_err(|e| Error::bug("the child said nothing").because(e))?;
            match u64::from_ne_bytes(bytes) {
                u64::MAX => Err(Error::bug("a rank could not enter")),
                nanoseconds => Ok(nanoseconds as f64 / 1000.0),
            }
        }
    }
}

fn nobody() -> User {
    User {
        uid: 65534,
        gid: 65534,
        groups: vec![],
        login: "nobody".into(),
        gecos: String::new(),
        home: "/".into(),
        shell: "/bin/sh".into(),
        group_names: vec![],
        others: vec![],
    }
}
