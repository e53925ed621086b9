//! Images of the node's own, below directories that the site lists.

use std::fs;

use udi::Blame;

use super::world::*;

fn site(world: &World) -> String {
    format!("[images]\nlocal = [\"{}\"]", world.directory("images"))
}

#[test]
#[ignore = "needs root"]
fn a_directory_of_roots_is_an_image_that_nobody_can_write() {
    on_a_node(|world| {
        let site = site(world);
        world.directory("images/debian/usr/bin");
        world.directory("images/debian/etc");
        world.file("images/debian/etc/os-release", "NAME=own\n");
        let local = format!("local:{}", world.at("images/debian"));
        let none = Image::default();
        let job = Job { local: &local, site: &site, ..Job::new(&none) };
        let udi = world.stage(job).unwrap();
        as_rank(&udi, ALICE, || {
            assert_eq!(fs::read_to_string("/etc/os-release").unwrap(), "NAME=own\n");
            assert!(fs::read_to_string("/etc/passwd").unwrap().contains("alice"));
            assert!(fs::write("/new", "").is_err());
        });
        assert_eq!(udi.info().unwrap(), udi::ImageInfo::default());
        // And one that can be written is not written either.
        let udi = world.stage(Job { id: 2, writable: "1M", ..job }).unwrap();
        as_rank(&udi, ALICE, || fs::write("/new", "").unwrap());
        assert!(!fs::exists(world.at("images/debian/new")).unwrap());
        assert!(!fs::exists(world.at("images/debian/etc/passwd")).unwrap());
    });
}

#[test]
#[ignore = "needs root"]
fn a_squashfs_file_of_roots_is_mounted_once_and_anew_when_it_is_replaced() {
    on_a_node(|world| {
        let site = site(world);
        let put = |image: &Image| {
            fs::write(world.at("images/new"), image.pack()).unwrap();
            fs::rename(world.at("images/new"), world.at("images/own.sqsh")).unwrap();
        };
        let local = format!("local:{}", world.at("images/own.sqsh"));
        let none = Image::default();
        let job = |id, uid| Job { id, uid, local: &local, site: &site, ..Job::new(&none) };
        let read = |job: Job<'_>| {
            let udi = world.stage(job).unwrap();
            as_rank(&udi, ALICE, || fs::read_to_string("/etc/os-release").unwrap())
        };
        let mounted = || fs::read_dir(world.at("run/shifter/images")).unwrap().count();
        put(&Image::plain());
        assert_eq!(read(job(1, ALICE)), "NAME=image\n");
        assert_eq!(read(job(2, BOB)), "NAME=image\n");
        assert_eq!(mounted(), 1);
        put(&Image::plain().file("/etc/os-release", "NAME=new\n"));
        assert_eq!(read(job(3, ALICE)), "NAME=new\n");
        assert_eq!(mounted(), 2);
        for id in [1, 2, 3] {
            world.node().drop_job(id, 0, 0).unwrap();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn what_others_than_root_could_have_written_is_no_image() {
    on_a_node(|world| {
        let site = site(world);
        let none = Image::default();
        let stage = |path: &str| {
            let local = format!("local:{}", world.at(path));
            let staged = world.stage(Job { local: &local, site: &site, ..Job::new(&none) });
            staged.map(|_| ()).map_err(|error| (error.blame(), error.to_string()))
        };
        let refused = |path: &str, who: Blame, words: &str| {
            let (blame, error) = stage(path).unwrap_err();
            assert!(blame == who && error.contains(words), "{path}: {error}");
        };
        let file = |path: &str, mode| {
            fs::write(world.at(path), Image::plain().pack()).unwrap();
            world.own(path, 0, mode);
        };
        file("images/good", 0o644);
        stage("images/good").unwrap();
        world.node().drop_job(1, 0, 0).unwrap();

        file("images/shared", 0o664);
        refused("images/shared", Blame::Admin, "others than root can write it");
        file("images/alices", 0o644);
        world.own("images/alices", ALICE, 0o644);
        refused("images/alices", Blame::Admin, "belongs to uid 1001");
        world.directory("images/below");
        file("images/below/good", 0o644);
        world.own("images/below", ALICE, 0o755);
        refused("images/below/good", Blame::Admin, "belongs to uid 1001");
        world.own("images/below", 0, 0o755);
        stage("images/below/good").unwrap();
        world.node().drop_job(1, 0, 0).unwrap();

        file("images/closed", 0o600);
        refused("images/closed", Blame::User, "Permission denied");
        fs::hard_link(world.at("images/good"), world.at("images/second")).unwrap();
        refused("images/second", Blame::Admin, "has other names");
        let writer = fs::File::options().append(true).open(world.at("images/below/good")).unwrap();
        refused("images/below/good", Blame::Admin, "is open for writing");
        drop(writer);
        fs::write(world.at("images/text"), "text").unwrap();
        refused("images/text", Blame::Admin, "is not a squashfs file");
        refused("images/none", Blame::User, "there is no");
        // A link that stays inside is the site's own affair.
        world.link("below/good", "images/link");
        stage("images/link").unwrap();
        world.node().drop_job(1, 0, 0).unwrap();
        world.link("../scratch", "images/out");
        refused("images/out/alice", Blame::Admin, "leads out of");
        world.link("/etc", "images/etc");
        refused("images/etc", Blame::Admin, "leads out of");
        refused("scratch/alice", Blame::User, "not below a directory that this site lists");
    });
}
