//! Images that can be written.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use super::world::*;

/// Whether this kernel shows root's files of a squashfs as the user's: since Linux 6.2.
fn shows_roots_files_as_the_users() -> bool {
    crate::kernel::is_at_least((6, 2))
}

fn image() -> Image {
    Image::plain()
        .file("/usr/lib/python/a.py", "a")
        .file("/usr/lib/python/b.py", "b")
        .directory("/var/lib/open", 0o1777)
}

fn job(image: &Image) -> Job<'_> {
    Job { writable: "1M", ..Job::new(image) }
}

#[test]
#[ignore = "needs root"]
fn where_the_kernel_can_what_is_roots_in_the_image_is_the_users_to_change() {
    on_a_node(|world| {
        let image = image();
        let udi = world.stage(job(&image)).unwrap();
        let can = shows_roots_files_as_the_users();
        as_rank(&udi, ALICE, || {
            let owner = |path: &str| fs::symlink_metadata(path).unwrap().uid();
            let denied = |done: std::io::Result<()>| {
                assert_eq!(done.unwrap_err().kind(), ErrorKind::PermissionDenied);
            };
            // The site's own files stay root's.
            assert_eq!(owner("/etc/passwd"), 0);
            denied(fs::write("/etc/passwd", ""));
            if !can {
                // Only the top, and what anybody may write in the image.
                assert_eq!((owner("/"), owner("/usr/lib/python/a.py")), (ALICE, 0));
                fs::write("/new", "").unwrap();
                fs::write("/var/lib/open/new", "").unwrap();
                denied(fs::write("/usr/lib/python/c.py", ""));
                denied(fs::write("/usr/lib/python/a.py", ""));
                denied(fs::remove_file("/usr/lib/python/a.py"));
                return;
            }
            assert_eq!((owner("/"), owner("/usr/lib/python/a.py")), (ALICE, ALICE));
            fs::create_dir_all("/opt/x").unwrap();
            fs::write("/usr/lib/python/c.py", "c").unwrap();
            fs::write("/lib/python/a.py", "changed").unwrap();
            fs::remove_file("/usr/lib/python/b.py").unwrap();
            fs::rename("/usr/lib/python", "/usr/lib/renamed").unwrap();
            let mut left: Vec<_> = fs::read_dir("/usr/lib/renamed")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            left.sort();
            assert_eq!(left, ["a.py", "c.py"]);
            assert_eq!(fs::read_to_string("/usr/lib/renamed/a.py").unwrap(), "changed");
            fs::remove_dir_all("/usr").unwrap();
        });
    });
}

#[test]
#[ignore = "needs root"]
fn all_steps_of_the_job_see_what_one_wrote_and_nobody_else_does() {
    on_a_node(|world| {
        let image = image();
        let wrote = |udi: &crate::Udi| as_rank(udi, ALICE, || fs::exists("/new").unwrap());
        let first = world.stage(job(&image)).unwrap();
        as_rank(&first, ALICE, || fs::write("/new", "").unwrap());
        assert!(wrote(&world.stage(job(&image)).unwrap()));
        assert!(!wrote(&world.stage(Job { id: 2, ..job(&image) }).unwrap()));
        assert!(!wrote(&world.stage(Job { id: 3, uid: BOB, ..job(&image) }).unwrap()));
        assert!(!wrote(&world.stage(Job { of_job: false, ..Job::new(&image) }).unwrap()));
        world.node().drop_job(1, 0, 0).unwrap();
        drop(first);
        assert!(!wrote(&world.stage(job(&image)).unwrap()));
    });
}

#[test]
#[ignore = "needs root"]
fn no_more_can_be_written_than_was_asked_for() {
    on_a_node(|world| {
        let image = image();
        let udi = world.stage(job(&image)).unwrap();
        as_rank(&udi, ALICE, || {
            let error = fs::write("/var/lib/open/large", vec![1; 2 << 20]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            fs::remove_file("/var/lib/open/large").unwrap();
            fs::write("/var/lib/open/small", vec![1; 1 << 19]).unwrap();
        });
    });
}

#[test]
#[ignore = "needs root"]
fn a_volume_and_a_mount_point_below_what_can_be_written() {
    on_a_node(|world| {
        let image = image();
        let volume = format!("{0}:/new/place;{0}:/usr/lib/mnt", world.at("scratch/alice"));
        let udi = world.stage(Job { volume: &volume, ..job(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            fs::write("/new/place/file", "volume's").unwrap();
            assert_eq!(fs::read_to_string("/usr/lib/mnt/file").unwrap(), "volume's");
        });
        assert!(fs::exists(world.at("scratch/alice/file")).unwrap());
    });
}
