//! What a job has for itself (job_container/tmpfs), which only its ranks see.

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind};

use super::world::*;
use crate::{Udi, open, sys};

impl World {
    /// The node's `/tmp` and `/dev/shm`, with a directory `mine` and a file in each that
    /// somebody else has there, and the job's own, with alice's.
    pub(super) fn with_job_directories(&self) {
        for host in ["/tmp", "/dev/shm"] {
            mount("t", host, "tmpfs", MountFlags::empty(), None).unwrap();
            std::fs::create_dir(format!("{host}/mine")).unwrap();
            std::fs::write(format!("{host}/mine/name"), "host's").unwrap();
        }
        for own in ["own/tmp", "own/shm"] {
            self.directory(&format!("{own}/mine/sub"));
            self.file(&format!("{own}/mine/name"), "job's");
            self.own(own, ALICE, 0o700);
        }
    }

    pub(super) fn without_job_directories(&self) {
        for host in ["/tmp", "/dev/shm"] {
            rustix::mount::unmount(host, UnmountFlags::DETACH).unwrap();
        }
    }

    /// Runs `look` as a rank of alice's, with directories of the job's own.
    pub(super) fn as_rank_of_own<T: Send>(
        &self,
        udi: &Udi,
        look: impl FnOnce() -> T + Send,
    ) -> udi::Result<T> {
        open::in_thread("rank", || {
            // What job_container/tmpfs does in the task before our hook.
            sys::unshare_mounts().unwrap();
            mount_bind(self.at("own/tmp"), "/tmp").unwrap();
            mount_bind(self.at("own/shm"), "/dev/shm").unwrap();
            udi.enter()?;
            open::as_account(ALICE, ALICE, &[ALICE], || Ok(look()))
        })
    }
}

pub(super) fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}"))
}

pub(super) fn mounted_at(point: &str) -> usize {
    let table = read("/proc/thread-self/mountinfo");
    table.lines().filter(|line| line.split(' ').nth(4) == Some(point)).count()
}

