//! Images that are not squashfs.

use super::world::*;
use crate::image::{self, ImageFile};
use crate::open;

/// A file system with one file, made by the system's own program.
fn made(world: &World, kind: &str) -> ImageFile {
    let tree = world.directory("tree/etc");
    std::fs::write(format!("{tree}/kind"), kind).unwrap();
    let path = world.at(&format!("store/{kind}"));
    let tree = world.at("tree");
    let words = match kind {
        "ext4" => vec!["mke2fs", "-q", "-t", "ext4", "-d", &tree, &path, "8M"],
        _ => vec!["mkfs.erofs", "--quiet", &path, &tree],
    };
    let done = std::process::Command::new(words[0]).args(&words[1..]).output();
    let done = done.unwrap_or_else(|e| panic!("{}: {e}", words[0]));
    assert!(done.status.success(), "{done:?}");
    let fd = std::fs::File::open(&path).unwrap().into();
    ImageFile { fd, name: kind.into(), kind: kind.into() }
}

#[test]
#[ignore = "needs root"]
fn ext4_and_erofs_images_are_mounted_read_only_nosuid_and_nodev() {
    on_a_node(|world| {
        for kind in ["ext4", "erofs"] {
            let file = made(world, kind);
            open::in_thread("mount", || {
                let host = std::fs::File::open("/proc/thread-self/ns/mnt").unwrap().into();
                let (tree, _) = image::mount(&world.node(), &host, &file)?;
                let stat = rustix::fs::fstatvfs(&tree).unwrap();
                let flags = rustix::fs::StatVfsMountFlags::RDONLY
                    | rustix::fs::StatVfsMountFlags::NOSUID
                    | rustix::fs::StatVfsMountFlags::NODEV;
                assert!(stat.f_flag.contains(flags), "{kind}: {:?}", stat.f_flag);
                let text = rustix::fs::openat(
                    &tree,
                    "etc/kind",
                    rustix::fs::OFlags::RDONLY,
                    rustix::fs::Mode::empty(),
                );
                let text = std::io::read_to_string(std::fs::File::from(text.unwrap())).unwrap();
                assert_eq!(text, kind);
                // The second one finds the first one's mount.
                image::mount(&world.node(), &host, &file).map(drop)
            })
            .unwrap();
        }
    });
}
