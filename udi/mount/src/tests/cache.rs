//! Per-node caches, with the system's own mkfs and the kernel's own loop devices.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Resource, Rlimit, setrlimit};
use udi::{Blame, Error};

use super::life::eventually;
use super::world::*;
use crate::cache::{OTHER_STORAGE, mkfs};
use crate::loopdev::LoopDevice;

const SITE: &str = "[cache]\ndirectories = [\"/srv/caches\"]\n";

/// A node with a directory for caches, all of it in memory.
fn on_a_node_with_caches(test: impl FnOnce(&World) + Send) {
    on_a_node(|world| {
        world.directory("caches");
        world.own("caches", STORE_OWNER, 0o700);
        test(world);
        eventually("no cache is left", || caches(world).is_empty());
    });
}

fn volume(size: &str, fs: &str) -> String {
    format!("none:/c:perNodeCache=size={size},fs={fs}")
}

fn job<'a>(image: &'a Image, volume: &'a str) -> Job<'a> {
    Job { volume, site: SITE, ..Job::new(image) }
}

/// Sizes of the caches of this node, in MiB.
fn caches(world: &World) -> Vec<u64> {
    let jobs = std::fs::metadata(format!("{}/jobs", world.run())).unwrap();
    let ours = format!("shifter-cache {} ", jobs.dev());
    let all = LoopDevice::writable(STORE_OWNER).unwrap().into_iter();
    all.filter(|(label, _)| label.starts_with(&ours)).map(|(_, bytes)| bytes >> 20).collect()
}

fn free(path: &str) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_bavail * stat.f_frsize) >> 20
}

fn refused(world: &World, volume: &str, site: &str) -> Error {
    let image = Image::plain();
    world.stage(Job { volume, site, id: 77, ..Job::new(&image) }).unwrap_err()
}

