//! What a user may try while the node stages: a thread of alice's exchanges a directory and a
//! symbolic link, as fast as it can, under the node's hands.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountFlags, mount};

use super::world::*;
use crate::proc::Proc;
use crate::{namespace, open, sys};

/// How often staging is tried; testbed/kernels asks for fewer, since a guest is slow.
fn tries() -> u32 {
    std::env::var("RACE_TRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// Calls `stage`, which says whether it was let in, while alice exchanges `a` and `b`. The
/// race was run only if staging met both.
fn race(a: &str, b: &str, mut stage: impl FnMut(u32) -> bool) {
    let over = AtomicBool::new(false);
    let exchange = || {
        open::as_account(ALICE, ALICE, &[ALICE], || {
            let mut exchanged = 0_u32;
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
                exchanged += 1;
            }
            Ok(exchanged)
        })
    };
    let (mut let_in, mut refused, mut tried) = (0, 0, 0);
    let exchanged = std::thread::scope(|scope| {
        let swapper = scope.spawn(exchange);
        // Whatever happens in here, the other thread must be told to end.
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while tried < tries() || ((let_in == 0 || refused == 0) && tried < 20 * tries()) {
                tried += 1;
                if stage(tried) { let_in += 1 } else { refused += 1 }
            }
        }));
        over.store(true, Ordering::Relaxed);
        let exchanged = swapper.join().unwrap().unwrap();
        run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        exchanged
    });
    assert!(
        let_in > 0 && refused > 0 && exchanged > tried,
        "no race: {let_in} let in, {refused} refused, {exchanged} exchanges in {tried} tries"
    );
}

/// A file of root's and one that anybody may read, below a directory that the site excludes.
fn secrets(world: &World) -> String {
    for name in ["root", "site"] {
        world.directory(&format!("{name}/inner"));
        world.file(&format!("{name}/inner/token"), "secret");
    }
    world.own("root", 0, 0o700);
    format!("[volumes]\nfrom = [\"{}\"]", world.at("scratch"))
}

/// Stages alice's volumes, and what `look` finds inside; nothing when staging was refused.
fn staged<T: Send>(
    world: &World,
    job: Job<'_>,
    refusal: &[&str],
    look: impl FnOnce() -> T + Send,
) -> Option<T> {
    let found = match world.stage(job) {
        Ok(udi) => Some(as_rank(&udi, ALICE, look)),
        Err(error) => {
            assert_eq!(error.blame(), udi::Blame::User, "{error}");
            let error = error.to_string();
            assert!(refusal.iter().any(|words| error.contains(words)), "{error}");
            None
        }
    };
    world.node().drop_job(job.id, 3600, 8).unwrap();
    found
}

#[test]
#[ignore = "needs root"]
fn a_source_exchanged_for_a_link_to_what_is_not_the_users_gains_nothing() {
    on_a_node(|world| {
        let image = Image::plain();
        let site = secrets(world);
        world.directory("scratch/alice/place/inner");
        world.file("scratch/alice/place/inner/token", "alice's");
        world.own("scratch/alice/place", ALICE, 0o755);
        let (place, link) = (world.at("scratch/alice/place"), world.at("scratch/alice/link"));
        let volume = format!("{place}/inner:/data");
        for (name, words) in [("root", "Permission denied"), ("site", "does not allow volumes")] {
            let _ = std::fs::remove_file(&link);
            world.link(&world.at(name), "scratch/alice/link");
            race(&place, &link, |id| {
                let job = Job { id, volume: &volume, site: &site, ..Job::new(&image) };
                let read = || std::fs::read_to_string("/data/token").unwrap();
                let found = staged(world, job, &[words], read);
                assert!(found.as_deref().is_none_or(|token| token == "alice's"), "{found:?}");
                found.is_some()
            });
            // Which of the two has which name depends on when the race ended.
            if std::fs::symlink_metadata(&place).unwrap().is_symlink() {
                renameat_with(CWD, &*place, CWD, &*link, RenameFlags::EXCHANGE).unwrap();
            }
        }
        world.node().sweep_images(0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_target_exchanged_for_a_link_to_a_protected_place_gains_nothing() {
    on_a_node(|world| {
        // /etc/inner is in the image, so that a mount there would be possible.
        let image = Image::plain().file("/etc/inner/token", "image's");
        world.directory("scratch/alice/first/place/inner");
        world.directory("scratch/alice/second");
        world.file("scratch/alice/second/token", "alice's");
        world.link("/etc", "scratch/alice/first/link");
        for path in ["scratch/alice/first", "scratch/alice/first/place"] {
            world.own(path, ALICE, 0o755);
        }
        let (first, second) = (world.at("scratch/alice/first"), world.at("scratch/alice/second"));
        let volume = format!("{first}:/data;{second}:/data/place/inner");
        race(&format!("{first}/place"), &format!("{first}/link"), |id| {
            let job = Job { id, volume: &volume, ..Job::new(&image) };
            let read = || {
                let etc = std::fs::read_to_string("/etc/inner/token").unwrap();
                let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                let mounts = table.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned());
                let at = mounts.filter(|point| point.ends_with("/inner")).collect::<Vec<_>>();
                (etc, at)
            };
            let found = staged(world, job, &["is protected"], read);
            if let Some((etc, at)) = &found {
                assert_eq!(etc, "image's");
                // By whichever name the directory has at this moment.
                assert!(at.iter().all(|point| point.starts_with("/data/")), "{at:?}");
                assert_eq!(at.len(), 1);
            }
            found.is_some()
        });
        world.node().sweep_images(0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_directory_on_the_way_to_a_mount_of_the_jobs_own_exchanged_for_a_link_gains_nothing() {
    on_a_node(|world| {
        let image = Image::plain();
        secrets(world);
        world.directory("scratch/alice/place/inner");
        world.own("scratch/alice/place", ALICE, 0o755);
        world.link(&world.at("root"), "scratch/alice/link");
        let (place, link) = (world.at("scratch/alice/place"), world.at("scratch/alice/link"));
        // As alice can by FUSE: in her job's namespace something is mounted below her directory.
        let job = open::in_thread("job", || {
            sys::unshare_mounts().unwrap();
            let inner = format!("{place}/inner");
            mount("t", inner.as_str(), "tmpfs", MountFlags::empty(), None).unwrap();
            std::fs::write(format!("{inner}/token"), "alice's").unwrap();
            Proc::open()?.namespace()
        });
        let job = job.unwrap();
        let site = format!("[[mount]]\nfrom = \"{}\"\nto = \"/site\"", world.at("scratch"));
        race(&place, &link, |id| {
            let step = Job { id, site: &site, has_own: true, ..Job::new(&image) };
            let udi = world.stage(step).unwrap();
            let rank = || {
                namespace::enter(&job).unwrap();
                udi.enter()?;
                open::as_account(ALICE, ALICE, &[ALICE], || {
                    let at =
                        ["place", "link"].map(|name| format!("/site/alice/{name}/inner/token"));
                    Ok(at.map(|token| std::fs::read_to_string(token).unwrap_or_default()))
                })
            };
            let found = open::in_thread("rank", rank).unwrap_or_default();
            world.node().drop_job(id, 3600, 8).unwrap();
            assert!(!found.iter().any(|token| token == "secret"), "{found:?}");
            found.iter().any(|token| token == "alice's")
        });
        world.node().sweep_images(0, 0).unwrap();
    });
}
