//! A UDI's life: shared, kept, dropped, swept.

use super::world::*;
use crate::{Node, Udi, namespace, open, sys};

/// Whose mount namespace a rank of the UDI is in.
fn namespace_of(udi: &Udi) -> String {
    as_rank(udi, ALICE, || std::fs::read_link("/proc/thread-self/ns/mnt").unwrap())
        .to_string_lossy()
        .into_owned()
}

/// Loop devices whose file is below `world`'s store.
fn loops(world: &World) -> Vec<String> {
    let backing = |entry: std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("loop/backing_file")).ok()
    };
    let all = std::fs::read_dir("/sys/block").unwrap().flatten().filter_map(backing);
    // In the store's own tmpfs the kernel shows paths from the mount's root.
    all.filter(|path| path.contains(&format!("store/{}", world.marker()))).collect()
}

impl World {
    /// An image name that no other test uses at the same time.
    fn marker(&self) -> String {
        format!("image-{}", rustix::thread::gettid().as_raw_nonzero())
    }
}

/// Autoclear happens a moment after the last user is gone.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    panic!("not within five seconds: {what}");
}

#[test]
#[ignore = "needs root"]
fn all_steps_of_a_job_share_one_udi() {
    on_a_node(|world| {
        let image = Image::plain();
        let first = world.stage(Job::new(&image)).unwrap();
        let second = world.stage(Job::new(&image)).unwrap();
        assert!(first.is_pinned() && second.is_pinned());
        assert_eq!(namespace_of(&first), namespace_of(&second));
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_step_that_asks_for_something_else_has_a_udi_of_its_own() {
    on_a_node(|world| {
        let image = Image::plain();
        let volume = format!("{}:/mnt", world.at("scratch/alice"));
        let job = world.stage(Job::new(&image)).unwrap();
        let step = Job { of_job: false, volume: &volume, ..Job::new(&image) };
        let other = world.stage(step).unwrap();
        let again = world.stage(Job::new(&image)).unwrap();
        assert!(!other.is_pinned());
        assert_ne!(namespace_of(&job), namespace_of(&other));
        assert_eq!(namespace_of(&job), namespace_of(&again));
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_step_whose_inside_differs_by_a_variable_does_not_replace_the_jobs_udi() {
    on_a_node(|world| {
        let image = Image::plain();
        let job = world.stage(Job::new(&image)).unwrap();
        // The same words, and another value.
        let other = world.stage(Job { name: "image-2", ..Job::new(&image) }).unwrap();
        let again = world.stage(Job::new(&image)).unwrap();
        assert!(!other.is_pinned() && again.is_pinned());
        assert_ne!(namespace_of(&job), namespace_of(&other));
        assert_eq!(namespace_of(&job), namespace_of(&again));
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_requeued_job_or_another_user_never_gets_what_an_earlier_run_left() {
    on_a_node(|world| {
        let image = Image::plain();
        let first = world.stage(Job::new(&image)).unwrap();
        let bobs = world.stage(Job { uid: BOB, ..Job::new(&image) }).unwrap();
        assert_ne!(namespace_of(&first), namespace_of(&bobs));
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn two_jobs_have_two_udis_over_one_image_mount() {
    on_a_node(|world| {
        let image = Image::plain();
        let name = world.marker();
        let job = |id, uid| Job { id, uid, name: &name, ..Job::new(&image) };
        let alices = world.stage(job(1, ALICE)).unwrap();
        let bobs = world.stage(job(2, BOB)).unwrap();
        assert_ne!(namespace_of(&alices), namespace_of(&bobs));
        assert_eq!(loops(world).len(), 1, "{:?}", loops(world));
        let node = world.node();
        node.drop_job(1, 0, 0).unwrap();
        drop(alices);
        assert!(as_rank(&bobs, BOB, || std::fs::metadata("/etc").unwrap().is_dir()));
        node.drop_job(2, 0, 0).unwrap();
        drop(bobs);
        eventually("no loop device is left", || loops(world).is_empty());
    });
}

#[test]
#[ignore = "needs root"]
fn a_job_does_not_hold_the_image_of_another() {
    on_a_node(|world| {
        let image = Image::plain();
        let name = world.marker();
        let theirs = world.stage(Job { id: 1, name: &name, ..Job::new(&image) }).unwrap();
        let ours = world.stage(Job { id: 2, ..Job::new(&image) }).unwrap();
        drop(theirs);
        world.node().drop_job(1, 0, 0).unwrap();
        eventually("no loop device is left", || loops(world).is_empty());
        drop(ours);
        world.node().drop_job(2, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_after_the_epilog_and_it_may_run_again() {
    on_a_node(|world| {
        let image = Image::plain();
        let name = world.marker();
        let udi = world.stage(Job { name: &name, ..Job::new(&image) }).unwrap();
        drop(udi);
        let node = world.node();
        let dropped = node.drop_job(1, 0, 0).unwrap();
        assert!(dropped.udi && dropped.images == 1, "{dropped:?}");
        eventually("no loop device is left", || loops(world).is_empty());
        assert_eq!(node.drop_job(1, 0, 0).unwrap(), Default::default());
        assert_eq!(node.drop_job(99, 0, 0).unwrap(), Default::default());
        for directory in ["jobs", "images"] {
            let left = std::fs::read_dir(format!("{}/{directory}", world.run())).unwrap();
            assert_eq!(left.count(), 0, "{directory}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_lingering_image_mount_is_found_again_and_goes_when_its_time_is_over() {
    on_a_node(|world| {
        let image = Image::plain();
        let name = world.marker();
        let job = |id| Job { id, name: &name, ..Job::new(&image) };
        let node = world.node();
        drop(world.stage(job(1)).unwrap());
        assert_eq!(node.drop_job(1, 3600, 8).unwrap().images, 0);
        let before = loops(world);
        assert_eq!(before.len(), 1);
        drop(world.stage(job(2)).unwrap());
        assert_eq!(loops(world), before);
        assert_eq!(node.drop_job(2, 3600, 8).unwrap().images, 0);
        assert_eq!(node.sweep_images(3600, 0).unwrap(), 1);
        eventually("no loop device is left", || loops(world).is_empty());
    });
}

#[test]
#[ignore = "needs root"]
fn the_next_job_drops_what_has_lingered_long_enough() {
    on_a_node(|world| {
        let image = Image::plain();
        let name = world.marker();
        let linger = |seconds, id| {
            let site = format!("image_linger = {seconds}");
            let other = Job { id, site: &site, ..Job::new(&image) };
            drop(world.stage(other).unwrap());
        };
        drop(world.stage(Job { id: 1, name: &name, ..Job::new(&image) }).unwrap());
        linger(1, 2);
        assert_eq!(loops(world).len(), 1, "a job that runs keeps its image's mount");
        world.node().drop_job(1, 3600, 8).unwrap();
        linger(3600, 3);
        assert_eq!(loops(world).len(), 1);
        std::thread::sleep(std::time::Duration::from_secs(1));
        linger(1, 4);
        eventually("no loop device is left", || loops(world).is_empty());
        for id in [2, 3, 4] {
            world.node().drop_job(id, 0, 0).unwrap();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn an_image_replaced_under_its_name_is_mounted_anew() {
    on_a_node(|world| {
        let (old, new) = (Image::plain(), Image::plain().file("/new", "yes"));
        let name = world.marker();
        drop(world.stage(Job { name: &name, ..Job::new(&old) }).unwrap());
        std::fs::remove_file(world.at(&format!("store/{name}"))).unwrap();
        let udi = world.stage(Job { id: 2, name: &name, ..Job::new(&new) }).unwrap();
        assert!(as_rank(&udi, ALICE, || std::fs::exists("/new").unwrap()));
        for job in [1, 2] {
            world.node().drop_job(job, 0, 0).unwrap();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_process_that_outlives_its_job_keeps_its_image() {
    on_a_node(|world| {
        let image = Image::plain();
        let name = world.marker();
        let udi = world.stage(Job { name: &name, ..Job::new(&image) }).unwrap();
        world.node().drop_job(1, 0, 0).unwrap();
        assert!(as_rank(&udi, ALICE, || std::fs::exists("/etc/os-release").unwrap()));
        drop(udi);
        eventually("no loop device is left", || loops(world).is_empty());
    });
}

#[test]
#[ignore = "needs root"]
fn the_start_of_slurmd_forgets_jobs_that_no_longer_run() {
    on_a_node(|world| {
        let image = Image::plain();
        let job = |id| Job { id, ..Job::new(&image) };
        for id in [1, 2, 3] {
            drop(world.stage(job(id)).unwrap());
        }
        let mut gone = world.node().sweep_jobs(&|id| id == 2, 0, 0).unwrap();
        gone.sort_unstable();
        assert_eq!(gone, [1, 3]);
        assert!(namespace::pinned(&format!("{}/jobs/2/udi", world.run())).is_some());
        world.node().drop_job(2, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn nobody_but_root_enters_shifters_directory_and_no_bind_copies_its_pins() {
    on_a_node(|world| {
        let image = Image::plain();
        let udi = world.stage(Job::new(&image)).unwrap();
        let run = world.run();
        let denied = open::as_account(ALICE, ALICE, &[], || Ok(std::fs::read_dir(&run).is_err()));
        assert!(denied.unwrap());
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(&format!(" {run} "))).unwrap();
        assert!(line.contains("unbindable"), "{line}");
        assert!(!table.contains("squashfs"), "an image is in the host's table: {table}");
        drop(udi);
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_job_with_a_tmp_of_its_own_finds_it_inside() {
    on_a_node(|world| {
        let image = Image::plain();
        let udi = world.stage(Job::new(&image)).unwrap();
        let own = world.directory("job-tmp");
        world.own("job-tmp", ALICE, 0o1777);
        for rank in 0..3 {
            let work = || {
                // What job_container/tmpfs does in the task before our hook.
                sys::unshare_mounts().unwrap();
                rustix::mount::mount_bind(&own, "/tmp").unwrap();
                udi.enter()?;
                std::fs::write(format!("/tmp/rank{rank}"), "").unwrap();
                let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                let binds = table.lines().filter(|l| l.split(' ').nth(4) == Some("/tmp")).count();
                assert_eq!(binds, 2, "the host's /tmp and once the job's");
                Ok(())
            };
            open::in_thread("rank", work).unwrap();
        }
        assert_eq!(std::fs::read_dir(&own).unwrap().count(), 3);
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn where_nothing_can_be_pinned_every_step_has_a_udi_of_its_own() {
    on_a_node(|world| {
        // Nothing can be pinned on a shared mount once another namespace has a copy of it.
        let image = Image::plain();
        let node = world.node();
        let run = world.run();
        assert!(Node::existing(&world.at("nowhere")).unwrap().is_none());
        assert!(Node::existing(&run).unwrap().is_some());
        let shared = rustix::mount::MountPropagationFlags::SHARED;
        rustix::mount::mount_change(run.as_str(), shared).unwrap();
        let first = world.stage(Job::new(&image)).unwrap();
        let second = world.stage(Job::new(&image)).unwrap();
        for udi in [&first, &second] {
            assert!(as_rank(udi, ALICE, || std::fs::exists("/etc/os-release").unwrap()));
        }
        node.drop_job(1, 0, 0).unwrap();
    });
}
