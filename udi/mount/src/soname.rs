//! Links by which programs ask for the libraries that modules mount file by file.
//!
//! A driver's libraries come by the names of their files (`libcuda.so.550.54`), programs ask for
//! their sonames (`libcuda.so.1`), and links that the driver's maker wants (`libcuda.so`) lead to
//! those. In a container ldconfig would make them, run as root in the image; here they are read
//! from the host's files.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use udi::{Elf, GuestPath, Plan, Source};

use crate::loader::Open;

/// Where links go, and what they say. To be called where the host's files are seen.
pub(crate) fn links(plan: &Plan) -> Vec<(GuestPath, String)> {
    let mut links: Vec<(GuestPath, String)> = Vec::new();
    for mount in &plan.mounts {
        let (directory, file) = mount.target.split();
        let Source::Host(from) = &mount.source else { continue };
        let searched = plan.ldcache.iter().any(|it| it.directory == directory);
        if !searched || mount.is_users() || !(file.starts_with("lib") && file.contains(".so")) {
            continue;
        }
        let Some(soname) = soname(from).filter(|soname| soname != file) else { continue };
        let Ok(link) = GuestPath::parse(&format!("{directory}/{soname}")) else { continue };
        let is_taken = plan.files.iter().any(|other| *other.path() == link)
            || plan.mounts.iter().any(|other| other.target == link)
            || links.iter().any(|(other, _)| *other == link);
        // A soname is a name: with a slash in it the link would be elsewhere.
        if !is_taken && link.split().0 == directory {
            links.push((link, file.to_owned()));
        }
    }
    links
}

/// The soname of a library of the host; nothing for a file that is none.
fn soname(path: &Path) -> Option<String> {
    let flags = i32::from_ne_bytes(OFlags::NONBLOCK.bits().to_ne_bytes());
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().ok().filter(|meta| meta.is_file())?;
    Elf::read(&Open(&file))?.soname()
}
