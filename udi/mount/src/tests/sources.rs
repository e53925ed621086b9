//! What is mounted that is not a directory of the host's, and how long the host's mounts follow.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::world::*;

#[test]
#[ignore = "needs root"]
fn memory_of_the_site_and_of_the_user_is_empty_and_of_its_size() {
    on_a_node(|world| {
        let image = Image::plain();
        let site = "[inside]\ntmp = \"tmpfs=2M\"\nhome = \"tmpfs=1M\"";
        let job = Job { site, volume: "none:/own:tmpfs=size=1M", ..Job::new(&image) };
        let udi = world.stage(job).unwrap();
        as_rank(&udi, ALICE, || {
            for (path, owner, mode) in
                [("/tmp", 0, 0o1777), ("/home/alice", ALICE, 0o700), ("/own", ALICE, 0o700)]
            {
                let meta = fs::metadata(path).unwrap();
                assert_eq!((meta.uid(), meta.mode() & 0o7777), (owner, mode), "{path}");
                assert_eq!(fs::read_dir(path).unwrap().count(), 0, "{path}");
                let large = format!("{path}/large");
                let error = fs::write(&large, vec![1; 3 << 20]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{path}");
                fs::remove_file(&large).unwrap();
                fs::write(&large, "").unwrap();
            }
        });
        // The job's later steps find what was written.
        let again = world.stage(job).unwrap();
        assert!(as_rank(&again, ALICE, || fs::exists("/own/large").unwrap()));
        let other = world.stage(Job { id: 2, ..job }).unwrap();
        assert!(as_rank(&other, ALICE, || !fs::exists("/own/large").unwrap()));
        assert!(as_rank(&other, BOB, || fs::read_dir("/own").is_err()));
    });
}

#[test]
#[ignore = "needs root"]
fn a_data_image_is_read_only_and_mounted_once_for_all() {
    on_a_node(|world| {
        let (image, data) = (Image::plain(), Image::default().file("/set/1", "data"));
        let volume = format!("id\\:{0}:/a:squashfs;id\\:{0}:/b/c:squashfs", data_digest());
        let volume = volume.replace("sha256:", "sha256\\:");
        let job = |id, uid| Job { id, uid, volume: &volume, data: Some(&data), ..Job::new(&image) };
        let udis = [world.stage(job(1, ALICE)).unwrap(), world.stage(job(2, BOB)).unwrap()];
        let mut devices = Vec::new();
        for udi in &udis {
            as_rank(udi, ALICE, || {
                for path in ["/a/set/1", "/b/c/set/1"] {
                    assert_eq!(fs::read_to_string(path).unwrap(), "data");
                    let error = fs::write(path, "").unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
                }
                let flags = rustix::fs::statvfs("/a").unwrap().f_flag;
                use rustix::fs::StatVfsMountFlags as F;
                assert!(flags.contains(F::NOSUID | F::NODEV | F::RDONLY), "{flags:?}");
            });
            devices.push(as_rank(udi, ALICE, || fs::metadata("/a").unwrap().dev()));
        }
        assert_eq!(devices[0], devices[1]);
        drop(udis);
        let node = world.node();
        assert_eq!(node.drop_job(1, 0, 0).unwrap().images, 0, "the other job uses it");
        assert_eq!(node.drop_job(2, 0, 0).unwrap().images, 2);
    });
}

#[test]
#[ignore = "needs root"]
fn a_private_mount_does_not_follow_the_host_and_a_plain_one_takes_nothing_along() {
    on_a_node(|world| {
        let flags = MountFlags::empty();
        let shared = world.directory("shared");
        rustix::mount::mount("t", shared.as_str(), "tmpfs", flags, None).unwrap();
        rustix::mount::mount_change(shared.as_str(), MountPropagationFlags::SHARED).unwrap();
        let (before, later) = (world.directory("shared/before"), world.directory("shared/later"));
        rustix::mount::mount("t", before.as_str(), "tmpfs", flags, None).unwrap();
        let site = format!(
            "[[mount]]\nfrom = \"{shared}\"\nto = \"/private\"\nslave = false\n\
             [[mount]]\nfrom = \"{shared}\"\nto = \"/slave\"\n\
             [[mount]]\nfrom = \"{shared}\"\nto = \"/plain\"\nrecursive = false\n"
        );
        let image = Image::plain();
        let udi = world.stage(Job { site: &site, ..Job::new(&image) }).unwrap();
        let mounted = || {
            let table =
                as_rank(&udi, ALICE, || fs::read_to_string("/proc/thread-self/mountinfo").unwrap());
            let points = table.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned());
            let below = |point: &String| point.ends_with("/before") || point.ends_with("/later");
            points.filter(below).collect::<std::collections::BTreeSet<_>>()
        };
        let set = |points: &[&str]| points.iter().map(ToString::to_string).collect();
        assert_eq!(mounted(), set(&["/private/before", "/slave/before"]));
        rustix::mount::mount("t", later.as_str(), "tmpfs", flags, None).unwrap();
        rustix::mount::unmount(before.as_str(), UnmountFlags::DETACH).unwrap();
        assert_eq!(mounted(), set(&["/private/before", "/slave/later", "/plain/later"]));
        drop(udi);
        world.node().drop_job(1, 0, 0).unwrap();
        rustix::mount::unmount(shared.as_str(), UnmountFlags::DETACH).unwrap();
    });
}
