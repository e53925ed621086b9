//! What modules put inside, need of an image, and run there.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;

use udi::{Blame, Hook};

use super::world::*;
use crate::UserHooks;

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// What staging with the module `m` says; it must not work.
fn refused(world: &World, image: &Image, module: &str) -> udi::Error {
    let site = format!("[modules.m]\n{module}");
    let name = format!("{:p}", image);
    world.stage(Job { name: &name, module: "m", site: &site, ..Job::new(image) }).unwrap_err()
}

#[test]
#[ignore = "needs root"]
fn a_copy_lies_over_what_the_image_has_with_the_hosts_permissions_or_the_sites() {
    on_a_node(|world| {
        for (name, mode) in [("tool", 0o4777), ("secret", 0o600), ("plain", 0o644)] {
            world.file(name, name);
            world.own(name, ALICE, mode);
        }
        let at = |name: &str| world.at(name);
        let copy = |from: &str, to: &str, more: &str| {
            format!("[[modules.m.copy]]\nfrom = \"{}\"\nto = \"{to}\"\n{more}\n", at(from))
        };
        let site = format!(
            "[modules.m]\n{}{}{}{}{}{}",
            copy("tool", "/opt/new/tool", ""),
            copy("secret", "/opt/new/secret", ""),
            copy("secret", "/opt/new/told", "mode = \"444\""),
            copy("plain", "/lib/over", ""),
            copy("plain", "/etc/link", ""),
            copy("none", "/opt/none", "optional = true"),
        );
        let image = Image::plain().file("/usr/lib/over", "image").link("/etc/link", "/etc/passwd");
        let udi = world.stage(Job { module: "m", site: &site, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            assert_eq!(fs::read_to_string("/opt/new/tool").unwrap(), "tool");
            assert_eq!(mode("/opt/new/tool"), 0o755);
            assert_eq!(fs::metadata("/opt/new/tool").unwrap().uid(), 0);
            assert!(fs::read_to_string("/opt/new/secret").is_err());
            assert_eq!(mode("/opt/new/secret"), 0o600);
            assert_eq!(
                (fs::read_to_string("/opt/new/told").unwrap(), mode("/opt/new/told")),
                ("secret".into(), 0o444)
            );
            // By the image's own link, and never through one in the last place.
            assert_eq!(fs::read_to_string("/usr/lib/over").unwrap(), "plain");
            assert_eq!(fs::read_to_string("/etc/link").unwrap(), "plain");
            assert!(fs::read_to_string("/etc/passwd").unwrap().contains("alice"));
            assert!(!fs::exists("/opt/none").unwrap());
            assert!(fs::write("/opt/new/told", "x").is_err());
        });
    });
}

