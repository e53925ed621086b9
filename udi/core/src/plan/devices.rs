//! What modules bring of the node's devices: see [`crate::cdi`].

use super::{Flags, HostDevice, Mount, Origin, Rights, SiteFile, Source};
use crate::Module;

/// The files and directories of a module's devices.
pub(super) fn mounts(name: &str, module: &Module) -> Vec<Mount> {
    let mounts = module.devices.iter().flat_map(|devices| &devices.mounts);
    let flags = |of: &crate::cdi::DeviceMount| Flags {
        read_only: of.read_only,
        dev: of.device,
        recursive: of.recursive,
        slave: of.slave,
        optional: false,
        per_job: false,
        yields: false,
    };
    mounts
        .map(|mount| Mount {
            source: Source::Host(mount.from.clone()),
            target: mount.to.clone(),
            rights: Rights::Root,
            flags: flags(mount),
            origin: Origin::Module(name.to_owned()),
        })
        .collect()
}

/// Their links; of two in one place the later module's counts.
pub(super) fn links(modules: &[(String, &Module)]) -> Vec<SiteFile> {
    let mut links: Vec<SiteFile> = Vec::new();
    for (name, module) in modules {
        for (path, target) in module.devices.iter().flat_map(|devices| &devices.links) {
            links.retain(|other| other.path() != path);
            let origin = Origin::Module(name.clone());
            links.push(SiteFile::Link { path: path.clone(), target: target.clone(), origin });
        }
    }
    links
}

/// Their nodes, and the names of those that nobody has read the specs of.
pub(super) fn needed(modules: &[(String, &Module)]) -> Vec<HostDevice> {
    let mut needed = Vec::new();
    for (name, module) in modules {
        let origin = Origin::Module(name.clone());
        match &module.devices {
            Some(devices) => needed.extend(
                devices
                    .nodes
                    .iter()
                    .map(|path| HostDevice::Node { path: path.clone(), origin: origin.clone() }),
            ),
            None => {
                needed.extend(module.cdi.iter().map(|device| HostDevice::Unread {
                    name: device.clone(),
                    origin: origin.clone(),
                }))
            }
        }
    }
    needed
}
