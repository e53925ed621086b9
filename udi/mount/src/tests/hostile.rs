//! What images and users may try.

use super::world::*;
use udi::Blame;

fn refused(world: &World, image: &Image, volume: &str, words: &str) {
    let error = world.stage(Job { volume, ..Job::new(image) }).unwrap_err();
    assert_eq!(error.blame(), Blame::User, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_link_of_the_image_cannot_redirect_a_volume_to_a_protected_place() {
    on_a_node(|world| {
        let image = Image::plain()
            .link("/data", "/etc")
            .link("/up", "../../../../etc")
            .link("/relative", "etc")
            .link("/top", "/")
            .link("/loop", "loop")
            .link("/dangling", "/nowhere/at/all");
        let source = world.at("scratch/alice");
        for to in ["/data", "/up", "/relative", "/data/ssl", "/top", "/top/etc"] {
            refused(world, &image, &format!("{source}:{to}"), "is protected");
        }
        refused(world, &image, &format!("{source}:/loop"), "loop of symbolic links");
        refused(world, &image, &format!("{source}:/dangling"), "is a dangling link");
    });
}

#[test]
#[ignore = "needs root"]
fn where_a_link_of_the_image_leads_from_a_protected_place_is_protected_too() {
    on_a_node(|world| {
        let image = Image::default()
            .directory("/real-etc/below", 0o755)
            .directory("/other/home", 0o755)
            .link("/etc", "../../real-etc")
            .link("/home", "/other/home")
            .link("/settings", "/etc");
        let source = world.at("scratch/alice");
        let site = format!("[[mount]]\nfrom = \"{source}\"\nto = \"/home\"");
        for to in ["/real-etc", "/real-etc/below", "/settings", "/other/home", "/etc/below"] {
            let volume = format!("{source}:{to}");
            let job = Job { volume: &volume, site: &site, ..Job::new(&image) };
            let error = world.stage(job).unwrap_err();
            assert_eq!(error.blame(), Blame::User, "{error}");
            assert!(error.to_string().contains("protected"), "{to}: {error}");
        }
        // What is beside it is the user's.
        let volume = format!("{source}:/other/mnt");
        world.stage(Job { volume: &volume, site: &site, ..Job::new(&image) }).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_link_of_the_image_to_proc_is_the_users_mistake() {
    on_a_node(|world| {
        // A link that leads nowhere is found in the image; this one leads somewhere in both.
        let image = Image::plain().directory("/proc/1/root", 0o755).link("/out", "/proc/1/root");
        let source = world.at("scratch/alice");
        refused(world, &image, &format!("{source}:/out"), "cannot reach /out inside");
    });
}

#[test]
#[ignore = "needs root"]
fn a_link_in_a_volume_cannot_redirect_another_volume_to_a_protected_place() {
    on_a_node(|world| {
        let image = Image::plain();
        world.link("/etc", "scratch/alice/link");
        let source = world.at("scratch/alice");
        refused(world, &image, &format!("{source}:/mnt;{source}:/mnt/link"), "is protected");
    });
}

#[test]
#[ignore = "needs root"]
fn an_images_own_links_in_etc_do_not_lead_our_files_outside() {
    on_a_node(|world| {
        let outside = world.file("scratch/victim", "untouched");
        let image = Image::default()
            .directory("/real-etc", 0o755)
            .link("/etc", "../../../real-etc")
            .link("/real-etc/passwd", &outside)
            .link("/real-etc/group", "/proc/1/root/etc/group");
        let udi = world.stage(Job::new(&image)).unwrap();
        as_rank(&udi, ALICE, || {
            let passwd = std::fs::symlink_metadata("/etc/passwd").unwrap();
            assert!(passwd.is_file());
            assert!(std::fs::read_to_string("/real-etc/passwd").unwrap().contains("alice"));
            assert!(std::fs::symlink_metadata("/etc").unwrap().is_symlink());
        });
        assert_eq!(std::fs::read_to_string(outside).unwrap(), "untouched");
    });
}

#[test]
#[ignore = "needs root"]
fn root_does_not_reach_for_the_user() {
    on_a_node(|world| {
        let image = Image::plain();
        world.directory("scratch/bob/open");
        let below_bob = world.at("scratch/bob/open");
        refused(world, &image, &format!("{below_bob}:/mnt"), "Permission denied");
        // Bob himself may.
        let volume = format!("{below_bob}:/mnt");
        world.stage(Job { volume: &volume, uid: BOB, id: 2, ..Job::new(&image) }).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_source_through_a_link_to_proc_is_refused() {
    on_a_node(|world| {
        let image = Image::plain();
        let secret = std::fs::File::open(world.directory("scratch/bob/open")).unwrap();
        use std::os::fd::AsRawFd;
        let magic = format!("/proc/self/fd/{}", secret.as_raw_fd());
        let link = world.link(&magic, "scratch/alice/fd");
        let root = world.link("/proc/1/root", "scratch/alice/root");
        for source in [&link, &root, &magic, "/proc/1/root", "/proc/thread-self/root"] {
            let error = world
                .stage(Job { volume: &format!("{source}:/mnt"), ..Job::new(&image) })
                .unwrap_err();
            assert_eq!(error.blame(), Blame::User, "{source}: {error}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_source_where_the_site_does_not_allow_it_is_refused_after_links_are_resolved() {
    on_a_node(|world| {
        let image = Image::plain();
        let allowed = world.directory("scratch/alice/allowed");
        let not = world.directory("scratch/alice/not");
        let link = world.link(&not, "scratch/alice/allowed/link");
        let site = format!("[volumes]\nfrom = [\"{allowed}\"]");
        let stage = |source: &str| {
            let volume = format!("{source}:/mnt");
            world.stage(Job { volume: &volume, site: &site, ..Job::new(&image) })
        };
        let error = stage(&link).unwrap_err().to_string();
        assert!(error.contains("does not allow volumes from"), "{error}");
        assert!(stage(&format!("{allowed}/../not")).is_err());
        stage(&allowed).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_device_is_no_volume() {
    on_a_node(|world| {
        refused(world, &Image::plain(), "/dev/null:/mnt", "FROM is a device");
    });
}

#[test]
#[ignore = "needs root"]
fn what_is_made_for_a_volume_is_held_to_the_same_places() {
    on_a_node(|world| {
        let image = Image::plain().link("/link", "/etc");
        refused(world, &image, "none:/link:tmpfs=size=1M", "is protected");
    });
}