#[test]
#[ignore = "needs root"]
fn what_is_no_file_or_too_long_cannot_be_copied() {
    on_a_node(|world| {
        let long = fs::File::create(world.at("long")).unwrap();
        long.set_len((16 << 20) + 1).unwrap();
        let image = Image::plain();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            world.at("fifo"),
            rustix::fs::FileType::Fifo,
            0o644.into(),
            0,
        )
        .unwrap();
        let copy =
            |from: &str| format!("copy = [{{ from = \"{}\", to = \"/x\" }}]", world.at(from));
        for (from, why) in [
            ("none", "is not a file"),
            ("scratch", "is not a file"),
            ("fifo", "is not a file"),
            ("long", "is too long to be copied"),
        ] {
            let error = refused(world, &image, &copy(from));
            assert_eq!(error.blame(), Blame::Admin);
            let named = format!("modules.m.copy: {} {why}", world.at(from));
            assert!(error.what().contains(&named), "{error}");
        }
        long.set_len(16 << 20).unwrap();
        let copies: Vec<_> = (0..4)
            .map(|n| format!("{{ from = \"{}\", to = \"/x{n}\" }}", world.at("long")))
            .collect();
        let error = refused(world, &image, &format!("copy = [{}]", copies.join(",")));
        assert!(error.what().contains("is too long to be copied"), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_file_of_the_images_in_the_way_of_a_copy_is_the_images_fault() {
    on_a_node(|world| {
        world.file("tool", "tool");
        let image = Image::plain().file("/opt", "a file");
        let copy = format!("copy = [{{ from = \"{}\", to = \"/opt/tool\" }}]", world.at("tool"));
        let error = refused(world, &image, &copy);
        assert_eq!(error.blame(), Blame::User);
        assert!(error.what().contains("this image cannot be used"), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_module_that_does_not_suit_the_image_says_what_the_image_is() {
    on_a_node(|world| {
        let musl = Image::plain().file("/usr/lib/ld-musl-x86_64.so.1", "");
        let glibc = Image::plain().file("/lib64/ld-linux-x86-64.so.2", "");
        let none = Image::plain().link("/lib64", "/nowhere");
        let both = glibc.clone().file("/usr/lib/ld-musl-x86_64.so.1", "");
        let arm = glibc.clone().file("/.shifter/image.json", "{\"platform\": \"linux/arm64/v8\"}");
        for (image, module, why) in [
            (&musl, "libc = \"glibc\"", "this one has musl"),
            (&none, "libc = \"glibc\"", "this one has no C library"),
            (&glibc, "libc = \"musl\"", "this one has glibc"),
            (&arm, "arch = [\"amd64\"]", "it is for images of amd64, and this one is of arm64"),
            (
                &musl,
                "arch = [\"arm64\", \"ppc64le\"]",
                "of arm64, ppc64le, and this one is of amd64",
            ),
        ] {
            let error = refused(world, image, module);
            assert_eq!(error.blame(), Blame::User);
            assert!(
                error.what().starts_with("--module=m: ") && error.what().contains(why),
                "{error}"
            );
        }
        let site = "[modules.m]\nlibc = \"glibc\"\narch = [\"amd64\"]";
        for (name, image) in [("glibc", &glibc), ("both", &both)] {
            world.stage(Job { name, module: "m", site, ..Job::new(image) }).unwrap();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn what_the_image_says_of_itself_cannot_stop_the_node() {
    on_a_node(|world| {
        for bad in ["{\"platform\": 7}", "not json", "{\"platform\": \"linux/\\u001b[2J\"}"] {
            let image = Image::plain().file("/.shifter/image.json", bad);
            let error = refused(world, &image, "arch = [\"amd64\"]");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
        // No link is followed, wherever it leads.
        let image = Image::plain().link("/.shifter/image.json", "/../../proc/self/mem");
        refused(world, &image, "arch = [\"amd64\"]");
    });
}

fn user_hooks(world: &World, script: &str, timeout: u64) -> UserHooks {
    let hook = Hook { command: vec!["/bin/sh".into(), "-c".into(), script.into()], timeout };
    world.own("scratch/alice", ALICE, 0o700);
    UserHooks::new(vec![("m".into(), hook)]).unwrap().unwrap()
}

/// How it went for each of `ranks` ranks of alice's at once.
fn in_ranks(hooks: &UserHooks, ranks: usize) -> Vec<String> {
    let environment = [(OsStr::new("A"), OsStr::new("final"))];
    let rank = || {
        let done = crate::as_account(ALICE, ALICE, &[ALICE], || {
            rustix::thread::set_no_new_privs(true).unwrap();
            Ok(hooks.run(&environment))
        });
        done.unwrap().err().map(|error| error.to_string()).unwrap_or_default()
    };
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..ranks).map(|_| scope.spawn(rank)).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
#[ignore = "needs root"]
fn a_users_hook_runs_once_as_the_user_with_the_ranks_environment_and_no_file_of_ours() {
    on_a_node(|world| {
        let out = world.at("scratch/alice/out");
        let open = fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
        let script = format!(
            "(id -u; id -G; echo $A; env | wc -l; grep -cE '^(NoNewPrivs:.1|Cap(Eff|Prm|Inh|Amb):.0+)$' /proc/self/status; \
             ls /proc/self/fd | wc -l) >>{out}"
        );
        let hooks = user_hooks(world, &script, 10);
        assert_eq!(in_ranks(&hooks, 1), [""]);
        assert_eq!(in_ranks(&hooks, 3), ["", "", ""]);
        let said = fs::read_to_string(&out).unwrap();
        // A shell adds PWD, SHLVL and the like.
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(&lines[..3], ["1001", "1001", "final"]);
        assert!(lines[3].trim().parse::<u32>().unwrap() < 6, "{said}");
        assert_eq!(&lines[4..], ["5", "4"], "{said}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_users_hook_that_fails_or_hangs_fails_every_rank_in_the_same_words() {
    on_a_node(|world| {
        let late = world.at("scratch/alice/late");
        for (script, words) in [
            ("exit 3", "failed with exit 3"),
            ("kill -9 $$", "was killed by signal 9"),
            (
                &*format!("(sleep 2; touch {late}) & sleep 5"),
                "did not end within 1 seconds and was stopped",
            ),
        ] {
            let hooks = user_hooks(world, script, 1);
            let first = in_ranks(&hooks, 1);
            let said =
                format!("--module=m: its program /bin/sh -c {script} {words}\nhint: what it says");
            assert!(first[0].starts_with(&said), "{}", first[0]);
            assert_eq!(in_ranks(&hooks, 2), [&first[0][..], &first[0][..]]);
        }
        let hook = Hook { command: vec!["/no/such".into()], timeout: 1 };
        let hooks = UserHooks::new(vec![("m".into(), hook)]).unwrap().unwrap();
        assert!(
            in_ranks(&hooks, 1)[0].contains("could not be run: cannot run /no/such: No such file")
        );
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert!(!fs::exists(late).unwrap());
    });
}
