//! What a rank finds inside.

use super::world::*;
use crate::{open, sys};

#[test]
#[ignore = "needs root"]
fn a_rank_wakes_up_in_the_image_as_the_user() {
    on_a_node(|world| {
        let image = Image::plain();
        let udi = world.stage(Job::new(&image)).unwrap();
        let (release, uid, status) = as_rank(&udi, ALICE, || {
            let release = std::fs::read_to_string("/etc/os-release").unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            (release, rustix::process::geteuid().as_raw(), status)
        });
        assert_eq!(release, "NAME=image\n");
        // glibc's geteuid(2) is the thread's own.
        assert_eq!(uid, ALICE);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let line = format!("{set}:\t0000000000000000\n");
            assert!(status.contains(&line), "{set} is not empty:\n{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    });
}

#[test]
#[ignore = "needs root"]
fn every_mount_is_nosuid_and_but_for_dev_nodev() {
    on_a_node(|world| {
        let image = Image::plain();
        let source = world.at("scratch/alice");
        let volume = format!("{source}:/data;{source}:/readonly:ro");
        let udi = world.stage(Job { volume: &volume, ..Job::new(&image) }).unwrap();
        let table = as_rank(&udi, ALICE, || {
            std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
        });
        for line in table.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (point, options) = (fields[4], fields[5]);
            assert!(options.split(',').any(|o| o == "nosuid"), "{line}");
            let below_dev = point == "/dev" || point.starts_with("/dev/");
            assert!(below_dev || options.split(',').any(|o| o == "nodev"), "{line}");
            let must_be_ro = matches!(point, "/" | "/readonly");
            assert!(!must_be_ro || options.split(',').any(|o| o == "ro"), "{line}");
        }
        assert!(!table.contains(&world.at("store")) && !table.contains("srv"), "{table}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_volume_of_a_directory_above_ours_does_not_bring_ours_along() {
    on_a_node(|world| {
        let image = Image::plain();
        let tmpfs = rustix::mount::MountFlags::empty();
        rustix::mount::mount("t", world.directory("run/other"), "tmpfs", tmpfs, None).unwrap();
        let volume = format!("{}:/host", world.at("run"));
        for id in [1, 2] {
            let udi = world.stage(Job { volume: &volume, id, ..Job::new(&image) }).unwrap();
            let table = as_rank(&udi, ALICE, || {
                std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
            });
            assert!(table.contains(" /host/other "), "{table}");
            assert!(!table.contains(" /host/shifter"), "{table}");
            assert!(!table.contains("squashfs"), "{table}");
        }
        rustix::mount::unmount(world.at("run/other"), rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn what_the_host_mounts_and_unmounts_later_does_so_inside_and_never_the_other_way() {
    on_a_node(|world| {
        let flags = rustix::mount::MountFlags::empty();
        let shared = world.directory("shared");
        rustix::mount::mount("t", shared.as_str(), "tmpfs", flags, None).unwrap();
        rustix::mount::mount_change(shared.as_str(), rustix::mount::MountPropagationFlags::SHARED)
            .unwrap();
        let (later, inside) = (world.directory("shared/later"), world.directory("shared/inside"));
        let image = Image::plain();
        let site = format!("[[mount]]\nfrom = \"{shared}\"\nto = \"/from-host\"");
        let udi = world.stage(Job { site: &site, ..Job::new(&image) }).unwrap();

        let is_mounted = || {
            let table = "/proc/thread-self/mountinfo";
            let table = as_rank(&udi, ALICE, || std::fs::read_to_string(table).unwrap());
            table.contains(" /from-host/later ")
        };
        rustix::mount::mount("t", later.as_str(), "tmpfs", flags, None).unwrap();
        assert!(is_mounted());
        rustix::mount::unmount(later.as_str(), rustix::mount::UnmountFlags::DETACH).unwrap();
        assert!(!is_mounted());

        let before = world.host_mounts();
        let mount_inside = || {
            udi.enter()?;
            rustix::mount::mount("t", "/from-host/inside", "tmpfs", flags, None).unwrap();
            Ok(())
        };
        open::in_thread("root", || {
            sys::unshare_fs().unwrap();
            mount_inside()
        })
        .unwrap();
        assert_eq!(world.host_mounts(), before, "{inside}");
        drop(udi);
        world.node().drop_job(1, 0, 0).unwrap();
        rustix::mount::unmount(shared.as_str(), rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn devices_work_and_the_image_cannot_be_written() {
    on_a_node(|world| {
        let image = Image::plain();
        let udi = world.stage(Job::new(&image)).unwrap();
        as_rank(&udi, ALICE, || {
            std::fs::write("/dev/null", "x").unwrap();
            let error = std::fs::write("/new", "x").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        });
    });
}

#[test]
#[ignore = "needs root"]
fn the_users_accounts_are_the_sites_and_the_other_files_of_etc_stay() {
    on_a_node(|world| {
        let image = Image::plain();
        let udi = world.stage(Job::new(&image)).unwrap();
        let (passwd, release) = as_rank(&udi, ALICE, || {
            let read = |path| std::fs::read_to_string(path).unwrap();
            (read("/etc/passwd"), read("/etc/os-release"))
        });
        assert!(passwd.contains("alice:x:1001:1001:"), "{passwd}");
        assert_eq!(release, "NAME=image\n");
    });
}

#[test]
#[ignore = "needs root"]
fn a_setuid_file_in_the_image_gives_nothing() {
    on_a_node(|world| {
        // That the kernel ignores the bit under nosuid is shown on the mini-Slurm; here, that
        // the bit is kept and the flag is set.
        let image = Image::plain().executable("/suid", "#!/bin/sh\n", 0o4755);
        let udi = world.stage(Job::new(&image)).unwrap();
        let (mode, nosuid) = as_rank(&udi, ALICE, || {
            use std::os::unix::fs::MetadataExt;
            let flags = rustix::fs::statvfs("/suid").unwrap().f_flag;
            let nosuid = flags.contains(rustix::fs::StatVfsMountFlags::NOSUID);
            (std::fs::metadata("/suid").unwrap().mode(), nosuid)
        });
        assert_eq!(mode & 0o7777, 0o4755);
        assert!(nosuid);
    });
}

#[test]
#[ignore = "needs root"]
fn an_image_without_anything_works() {
    on_a_node(|world| {
        let image = Image::default().file("/hello", "world");
        let site = format!("[[mount]]\nfrom = \"{}\"\nto = \"/a/b/c\"", world.at("scratch"));
        let udi = world.stage(Job { site: &site, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            assert_eq!(std::fs::read_to_string("/hello").unwrap(), "world");
            assert!(std::fs::metadata("/a/b/c/alice").unwrap().is_dir());
            assert!(std::fs::read_to_string("/etc/group").unwrap().contains("alice"));
            assert!(std::fs::metadata("/tmp").unwrap().is_dir());
        });
    });
}