/// Writes until nothing more fits; how many MiB did.
fn fill(path: &str) -> u64 {
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![1_u8; 1 << 20];
    let mut written = 0;
    loop {
        match std::io::Write::write_all(&mut file, &block) {
            Ok(()) => written += 1,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
                return written;
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_cache_is_empty_and_mine_alone_and_holds_what_i_asked_for() {
    on_a_node_with_caches(|world| {
        let image = Image::plain();
        for (fs, size, least) in [("xfs", "300M", 200), ("ext4", "64M", 56)] {
            let volume = volume(size, fs);
            let udi = world.stage(job(&image, &volume)).unwrap();
            as_rank(&udi, ALICE, || {
                let root = std::fs::metadata("/c").unwrap();
                assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (ALICE, ALICE, 0o700));
                assert_eq!(std::fs::read_dir("/c").unwrap().count(), 0);
                let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                let line = table.lines().find(|line| line.contains(" /c ")).unwrap();
                assert!(line.contains(" rw,nosuid,nodev,noatime ") && line.contains(fs), "{line}");
                std::fs::write("/c/hello", "there").unwrap();
                let fits = fill("/c/big");
                assert!((least..=300).contains(&fits), "{fits} MiB in {volume}");
                std::fs::remove_file("/c/big").unwrap();
                assert_eq!(std::fs::read_to_string("/c/hello").unwrap(), "there");
            });
            let others = as_rank(&udi, BOB, || std::fs::read_dir("/c").map(|_| ()));
            assert!(others.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied));
            drop(udi);
            world.node().drop_job(1, 0, 0).unwrap();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn nobody_ever_reaches_the_file_below_a_cache() {
    on_a_node_with_caches(|world| {
        let image = Image::plain();
        let volume = volume("64M", "ext4");
        let _udi = world.stage(job(&image, &volume)).unwrap();
        assert_eq!(caches(world), [64]);
        assert_eq!(std::fs::read_dir("/srv/caches").unwrap().count(), 0, "it has a name");
        let here = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let open = here.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let ours: Vec<_> = open.filter(|to| to.starts_with("/srv/caches")).collect();
        assert!(ours.is_empty(), "still open: {ours:?}");
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_cache_and_its_storage_go_with_the_udi() {
    on_a_node_with_caches(|world| {
        let image = Image::plain();
        let volume = volume("300M", "xfs");
        let before = free("/srv/caches");
        let udi = world.stage(job(&image, &volume)).unwrap();
        as_rank(&udi, ALICE, || {
            std::fs::write("/c/data", vec![1_u8; 100 << 20]).unwrap();
            rustix::fs::sync();
        });
        assert!(free("/srv/caches") + 99 < before, "its data is not there");
        // The job is over, but a process of it lives on.
        world.node().drop_job(1, 0, 0).unwrap();
        assert_eq!(caches(world), [300]);
        drop(udi);
        eventually("its storage is free", || free("/srv/caches") + 2 > before);
    });
}

#[test]
#[ignore = "needs root"]
fn steps_of_a_job_share_a_cache_and_a_step_of_its_own_mind_has_its_own() {
    on_a_node_with_caches(|world| {
        let image = Image::plain();
        let volume = volume("64M", "ext4");
        let first = world.stage(job(&image, &volume)).unwrap();
        as_rank(&first, ALICE, || std::fs::write("/c/from", "the first step").unwrap());
        drop(first);
        let second = world.stage(job(&image, &volume)).unwrap();
        assert!(as_rank(&second, ALICE, || std::fs::exists("/c/from").unwrap()));
        let own = world.stage(Job { of_job: false, ..job(&image, &volume) }).unwrap();
        assert!(!as_rank(&own, ALICE, || std::fs::exists("/c/from").unwrap()));
        assert_eq!(caches(world).len(), 2);
        drop((second, own));
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn i_have_as_much_as_the_site_allows_me_and_all_of_us_as_it_allows_a_node() {
    on_a_node_with_caches(|world| {
        let image = Image::plain();
        let site = format!("{SITE}max_user = \"100M\"\nmax_node = \"150M\"\n");
        let small = volume("64M", "ext4");
        let job = |id, uid| Job { id, uid, site: &site, ..job(&image, &small) };
        let first = world.stage(job(1, ALICE)).unwrap();
        let error = world.stage(job(2, ALICE)).unwrap_err();
        assert_eq!(error.blame(), Blame::User);
        let said = "you have 64M of caches on this node already, and this site allows 100M";
        assert!(error.what().contains(said), "{error}");
        let bobs = world.stage(job(3, BOB)).unwrap();
        let error = world.stage(job(4, 1003)).unwrap_err();
        assert_eq!(error.blame(), Blame::User);
        assert!(error.what().contains("all users together have 128M of caches"), "{error}");

        // One that comes right after another waits for what the kernel still has to do.
        world.node().drop_job(1, 0, 0).unwrap();
        let last = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(first);
        });
        world.stage(job(2, ALICE)).unwrap();
        last.join().unwrap();
        drop(bobs);
        for id in 2..=4 {
            world.node().drop_job(id, 0, 0).unwrap();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn when_the_storage_behind_is_full_writes_fail_and_the_job_still_ends() {
    for fs in ["xfs", "ext4"] {
        on_a_node_with_caches(|world| {
            let small = Some(c"size=400m");
            rustix::mount::mount("small", "/srv/caches", "tmpfs", MountFlags::empty(), small)
                .unwrap();
            world.own("caches", STORE_OWNER, 0o700);
            let image = Image::plain();
            let volume = volume("300M", fs);
            let udi = world.stage(job(&image, &volume)).unwrap();
            let filler = std::fs::File::create("/srv/caches/filler").unwrap();
            let all_but_20 = (free("/srv/caches") - 20) << 20;
            rustix::fs::fallocate(&filler, FallocateFlags::empty(), 0, all_but_20).unwrap();
            as_rank(&udi, ALICE, || {
                for number in 0..1000 {
                    let _ = std::fs::write(format!("/c/{number}"), vec![1_u8; 100 << 10]);
                }
                // XFS would try for ever, and its users could not be killed.
                if fs == "xfs" {
                    let device = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
                    let device = device.lines().find(|line| line.contains(" /c ")).unwrap();
                    let device = &device["/dev/".len()..device.find(' ').unwrap()];
                    let retries = format!("/sys/fs/xfs/{device}/error/metadata/ENOSPC/max_retries");
                    assert_eq!(std::fs::read_to_string(retries).unwrap(), "5\n");
                }
                let root = std::fs::File::open("/c").unwrap();
                let written = rustix::fs::syncfs(&root);
                assert!(written.is_err(), "100 MiB fit into 20");
            });
            drop(udi);
            world.node().drop_job(1, 0, 0).unwrap();
            drop(filler);
            eventually("the storage is free", || {
                rustix::mount::unmount("/srv/caches", UnmountFlags::empty()).is_ok()
            });
        });
    }
}

#[test]
#[ignore = "needs root"]
fn storage_that_cannot_carry_a_cache_is_the_sites_and_says_why() {
    on_a_node_with_caches(|world| {
        rustix::mount::mount("small", "/srv/caches", "tmpfs", MountFlags::empty(), None).unwrap();
        world.own("caches", STORE_OWNER, 0o700);
        rustix::mount::mount_remount("/srv/caches", MountFlags::RDONLY, "").unwrap();
        let error = refused(world, &volume("64M", "ext4"), SITE);
        assert_eq!(error.blame(), Blame::Admin);
        let said = "cannot make a file in /srv/caches, a directory of cache.directories";
        assert!(error.what().contains(said), "{error}");
        assert!(error.to_string().contains("Read-only file system"), "{error}");
        rustix::mount::unmount("/srv/caches", UnmountFlags::empty()).unwrap();
    });
}

/// Huge pages: files can be as long as they like, but the kernel writes none and puts none behind
/// a loop device.
fn on_a_node_with_caches_on_huge_pages(test: impl FnOnce(&World) + Send) {
    on_a_node_with_caches(|world| {
        let none = MountFlags::empty();
        rustix::mount::mount("none", "/srv/caches", "hugetlbfs", none, None).unwrap();
        world.own("caches", STORE_OWNER, 0o700);
        test(world);
        assert!(caches(world).is_empty());
        // It could not go while a file of it is open, or behind a loop device.
        eventually("nothing holds it", || {
            rustix::mount::unmount("/srv/caches", UnmountFlags::empty()).is_ok()
        });
    });
}

#[test]
#[ignore = "needs root"]
fn storage_on_which_no_file_system_can_be_made_is_the_sites_and_says_why() {
    on_a_node_with_caches_on_huge_pages(|world| {
        for (fs, program) in [("xfs", "/usr/sbin/mkfs.xfs"), ("ext4", "/usr/sbin/mke2fs")] {
            let error = refused(world, &volume("300M", fs), SITE);
            assert_eq!(error.blame(), Blame::Admin);
            let said = format!("a cache in /srv/caches: {program} failed: exit status: 1 (");
            assert!(error.what().contains(&said), "{error}");
            assert!(error.what().contains("Invalid argument"), "{error}");
            let hint =
                format!("see what {STORE_OWNER} may store there (quota), or name other storage");
            assert!(error.to_string().contains(&hint), "{error}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn storage_whose_files_cannot_be_block_devices_is_the_sites_and_says_why() {
    on_a_node_with_caches_on_huge_pages(|world| {
        // Else it would not come to that.
        let does_nothing = world.file("does-nothing", "#!/bin/sh\n");
        world.own("does-nothing", 0, 0o755);
        rustix::mount::mount_bind(&does_nothing, "/usr/sbin/mke2fs").unwrap();
        let error = refused(world, &volume("64M", "ext4"), SITE);
        rustix::mount::unmount("/usr/sbin/mke2fs", UnmountFlags::empty()).unwrap();
        assert_eq!(error.blame(), Blame::Admin);
        // Older kernels let it be a device that cannot be written, and empty.
        let refused = "the kernel puts no file of this storage behind a loop device: Invalid arg";
        let said =
            [refused, "cannot mount it"].map(|said| format!("a cache in /srv/caches: {said}"));
        assert!(said.iter().any(|said| error.what().contains(said)), "{error}");
        assert!(error.to_string().contains(OTHER_STORAGE), "{error}");
    });
}

/// Set for a test that runs itself, as a process of its own.
const ITSELF: &str = "SHIFTER_TEST_ITSELF";

#[test]
#[ignore = "needs root"]
fn slurmds_own_limit_for_files_is_told_and_kills_nothing() {
    const NAME: &str = "tests::cache::slurmds_own_limit_for_files_is_told_and_kills_nothing";
    if std::env::var_os(ITSELF).is_none() {
        // The limit is the whole process's; and beyond it, there would be a deadly signal.
        let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
        let itself = itself.args(["--exact", NAME, "--ignored", "--nocapture"]).env(ITSELF, "1");
        let ran = itself.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{ran:?}");
        return;
    }
    on_a_node_with_caches(|world| {
        let limit = Rlimit { current: Some(100 << 20), maximum: Some(100 << 20) };
        setrlimit(Resource::Fsize, limit).unwrap();
        let error = refused(world, &volume("300M", "ext4"), SITE);
        assert_eq!(error.blame(), Blame::Admin);
        assert!(error.what().ends_with("may have files of 100M at most"), "{error}");
        let hint = "set LimitFSIZE=infinity (ulimit -f unlimited) for slurmd and restart it; \
                    until then a cache of 100M may work";
        assert!(error.to_string().contains(hint), "{error}");
        let image = Image::plain();
        let udi = world.stage(job(&image, &volume("100M", "ext4"))).unwrap();
        // The kernel's own writes to the file do not count.
        as_rank(&udi, ALICE, || std::fs::write("/c/x", vec![1_u8; 90 << 20]).unwrap());
        drop(udi);
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn more_than_is_free_is_refused_with_what_is_there() {
    on_a_node_with_caches(|world| {
        let size = format!("{}M", free("/srv/caches") + 4096);
        let error = refused(world, &volume(&size, "xfs"), SITE);
        assert_eq!(error.blame(), Blame::User);
        assert!(error.what().contains("storage for caches (/srv/caches) has "), "{error}");
        assert!(error.to_string().contains("ask for less than "), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_directory_that_others_can_enter_or_replace_is_the_sites_fault() {
    on_a_node_with_caches(|world| {
        let chown = format!("chown {STORE_OWNER} /srv/caches; chmod 700 /srv/caches");
        let is_refused = |why: &str, hint: &str| {
            let error = refused(world, &volume("64M", "ext4"), SITE);
            assert_eq!(error.blame(), Blame::Admin, "{error}");
            let said = error.to_string();
            assert!(said.contains(&format!("cache.directories: {why}")), "{said}");
            assert!(said.contains(hint), "{said}");
        };
        world.own("caches", STORE_OWNER, 0o750);
        is_refused(&format!("/srv/caches belongs to uid {STORE_OWNER} with mode 750"), &chown);
        world.own("caches", ALICE, 0o700);
        is_refused("/srv/caches belongs to uid 1001 with mode 700", &chown);
        std::fs::rename("/srv/caches", "/srv/real").unwrap();
        is_refused(
            &format!("{STORE_OWNER} cannot open /srv/caches: No such file or directory"),
            &format!("install -d -o {STORE_OWNER} -m 700 /srv/caches"),
        );
        world.own("real", STORE_OWNER, 0o700);
        world.link("real", "caches");
        is_refused("/srv/caches is not a directory, but perhaps a link", "name the directory");
        std::fs::remove_file("/srv/caches").unwrap();
        std::fs::rename("/srv/real", "/srv/caches").unwrap();
        world.own("", 0, 0o777);
        is_refused("others can write /srv", "chmod go-w /srv");
        world.own("", ALICE, 0o755);
        is_refused("/srv belongs to uid 1001, not to root", "chown root /srv");
        world.own("", 0, 0o1777);
    });
}

#[test]
#[ignore = "needs root"]
fn a_node_without_the_program_names_it_and_its_package() {
    on_a_node_with_caches(|world| {
        let empty = world.directory("empty");
        rustix::mount::mount_bind(&empty, "/usr/sbin").unwrap();
        let error = refused(world, &volume("300M", "xfs"), SITE);
        rustix::mount::unmount("/usr/sbin", UnmountFlags::empty()).unwrap();
        assert_eq!(error.blame(), Blame::Admin);
        assert!(error.what().contains("this node has no /usr/sbin/mkfs.xfs"), "{error}");
        assert!(error.to_string().contains("install xfsprogs"), "{error}");
    });
}

/// What `script` says, run as a mkfs would be.
fn as_mkfs(world: &World, script: &str, limit: Duration) -> Error {
    use std::io::Read;
    let path = world.at("caches/file");
    let file: std::os::fd::OwnedFd = std::fs::File::create_new(&path).unwrap().into();
    world.own("caches/file", STORE_OWNER, 0o600);
    let error = mkfs::run("/bin/sh", &["-c", script, "sh"], &file, STORE_OWNER, limit).unwrap_err();
    let mut written = String::new();
    std::fs::File::open(&path).unwrap().read_to_string(&mut written).unwrap();
    assert_eq!(written, "mine");
    error
}

#[test]
#[ignore = "needs root"]
fn mkfs_has_the_file_and_nothing_else_of_ours() {
    on_a_node_with_caches(|world| {
        // Like Slurm's own, some of which a program would inherit.
        let leak = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let script = "printf mine >>$1; id -u; id -G; echo env: $(export)
            grep -E 'NoNewPrivs|CapEff|CapPrm' /proc/self/status | tr '\\n' ' '
            echo; echo open:; ls /proc/$$/fd; exit 3";
        let error = as_mkfs(world, script, Duration::from_secs(10)).what();
        for said in [
            "/bin/sh failed: exit status: 3",
            &format!("({STORE_OWNER}, 65534, "),
            "CapPrm:\t0000000000000000 CapEff:\t0000000000000000 NoNewPrivs:\t1",
        ] {
            assert!(error.contains(said), "{said:?} is not in {error}");
        }
        let environment = error.split("env: ").nth(1).unwrap().split(", ").next().unwrap();
        assert!(!environment.contains("HOME") && !environment.contains("USER"), "{environment}");
        // Standard input and outputs, and the file.
        let open = error.rsplit("open:, ").next().unwrap().trim_end_matches(')');
        let open: Vec<&str> = open.split(", ").collect();
        let inherited = ["0", "1", "2"].iter().filter(|fd| open.contains(fd)).count();
        assert!(inherited == 3 && open.len() == 4, "{open:?}");
    });
}

#[test]
#[ignore = "needs root"]
fn mkfs_does_not_hold_a_job_up_for_ever() {
    on_a_node_with_caches(|world| {
        let script = "printf mine >>$1; echo still working; exec sleep 100";
        let error = as_mkfs(world, script, Duration::from_millis(300));
        assert_eq!(error.blame(), Blame::Admin);
        let said = "it was stopped after 0.3 seconds (still working)";
        assert!(error.what().contains(said), "{error}");
    });
}
