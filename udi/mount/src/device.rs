//! What must be there of the node's devices for the modules that bring them.

use std::fs::Metadata;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::FileType;
use udi::{Error, HostDevice, Mount, Origin, Plan, Result};

use crate::fault;

/// A program would only say that it found no device: here it is told which node is missing.
pub(crate) fn check(plan: &Plan) -> Result<()> {
    for device in &plan.devices {
        match device {
            HostDevice::Node { path, origin } => {
                let is_device = |it: &Metadata| {
                    it.file_type().is_char_device() || it.file_type().is_block_device()
                };
                match std::fs::metadata(path) {
                    Ok(it) if is_device(&it) => {}
                    Ok(_) => return Err(no_device(path, origin)),
                    Err(error) => {
                        let what = format!("{origin}: no device {}", path.display());
                        return Err(Error::admin(what).because(error).hint(
                            "load the driver on this node so that it makes its nodes (for NVIDIA \
                             nvidia-modprobe -u -c0), or write the spec anew",
                        ));
                    }
                }
            }
            HostDevice::Unread { name, .. } => {
                return Err(Error::bug(format!("nobody read what {name} is on this node")));
            }
        }
    }
    Ok(())
}

/// A mount on which devices work is of one device: with a directory, whoever may write it could
/// bring others.
pub(crate) fn check_mounted(mount: &Mount, source: &OwnedFd, path: &Path) -> Result<()> {
    if !mount.flags.dev || mount.origin == Origin::Builtin {
        return Ok(());
    }
    let stat = rustix::fs::fstat(source)
        .map_err(fault::site(format!("cannot look at {}", path.display())))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(()),
        _ => Err(no_device(path, &mount.origin)),
    }
}

fn no_device(path: &Path, origin: &Origin) -> Error {
    Error::admin(format!("{origin}: {} is not a device", path.display()))
        .hint("write the spec anew with the vendor's tool")
}
