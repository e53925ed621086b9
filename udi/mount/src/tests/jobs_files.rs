//! Volumes of single files that a job has for itself, and whatever the node has of their names.

use rustix::fs::{AtFlags, StatVfsMountFlags};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use udi::GuestPath;

use super::jobs_own::{mounted_at, read};
use super::world::*;
use crate::{Udi, kind, namespace, open, sys};

/// Runs `work` as root in the UDI, as it was staged.
fn inside<T: Send>(udi: &Udi, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        namespace::enter(&udi.namespace).unwrap();
        Ok(work())
    };
    open::in_thread("inside", enter).unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_file_that_only_the_job_has_is_a_volume_wherever_the_hosts_would_be() {
    on_a_node(|world| {
        world.with_job_directories();
        world.file("own/tmp/mine.txt", "only the job's");
        world.own("own/tmp/mine.txt", ALICE, 0o600);
        world.file("scratch/alice/place", "alice's");
        let image = Image::plain().file("/opt/conf", "image's");
        let places = ["/x.txt", "/new/deep/x.txt", "/opt/conf", "/lib/x.txt", "/vol/place"];
        let volumes = places.map(|place| format!("/tmp/mine.txt:{place}")).join(";");
        let volume = format!("{volumes};/tmp/mine.txt:/ro:ro;{}:/vol", world.at("scratch/alice"));
        for writable in ["", "1M"] {
            let job = Job { volume: &volume, writable, has_own: true, ..Job::new(&image) };
            for _ in 0..2 {
                let udi = world.stage(job).unwrap();
                for _ in 0..2 {
                    let look = || {
                        for place in places {
                            assert_eq!(read(place), "only the job's", "{place}");
                        }
                        assert_eq!(["/x.txt", "/usr/lib/x.txt"].map(mounted_at), [1, 1]);
                        std::fs::write("/x.txt", "only the job's").unwrap();
                        std::fs::write("/ro", "").unwrap_err();
                        // The layer in which places are made is not the user's.
                        let flags = rustix::fs::statvfs("/").unwrap().f_flag;
                        let read_only = flags.contains(StatVfsMountFlags::RDONLY);
                        assert_eq!(read_only, writable.is_empty());
                        std::fs::write("/new/deep/y", "").unwrap_err();
                    };
                    world.as_rank_of_own(&udi, look).unwrap();
                }
            }
            world.node().drop_job(1, 0, 0).unwrap();
        }
        assert_eq!(read(&world.at("scratch/alice/place")), "alice's");
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn what_the_host_has_of_the_name_of_what_is_the_jobs_own_does_not_matter() {
    on_a_node(|world| {
        world.with_job_directories();
        std::fs::create_dir_all("/tmp/file/host").unwrap();
        std::fs::write("/tmp/directory", "host's").unwrap();
        world.file("own/tmp/file", "job's");
        world.directory("own/tmp/directory");
        world.file("own/tmp/directory/name", "job's");
        let image = Image::plain().file("/opt/conf", "image's").directory("/opt/empty", 0o755);
        let volume = "/tmp/file:/a/file;/tmp/file:/opt/conf;/tmp/directory:/a/directory;\
                      /tmp/directory:/opt/empty";
        let places = ["/a/file", "/opt/conf", "/a/directory/name", "/opt/empty/name"];
        let twice = "/tmp/file:/a/file;/tmp/directory:/a/directory";
        for (volume, places) in [(volume, &places[..]), (twice, &[places[0], places[2]])] {
            for _ in 0..2 {
                let job = Job { volume, has_own: true, ..Job::new(&image) };
                let udi = world.stage(job).unwrap();
                for _ in 0..2 {
                    let look = || {
                        for place in places {
                            assert_eq!(read(place), "job's", "{place}");
                        }
                        assert_eq!(["/a/file", "/a/directory"].map(mounted_at), [1, 1]);
                    };
                    world.as_rank_of_own(&udi, look).unwrap();
                }
            }
            world.node().drop_job(1, 0, 0).unwrap();
        }
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn where_jobs_seldom_have_anything_the_hosts_other_kind_of_that_name_is_said_and_stays() {
    on_a_node(|world| {
        world.directory("scratch/local/name/host");
        world.directory("own");
        world.file("own/name", "job's");
        let image = Image::plain();
        let volume = &format!("{}:/data", world.at("scratch/local/name"));
        let udi = world.stage(Job { volume, has_own: true, ..Job::new(&image) }).unwrap();
        for _ in 0..2 {
            let rank = || {
                sys::unshare_mounts().unwrap();
                mount_bind(world.at("own"), world.at("scratch/local")).unwrap();
                udi.enter()
            };
            let error = open::in_thread("rank", rank).unwrap_err();
            assert_eq!(error.blame(), udi::Blame::User, "{error}");
            let words = "FROM is a directory on the node and a file in the job";
            assert!(error.to_string().contains(words), "{error}");
            assert!(inside(&udi, || std::fs::exists("/data/host").unwrap()));
        }
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_file_of_the_jobs_own_takes_nothing_away_that_anybody_has_at_its_place() {
    on_a_node(|world| {
        world.with_job_directories();
        std::fs::create_dir_all("/tmp/file/host").unwrap();
        world.file("own/tmp/file", "job's");
        world.file("own/tmp/only", "job's");
        world.directory("scratch/alice/place");
        let image = Image::plain().file("/opt/full/name", "image's").file("/opt/conf", "image's");
        let scratch = world.at("scratch/alice");
        for (volume, words) in [
            ("/tmp/only:/opt/full", "/opt/full: one is a directory and the other is not"),
            ("/tmp/file:/opt/full", "/opt/full: one is a directory and the other is not"),
            ("/dev/shm/mine:/opt/conf", "/opt/conf: one is a directory and the other is not"),
            ("/tmp/only:/vol/place;VOL:/vol", "/vol/place: one is a directory and the other"),
            ("/tmp/only:/vol;VOL:/vol/place", "/vol: one is a directory and the other is not"),
            ("/tmp/only:/tmp/none", "cannot reach /tmp/none in the job's own directory"),
        ] {
            let volume = &volume.replace("VOL", &scratch);
            let udi = world.stage(Job { volume, has_own: true, ..Job::new(&image) }).unwrap();
            for _ in 0..2 {
                let error = world.as_rank_of_own(&udi, || ()).unwrap_err();
                assert_eq!(error.blame(), udi::Blame::User, "{error}");
                assert!(error.to_string().contains(words), "{volume}: {error}");
            }
            if volume == "/tmp/file:/opt/full" {
                let found = inside(&udi, || std::fs::exists("/opt/full/host").unwrap());
                assert!(found, "what was mounted stays");
            }
            world.node().drop_job(1, 0, 0).unwrap();
        }
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn the_next_rank_finishes_what_one_that_was_killed_has_begun() {
    on_a_node(|world| {
        world.with_job_directories();
        std::fs::create_dir_all("/tmp/file/host").unwrap();
        world.file("own/tmp/file", "job's");
        let image = Image::plain();
        let place = GuestPath::parse("/a/file").unwrap();
        let took_away: [&(dyn Fn() + Sync); 3] = [
            &|| unmount("/a/file", UnmountFlags::DETACH).unwrap(),
            &|| drop(kind::set(&place, false).unwrap()),
            &|| {
                let wrong = kind::set(&place, false).unwrap();
                drop(wrong);
                let root = kind::writable_root().unwrap();
                rustix::fs::unlinkat(&root, "a/file", AtFlags::empty()).unwrap();
            },
        ];
        for killed in took_away {
            let volume = "/tmp/file:/a/file";
            let udi = world.stage(Job { volume, has_own: true, ..Job::new(&image) }).unwrap();
            inside(&udi, killed);
            for _ in 0..2 {
                let found = world.as_rank_of_own(&udi, || (read("/a/file"), mounted_at("/a/file")));
                assert_eq!(found.unwrap(), ("job's".to_owned(), 1));
            }
            world.node().drop_job(1, 0, 0).unwrap();
        }
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn a_link_put_on_the_way_to_a_volume_in_an_image_that_can_be_written_gains_nothing() {
    on_a_node(|world| {
        world.with_job_directories();
        std::fs::create_dir("/tmp/file").unwrap();
        world.file("own/tmp/file", "job's");
        let image = Image::plain().directory("/opt", 0o755);
        let volume = "/tmp/file:/a/file";
        let job = Job { volume, writable: "1M", has_own: true, ..Job::new(&image) };
        for to in ["/opt", "/tmp"] {
            let udi = world.stage(job).unwrap();
            let exchange = || {
                open::as_account(ALICE, ALICE, &[ALICE], || {
                    std::fs::rename("/a", "/b").unwrap();
                    std::os::unix::fs::symlink(to, "/a").unwrap();
                    Ok(())
                })
            };
            inside(&udi, exchange).unwrap();
            let error = world.as_rank_of_own(&udi, || ()).unwrap_err();
            assert_eq!(error.blame(), udi::Blame::User, "{error}");
            assert!(error.to_string().contains("/a/file leads through a link inside"), "{error}");
            let found =
                inside(&udi, || (std::fs::exists("/opt/file").unwrap(), mounted_at("/tmp/file")));
            assert_eq!(found, (false, 0));
            assert!(std::fs::metadata("/tmp/file").unwrap().is_dir());
            world.node().drop_job(1, 0, 0).unwrap();
        }
        world.without_job_directories();
    });
}