#[test]
#[ignore = "needs root"]
fn all_directories_that_a_job_has_for_itself_are_inside_in_every_step() {
    on_a_node(|world| {
        world.with_job_directories();
        let image = Image::plain();
        let shm = mounted_at("/dev/shm");
        for step in 0..2 {
            let udi = world.stage(Job { has_own: true, ..Job::new(&image) }).unwrap();
            assert!(udi.is_pinned());
            for rank in 0..3 {
                let name = format!("from-{step}-{rank}");
                let look = || {
                    assert_eq!(
                        (read("/tmp/mine/name"), read("/dev/shm/mine/name")),
                        ("job's".into(), "job's".into())
                    );
                    let once_more = (2, shm + 1);
                    assert_eq!((mounted_at("/tmp"), mounted_at("/dev/shm")), once_more);
                    let table = read("/proc/thread-self/mountinfo");
                    let shm = table.lines().rfind(|line| line.contains(" /dev/shm ")).unwrap();
                    assert!(shm.contains("nosuid,nodev"), "{shm}");
                    std::fs::write(format!("/tmp/{name}"), "").unwrap();
                };
                world.as_rank_of_own(&udi, look).unwrap();
                assert!(std::fs::exists(world.at(&format!("own/tmp/{name}"))).unwrap());
            }
        }
        world.node().drop_job(1, 0, 0).unwrap();
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn the_nodes_tmp_or_a_new_one_is_not_replaced_by_the_jobs_own_where_the_site_wants_those() {
    on_a_node(|world| {
        world.with_job_directories();
        let image = Image::plain();
        for (tmp, expected) in [("host", "host's"), ("tmpfs=1M", "No such file")] {
            let site = format!("[inside]\ntmp = \"{tmp}\"");
            let job = Job { site: &site, volume: "/tmp/mine:/data", ..Job::new(&image) };
            let udi = world.stage(Job { has_own: true, ..job }).unwrap();
            let look = || (read("/tmp/mine/name"), read("/data/name"), read("/dev/shm/mine/name"));
            let (inside, volume, shm) = world.as_rank_of_own(&udi, look).unwrap();
            assert!(inside.contains(expected), "{tmp}: {inside}");
            assert_eq!((volume.as_str(), shm.as_str()), ("job's", "job's"));
            world.node().drop_job(1, 0, 0).unwrap();
        }
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn a_volume_from_a_directory_of_the_jobs_own_is_the_jobs_and_not_the_hosts() {
    on_a_node(|world| {
        world.with_job_directories();
        world.link("/tmp/mine", "scratch/alice/link");
        let image = Image::plain();
        let link = world.at("scratch/alice/link");
        let volume = format!("/tmp/mine:/data;/dev/shm/mine:/shm:ro;{link}:/linked");
        for _ in 0..2 {
            let job = Job { volume: &volume, has_own: true, ..Job::new(&image) };
            let udi = world.stage(job).unwrap();
            assert!(udi.is_pinned());
            for _ in 0..2 {
                let look = || {
                    for path in ["/data/name", "/shm/name", "/linked/name"] {
                        assert_eq!(read(path), "job's", "{path}");
                    }
                    assert_eq!(mounted_at("/data"), 2, "the host's and once the job's");
                    std::fs::write("/shm/new", "").unwrap_err();
                };
                world.as_rank_of_own(&udi, look).unwrap();
            }
        }
        world.node().drop_job(1, 0, 0).unwrap();
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn a_volume_that_only_the_job_has_is_there_in_every_step_and_without_it_a_mistake() {
    on_a_node(|world| {
        world.with_job_directories();
        world.directory("own/tmp/only");
        world.file("own/tmp/only/name", "only the job's");
        let image = Image::plain();
        let volume = "/tmp/only:/data";
        for _ in 0..2 {
            let udi = world.stage(Job { volume, has_own: true, ..Job::new(&image) }).unwrap();
            let found = world.as_rank_of_own(&udi, || read("/data/name")).unwrap();
            assert_eq!(found, "only the job's");
            // Entered where the job has nothing of its own, no rank finds an empty directory.
            let error = open::in_thread("rank", || udi.enter()).unwrap_err().to_string();
            assert!(
                error.contains("--volume=/tmp/only:/data: cannot open /tmp/only: No such"),
                "{error}"
            );
        }
        let volume = "/tmp/none:/data";
        let udi = world.stage(Job { id: 2, volume, has_own: true, ..Job::new(&image) }).unwrap();
        for _ in 0..2 {
            let error = world.as_rank_of_own(&udi, || ()).unwrap_err();
            assert_eq!(error.blame(), udi::Blame::User, "{error}");
            let words = "--volume=/tmp/none:/data: cannot open /tmp/none: No such file";
            assert!(error.to_string().contains(words), "{error}");
        }
        world.node().drop_job(2, 0, 0).unwrap();
        world.node().drop_job(1, 0, 0).unwrap();
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn by_a_link_of_the_image_the_jobs_own_is_where_the_link_led_and_once() {
    on_a_node(|world| {
        world.with_job_directories();
        world.directory("own/var");
        world.file("own/var/name", "of /var/tmp");
        world.own("own/var", ALICE, 0o700);
        let image = Image::plain().link("/var/tmp", "../tmp");
        let scratch = world.at("scratch/alice");
        let volume =
            &format!("/tmp/mine:/lib/mine;/dev/shm/mine/name:/lib/name;{scratch}:/lib/below");
        for _ in 0..2 {
            let udi = world.stage(Job { volume, has_own: true, ..Job::new(&image) }).unwrap();
            assert!(udi.is_pinned());
            for _ in 0..2 {
                let rank = || {
                    sys::unshare_mounts().unwrap();
                    mount_bind(world.at("own/tmp"), "/tmp").unwrap();
                    mount_bind(world.at("own/shm"), "/dev/shm").unwrap();
                    mount_bind(world.at("own/var"), "/var/tmp").unwrap();
                    udi.enter()?;
                    open::as_account(ALICE, ALICE, &[ALICE], || {
                        assert_eq!(read("/tmp/name"), "of /var/tmp");
                        assert_eq!(
                            ["/usr/lib/mine/name", "/lib/name"].map(read),
                            ["job's", "job's"]
                        );
                        // The host's two, and once the job's.
                        assert_eq!(["/tmp", "/usr/lib/mine"].map(mounted_at), [3, 2]);
                        Ok(())
                    })
                };
                open::in_thread("rank", rank).unwrap();
            }
        }
        world.node().drop_job(1, 0, 0).unwrap();
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn a_volume_from_a_directory_of_the_jobs_own_is_opened_as_the_user() {
    on_a_node(|world| {
        world.with_job_directories();
        world.own("own/tmp/mine", BOB, 0o700);
        world.directory("secret/mine");
        world.own("secret", 0, 0o700);
        let secret = world.at("secret/mine");
        world.link(&secret, "own/tmp/link");
        world.link("/proc/self/root", "own/tmp/magic");
        world.link(&world.at("scratch/bob"), "own/tmp/site");
        let image = Image::plain();
        let site = format!("[volumes]\nnot_from = [\"{}\"]", world.at("scratch/bob"));
        for (volume, words) in [
            ("/tmp/mine/sub:/data", "Permission denied"),
            ("/tmp/link:/data", "Permission denied"),
            ("/tmp/magic:/data", "not a link below /proc"),
            ("/tmp/site:/data", "this site does not allow volumes"),
        ] {
            let job = Job { volume, site: &site, has_own: true, ..Job::new(&image) };
            let udi = world.stage(job).unwrap();
            let error = world.as_rank_of_own(&udi, || ()).unwrap_err();
            assert_eq!(error.blame(), udi::Blame::User, "{error}");
            assert!(error.to_string().contains(words), "{volume}: {error}");
            world.node().drop_job(1, 0, 0).unwrap();
        }
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn a_volume_at_a_place_in_a_directory_of_the_jobs_own_is_not_covered_by_it() {
    on_a_node(|world| {
        world.with_job_directories();
        world.directory("own/tmp/place");
        world.file("scratch/alice/name", "alice's");
        let image = Image::plain();
        let source = world.at("scratch/alice");
        // One place is in the host's /tmp as well, the other only in the job's.
        let volume = format!("{source}:/tmp/mine;{source}:/tmp/place");
        let job = Job { volume: &volume, has_own: true, ..Job::new(&image) };
        for _ in 0..2 {
            let udi = world.stage(job).unwrap();
            for _ in 0..2 {
                let look = || (read("/tmp/mine/name"), read("/tmp/place/name"));
                let found = world.as_rank_of_own(&udi, look).unwrap();
                assert_eq!(found, ("alice's".to_owned(), "alice's".to_owned()));
            }
        }
        world.node().drop_job(1, 0, 0).unwrap();
        std::fs::remove_dir_all(world.at("own/tmp/mine")).unwrap();
        world.link("/etc", "own/tmp/mine");
        let udi = world.stage(job).unwrap();
        for _ in 0..2 {
            let error = world.as_rank_of_own(&udi, || ()).unwrap_err();
            assert_eq!(error.blame(), udi::Blame::User, "{error}");
            assert!(
                error.to_string().contains("cannot reach /tmp/mine in the job's own directory"),
                "{error}"
            );
        }
        world.node().drop_job(1, 0, 0).unwrap();
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn a_volume_of_everything_shows_the_jobs_own_directories_in_it() {
    on_a_node(|world| {
        world.with_job_directories();
        let image = Image::plain();
        let (tmp, shm) = (mounted_at("/tmp"), mounted_at("/dev/shm"));
        let volume = "/:/host;/tmp:/copy";
        let udi = world.stage(Job { volume, has_own: true, ..Job::new(&image) }).unwrap();
        for _ in 0..2 {
            let look = || {
                ["/host/tmp", "/host/dev/shm", "/copy"]
                    .map(|at| (read(&format!("{at}/mine/name")), mounted_at(at)))
            };
            let found = world.as_rank_of_own(&udi, look).unwrap();
            let once_more = [tmp + 1, shm + 1, 2].map(|mounts| ("job's".to_owned(), mounts));
            assert_eq!(found, once_more);
        }
        world.node().drop_job(1, 0, 0).unwrap();
        world.without_job_directories();
    });
}

#[test]
#[ignore = "needs root"]
fn a_directory_that_each_job_has_elsewhere_is_inside_where_the_sites_mount_shows_it() {
    on_a_node(|world| {
        world.with_job_directories();
        world.directory("scratch/local");
        world.file("scratch/local/name", "host's");
        world.directory("own/local");
        world.file("own/local/name", "job's");
        let image = Image::plain();
        let scratch = world.at("scratch");
        let site = format!(
            "[[mount]]\nfrom = \"{scratch}\"\nto = \"/fast\"\nread_only = true\n\
             [[mount]]\nfrom = \"{scratch}\"\nto = \"/top\"\nrecursive = false"
        );
        let udi = world.stage(Job { site: &site, has_own: true, ..Job::new(&image) }).unwrap();
        for _ in 0..2 {
            let rank = || {
                // As by Dirs= in job_container.conf, which newer releases have.
                sys::unshare_mounts().unwrap();
                mount_bind(world.at("own/local"), world.at("scratch/local")).unwrap();
                udi.enter()?;
                open::as_account(ALICE, ALICE, &[ALICE], || {
                    assert_eq!(read("/fast/local/name"), "job's");
                    assert_eq!(mounted_at("/fast/local"), 1);
                    let options = rustix::fs::statvfs("/fast/local").unwrap().f_flag;
                    assert!(options.contains(rustix::fs::StatVfsMountFlags::RDONLY));
                    // The site wants the directory there without what is mounted in it.
                    assert_eq!(read("/top/local/name"), "host's");
                    Ok(())
                })
            };
            open::in_thread("rank", rank).unwrap();
        }
        world.node().drop_job(1, 0, 0).unwrap();
        world.without_job_directories();
    });
}
