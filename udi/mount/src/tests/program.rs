//! The program `shifter` in images, and what an image says of itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use rustix::mount::{MountFlags, UnmountFlags};

use super::world::*;

const HOST: &str = "/usr/libexec";
const INSIDE: &str = "/usr/bin/shifter";

#[test]
#[ignore = "needs root"]
fn every_image_that_has_none_gets_the_program_shifter_if_it_is_roots_alone() {
    on_a_node(|world| {
        fs::create_dir_all(HOST).unwrap();
        rustix::mount::mount("t", HOST, "tmpfs", MountFlags::empty(), None).unwrap();
        let found = |id: u32, name: &str, image: &Image| {
            let udi = world.stage(Job { id, name, ..Job::new(image) }).unwrap();
            as_rank(&udi, ALICE, || {
                assert!(fs::write(INSIDE, "").is_err());
                fs::read_to_string(INSIDE).ok()
            })
        };
        let plain = Image::plain();
        assert_eq!(found(1, "plain", &plain), None);
        fs::create_dir(format!("{HOST}/shifter")).unwrap();
        let program = format!("{HOST}/shifter/shifter");
        fs::write(&program, "ours").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(found(2, "plain", &plain).as_deref(), Some("ours"));
        let own = Image::plain().file(INSIDE, "theirs");
        assert_eq!(found(3, "own", &own).as_deref(), Some("theirs"));
        // What is in the way is no reason to fail.
        for (id, name, image) in [
            (4, "file", Image::plain().file("/usr/bin", "")),
            (5, "nowhere", Image::plain().link("/usr/bin", "/nowhere")),
            (6, "circle", Image::plain().link("/usr/bin", "bin")),
            (7, "link", Image::plain().link(INSIDE, "/nowhere")),
            (8, "directory", Image::plain().directory(INSIDE, 0o755)),
        ] {
            assert_eq!(found(id, name, &image), None, "{name}");
        }
        fs::set_permissions(&program, Permissions::from_mode(0o757)).unwrap();
        assert_eq!(found(9, "plain", &plain), None);
        rustix::mount::unmount(HOST, UnmountFlags::DETACH).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn what_an_image_says_of_itself_is_read_without_following_it_anywhere() {
    on_a_node(|world| {
        let says = |image: Image| image.file("/.shifter/image.json", "{\"env\":[\"A=1\"]}");
        let image = says(Image::plain());
        let first = world.stage(Job::new(&image)).unwrap();
        let again = world.stage(Job::new(&image)).unwrap();
        assert_eq!(first.info().unwrap().env, ["A=1"]);
        assert_eq!(again.info().unwrap().env, ["A=1"]);
        let silent = Image::plain();
        let job = |id, name| Job { id, name, ..Job::new(&silent) };
        assert!(world.stage(job(2, "silent")).unwrap().info().unwrap().env.is_empty());
        for (id, name, image) in [
            (3, "link", Image::plain().link("/.shifter/image.json", "/etc/hostname")),
            (4, "links", Image::plain().link("/.shifter", "/proc/1")),
            (5, "noise", Image::plain().file("/.shifter/image.json", "{\"env\":7}")),
            (6, "directory", Image::plain().directory("/.shifter/image.json", 0o755)),
        ] {
            let udi = world.stage(Job { image: &image, ..job(id, name) }).unwrap();
            let error = udi.info().unwrap_err().what();
            assert!(error.starts_with("cannot read the image's /.shifter/image.json"), "{error}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn who_writes_into_the_image_cannot_make_root_wait_at_what_it_says_of_itself() {
    on_a_node(|world| {
        let image = Image::plain().file("/.shifter/image.json", "{}");
        let udi = world.stage(Job { writable: "1M", ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            if fs::remove_file("/.shifter/image.json").is_ok() {
                let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                let fifo = rustix::fs::FileType::Fifo;
                let here = rustix::fs::CWD;
                rustix::fs::mknodat(here, "/.shifter/image.json", fifo, mode, 0).unwrap();
            }
        });
        // It ends, whatever it finds.
        let _ = udi.info();
    });
}
