//! Devices as their vendors describe them (CDI, the Container Device Interface): what a job
//! needs inside to use a GPU of the node's.
//!
//! The specs are files of the node's, root's own; reading them is `udi-mount`'s. Here they become
//! mounts, links, variables and directories of libraries, as a module has them.

mod hook;
mod name;
mod spec;

use std::path::{Path, PathBuf};

use crate::{Error, GuestPath, Result};
use hook::Wish;
pub use name::DeviceName;
pub use spec::{BindMount, Device, DeviceNode, Edits, IntelRdt, NetDevice, Spec, SpecHook};

/// A spec, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub file: PathBuf,
    /// The number of its directory in the site's list: of two specs with the same device, the one
    /// in the later directory counts.
    pub directory: usize,
    /// What it says.
    pub spec: Spec,
}

/// What the node's specs say of the devices of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Files and directories of the host.
    pub mounts: Vec<DeviceMount>,
    /// Links: where, and what they say.
    pub links: Vec<(GuestPath, String)>,
    /// Device nodes below `/dev`, which is the host's: they must be there.
    pub nodes: Vec<PathBuf>,
    /// Variables; of two with the same name the later counts.
    pub env: Vec<(String, String)>,
    /// Directories inside whose libraries programs shall find.
    pub libraries: Vec<GuestPath>,
}

/// A mount of a spec's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMount {
    /// The host's path.
    pub from: PathBuf,
    /// Where it appears inside.
    pub to: GuestPath,
    /// Whether it can only be read.
    pub read_only: bool,
    /// Whether what is mounted below it comes along.
    pub recursive: bool,
    /// Whether what the host mounts below it later appears inside too.
    pub slave: bool,
    /// Whether it is a device node, and works as one.
    pub device: bool,
}

impl Devices {
    /// What the specs say of the devices `names`. Hooks that `without` names are left out.
    pub fn of(names: &[DeviceName], without: &[String], specs: &[Found]) -> Result<Self> {
        let mut all = Self::default();
        let mut seen: Vec<&Path> = Vec::new();
        for name in names {
            let (found, device) = look_up(name, specs)?;
            let mut add = |edits: &Edits, whose: &str| {
                all.add(edits, without).map_err(|why| {
                    let what = format!("{}: {whose}: {}", found.file.display(), why.what);
                    let error = Error::admin(what);
                    why.hint.into_iter().fold(error, Error::hint)
                })
            };
            if !seen.contains(&found.file.as_path()) {
                seen.push(&found.file);
                add(&found.spec.container_edits, "containerEdits")?;
            }
            add(&device.container_edits, &format!("the device {}", device.name))?;
        }
        Ok(all)
    }

