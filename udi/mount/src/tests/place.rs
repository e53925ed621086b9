//! Where mounts end up.

use super::world::*;

#[test]
#[ignore = "needs root"]
fn a_volume_shows_the_users_files_at_any_depth() {
    on_a_node(|world| {
        let image = Image::plain();
        world.file("scratch/alice/f", "mine");
        let file = world.at("scratch/alice/f");
        let directory = world.at("scratch/alice");
        let volume = format!("{directory}:/not/in/image;{file}:/also/a file é");
        let udi = world.stage(Job { volume: &volume, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            assert_eq!(std::fs::read_to_string("/not/in/image/f").unwrap(), "mine");
            assert_eq!(std::fs::read_to_string("/also/a file é").unwrap(), "mine");
            std::fs::write("/not/in/image/g", "new").unwrap();
        });
        assert_eq!(std::fs::read_to_string(world.at("scratch/alice/g")).unwrap(), "new");
    });
}

#[test]
#[ignore = "needs root"]
fn a_mount_below_a_link_of_the_image_does_not_hide_the_links_directory() {
    on_a_node(|world| {
        let image = Image::plain().file("/usr/lib/libc.so", "libc");
        let volume = format!("{}:/lib/mod", world.at("scratch/alice"));
        let udi = world.stage(Job { volume: &volume, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            assert_eq!(std::fs::read_to_string("/lib/libc.so").unwrap(), "libc");
            assert!(std::fs::symlink_metadata("/lib").unwrap().is_symlink());
            assert!(std::fs::metadata("/usr/lib/mod").unwrap().is_dir());
        });
    });
}

#[test]
#[ignore = "needs root"]
fn directories_on_the_way_keep_the_images_owner_and_mode() {
    on_a_node(|world| {
        let image = Image::plain().directory("/opt/private", 0o711);
        let volume = format!("{}:/opt/private/new", world.at("scratch/alice"));
        let udi = world.stage(Job { volume: &volume, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            use std::os::unix::fs::MetadataExt;
            assert_eq!(std::fs::metadata("/opt/private").unwrap().mode() & 0o7777, 0o711);
            assert_eq!(std::fs::metadata("/").unwrap().mode() & 0o7777, 0o755);
        });
    });
}

#[test]
#[ignore = "needs root"]
fn a_file_on_a_directory_and_the_other_way_round_is_explained() {
    on_a_node(|world| {
        let image = Image::plain();
        world.file("scratch/alice/f", "");
        let file = world.at("scratch/alice/f");
        let volume = format!("{file}:/usr/lib");
        let error = world.stage(Job { volume: &volume, ..Job::new(&image) }).unwrap_err();
        assert_eq!(error.blame(), udi::Blame::User);
        assert!(error.to_string().contains("one is a directory and the other is not"), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_volume_below_another_needs_its_place_to_exist_there() {
    on_a_node(|world| {
        let image = Image::plain();
        world.directory("scratch/alice/sub");
        let source = world.at("scratch/alice");
        let good = format!("{source}:/data;{source}:/data/sub");
        world.stage(Job { volume: &good, ..Job::new(&image) }).unwrap();
        let bad = format!("{source}:/data;{source}:/data/absent");
        let error = world.stage(Job { volume: &bad, id: 2, ..Job::new(&image) }).unwrap_err();
        assert_eq!(error.blame(), udi::Blame::User);
        assert!(error.to_string().contains("/data/absent does not exist there"), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_missing_site_mount_is_the_sites_fault_unless_optional() {
    on_a_node(|world| {
        let image = Image::plain();
        let site = "[[mount]]\nfrom = \"/nonexistent/x\"\n";
        let error = world.stage(Job { site, ..Job::new(&image) }).unwrap_err();
        assert_eq!(error.blame(), udi::Blame::Admin);
        assert!(error.to_string().contains("/nonexistent/x"), "{error}");
        let site = "[[mount]]\nfrom = \"/nonexistent/x\"\noptional = true\n";
        world.stage(Job { site, id: 2, ..Job::new(&image) }).unwrap();
    });
}
