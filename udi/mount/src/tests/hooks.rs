//! The site's programs around staging.

use std::fs;
use std::sync::Mutex;

use udi::{Blame, Result};

use super::world::*;
use crate::Udi;

/// What the node's log was told, by all tests of this file.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log(line: &str) {
    LOG.lock().unwrap().push(line.to_owned());
}

fn logged(text: &str) -> bool {
    LOG.lock().unwrap().iter().any(|line| line.contains(text))
}

/// A job with hooks that are scripts of root's.
struct Hooks<'a> {
    world: &'a World,
    site: String,
}

impl<'a> Hooks<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, site: String::new() }
    }

    fn with(mut self, when: &str, name: &str, script: &str) -> Self {
        let path = self.world.file(name, &format!("#!/bin/sh\n{script}\n"));
        self.world.own(name, 0, 0o755);
        self.site +=
            &format!("[[hooks.{when}]]\ncommand = [\"{path}\", \"one word\"]\ntimeout = 1\n");
        self
    }

    fn stage(&self, id: u32) -> Result<Udi> {
        let image = Image::plain();
        self.world.stage_logging(Job { id, site: &self.site, ..Job::new(&image) }, log)
    }
}

#[test]
#[ignore = "needs root"]
fn hooks_run_once_for_a_udi_as_root_with_a_clean_environment() {
    on_a_node(|world| {
        let out = world.at("out");
        let tell = format!(
            "(echo \"$0 $1 $#\"; id -u; pwd; tr '\\0' '\\n' </proc/$$/environ | sort; ls /proc/self/fd; cat) >>{out}"
        );
        let hooks = Hooks::new(world).with("before", "first", &tell).with(
            "after",
            "second",
            &format!("echo after >>{out}; echo said"),
        );
        // A descriptor that a program would inherit.
        let open = fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
        let first = hooks.stage(41).unwrap();
        assert!(first.is_pinned());
        hooks.stage(41).unwrap();
        let said = fs::read_to_string(&out).unwrap();
        let script = world.at("first");
        let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        let expected = format!(
            "{script} one word 1\n0\n/\n{path}\nSHIFTER_GID=1001\nSHIFTER_IMAGE={}\n\
             SHIFTER_JOB_ID=41\nSHIFTER_UID=1001\nSHIFTER_USER=alice\n0\n1\n2\n3\nafter\n",
            udi::Digest::from_bytes(&[7; 32])
        );
        assert_eq!(said, expected);
        assert!(logged(&format!("hook {}: said", world.at("second"))));
    });
}

#[test]
#[ignore = "needs root"]
fn a_hook_that_fails_or_hangs_fails_the_job_and_leaves_nothing() {
    on_a_node(|world| {
        let late = world.at("late");
        for (script, words) in [
            ("echo broken; exit 3", "failed with exit 3"),
            ("kill -9 $$", "was killed by signal 9"),
            (&*format!("(sleep 2; touch {late}) & sleep 5"), "did not end within 1 seconds"),
            ("while :; do echo y; done", "did not end within 1 seconds"),
            // There is always something to read.
            ("yes & yes & yes", "did not end within 1 seconds"),
        ] {
            for when in ["before", "after"] {
                let hooks = Hooks::new(world).with(when, "bad", script);
                let error = hooks.stage(1).unwrap_err();
                assert_eq!(error.blame(), Blame::Admin);
                let named = format!("the site's hook {} {words}", world.at("bad"));
                assert!(error.what().contains(&named), "{error}");
            }
        }
        assert!(logged("bad: broken"));
        assert!(LOG.lock().unwrap().len() < 20_000, "what a hook prints is bounded");
        // The next job is none the worse for it, and what a hook left running is gone.
        Hooks::new(world).with("before", "bad", "exit 0").stage(1).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert!(!fs::exists(late).unwrap());
    });
}

#[test]
#[ignore = "needs root"]
fn a_hook_that_others_than_root_could_have_written_is_not_run() {
    on_a_node(|world| {
        let ran = world.at("ran");
        let hooks = || Hooks::new(world).with("before", "scratch/hook", &format!("touch {ran}"));
        let refused = |hooks: Hooks<'_>, words: &str| {
            let error = hooks.stage(1).unwrap_err();
            assert!(error.blame() == Blame::Admin && error.to_string().contains(words), "{error}");
            assert!(!fs::exists(&ran).unwrap());
        };
        let (it, hook) = (hooks(), "scratch/hook");
        world.own(hook, ALICE, 0o755);
        refused(it, "belongs to uid 1001");
        let it = hooks();
        world.own(hook, 0, 0o775);
        refused(it, "others than root can write it");
        let it = hooks();
        world.own("scratch", ALICE, 0o755);
        refused(it, "belongs to uid 1001");
        world.own("scratch", 0, 0o755);
        let it = hooks();
        fs::remove_file(world.at(hook)).unwrap();
        refused(it, "No such file");
        hooks().stage(1).unwrap();
        assert!(fs::exists(&ran).unwrap());
    });
}