    fn add(&mut self, edits: &Edits, without: &[String]) -> std::result::Result<(), Why> {
        refuse(edits)?;
        for variable in &edits.env {
            match variable.split_once('=') {
                Some((name, value)) if !name.is_empty() && !variable.contains('\0') => {
                    self.env.push((name.to_owned(), value.to_owned()));
                }
                _ => return Err(format!("env: {variable}: not NAME=VALUE").into()),
            }
        }
        for node in &edits.device_nodes {
            self.node(node)?;
        }
        for mount in &edits.mounts {
            self.mount(bind(mount)?)?;
        }
        for hook in &edits.hooks {
            match hook::wish(hook)? {
                Wish::Links(links) => {
                    for (target, link) in links {
                        self.link(target, link)?;
                    }
                }
                Wish::Libraries(directories) => {
                    for directory in directories {
                        push_new(&mut self.libraries, directory);
                    }
                }
                Wish::Nothing => {}
                Wish::Unknown(name) if without.contains(&name) => {}
                Wish::Unknown(name) => {
                    return Err(Why {
                        what: format!("hooks: {name} ({}) is not known here", hook.path),
                        hint: Some(format!(
                            "if programs use these devices without it, list \"{name}\" in the \
                             module's cdi_without"
                        )),
                    });
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &DeviceNode) -> std::result::Result<(), String> {
        let to = GuestPath::parse(&node.path).map_err(|error| error.what())?;
        let from = match node.host_path.as_str() {
            "" => to.clone(),
            path => GuestPath::parse(path).map_err(|error| error.what())?,
        };
        if from == to && of_the_host(&to) {
            push_new(&mut self.nodes, PathBuf::from(to.as_str()));
            return Ok(());
        }
        let from = PathBuf::from(from.as_str());
        let flags = (false, false, false, true);
        let (read_only, recursive, slave, device) = flags;
        self.mount(DeviceMount { from, to, read_only, recursive, slave, device })
    }

    fn mount(&mut self, mount: DeviceMount) -> std::result::Result<(), String> {
        // `/dev`, `/proc` and `/sys` are the host's as they are.
        if of_the_host(&mount.to) && mount.from == Path::new(mount.to.as_str()) {
            return Ok(());
        }
        match self.mounts.iter().find(|other| other.to == mount.to) {
            Some(other) if other.from != mount.from => Err(format!(
                "both {} and {} would be at {}",
                other.from.display(),
                mount.from.display(),
                mount.to
            )),
            Some(_) => Ok(()),
            None => {
                self.mounts.push(mount);
                Ok(())
            }
        }
    }

    fn link(&mut self, target: String, link: GuestPath) -> std::result::Result<(), String> {
        if of_the_host(&link) {
            return Ok(());
        }
        match self.links.iter().find(|(place, _)| *place == link) {
            Some((_, other)) if *other != target => {
                Err(format!("{link} would be a link both to {other} and to {target}"))
            }
            Some(_) => Ok(()),
            None => {
                self.links.push((link, target));
                Ok(())
            }
        }
    }
}

/// What is wrong with a spec, and what to do about it.
struct Why {
    what: String,
    hint: Option<String>,
}

impl From<String> for Why {
    fn from(what: String) -> Self {
        Self { what, hint: None }
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Whether it is the host's inside, in every image.
fn of_the_host(place: &GuestPath) -> bool {
    matches!(place.components().next(), Some("dev" | "proc" | "sys"))
}

impl DeviceName {
    /// Whether any of the specs has it.
    pub fn is_in(&self, specs: &[Found]) -> bool {
        let of_kind = specs.iter().filter(|found| found.spec.kind == self.kind());
        of_kind.flat_map(|found| &found.spec.devices).any(|device| device.name == self.device())
    }
}

/// The spec that has the device, and what it says of it.
fn look_up<'a>(name: &DeviceName, specs: &'a [Found]) -> Result<(&'a Found, &'a Device)> {
    let of_kind = || specs.iter().filter(|found| found.spec.kind == name.kind());
    let devices = |found: &'a Found| found.spec.devices.iter().map(move |device| (found, device));
    let mut best: Option<(&Found, &Device)> = None;
    for (found, device) in of_kind().flat_map(devices).filter(|(_, d)| d.name == name.device()) {
        match best {
            Some((other, _)) if other.directory > found.directory => {}
            Some((other, _)) if other.directory == found.directory => {
                let (one, two) = (other.file.display(), found.file.display());
                let what = format!("{name}: both {one} and {two} say what it is");
                return Err(Error::admin(what).hint("remove the one that is out of date"));
            }
            _ => best = Some((found, device)),
        }
    }
    best.ok_or_else(|| {
        let known: Vec<&str> = of_kind().flat_map(devices).map(|(_, d)| d.name.as_str()).collect();
        let what = match known.as_slice() {
            [] => format!("{name}: no spec of this node is for {}", name.kind()),
            known => format!("{name}: the specs of this node have only {}", known.join(", ")),
        };
        Error::admin(what).hint(format!(
            "write it anew with the vendor's tool, for example nvidia-ctk cdi generate \
             --output=/etc/cdi/nvidia.yaml, or take {name} out of the module"
        ))
    })
}

/// What changes more than files and variables is not for jobs that share a node.
fn refuse(edits: &Edits) -> std::result::Result<(), String> {
    if edits.additional_gids.iter().any(|gid| *gid != 0) {
        return Err("additionalGids: a job has the user's groups, and no others".into());
    }
    if edits.intel_rdt.is_some() {
        return Err("intelRdt: the node's caches are Slurm's to share out".into());
    }
    if !edits.net_devices.is_empty() {
        return Err("netDevices: jobs have the host's network".into());
    }
    Ok(())
}

fn bind(mount: &BindMount) -> std::result::Result<DeviceMount, String> {
    let about = |why: String| format!("mounts: {}: {why}", mount.container_path);
    let bind = ["", "none", "bind"].contains(&mount.r#type.as_str())
        || mount.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
    if !bind {
        return Err(about(format!("a mount of the type {} is not known here", mount.r#type)));
    }
    let to = GuestPath::parse(&mount.container_path).map_err(|error| about(error.what()))?;
    let from = GuestPath::parse(&mount.host_path).map_err(|error| about(error.what()))?;
    let (from, device) = (PathBuf::from(from.as_str()), false);
    let mut made =
        DeviceMount { from, to, read_only: false, recursive: true, slave: false, device };
    for option in &mount.options {
        match option.as_str() {
            "ro" => made.read_only = true,
            "rw" => made.read_only = false,
            "bind" => made.recursive = false,
            "rbind" => made.recursive = true,
            "private" | "rprivate" => made.slave = false,
            "slave" | "rslave" => made.slave = true,
            // All mounts are nosuid and nodev. What is in them the user could copy and execute.
            "nosuid" | "nodev" | "noexec" | "exec" => {}
            other => return Err(about(format!("the option {other} is not known here"))),
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests;
