//! A vendor's description of its devices, as the CDI specification (SPEC.md) has it.
//!
//! What it says unknown is an error here as there: a runtime that leaves out what it does not
//! know gives a device that works by half.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A file of `/etc/cdi`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    /// The version of CDI that it is written in.
    pub cdi_version: String,
    /// What its devices are: `nvidia.com/gpu`.
    pub kind: String,
    /// The devices, by name.
    pub devices: Vec<Device>,
    /// What every job with one of them gets.
    #[serde(default)]
    pub container_edits: Edits,
    /// For other programs.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// One device, or several under one name (`all`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Device {
    /// What follows the `=`.
    pub name: String,
    /// What a job with it gets.
    #[serde(default)]
    pub container_edits: Edits,
    /// For other programs.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// `containerEdits`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Edits {
    /// Variables, each as `NAME=VALUE`.
    pub env: Vec<String>,
    /// Device nodes.
    pub device_nodes: Vec<DeviceNode>,
    /// Files and directories.
    pub mounts: Vec<BindMount>,
    /// The vendor's programs for the rest.
    pub hooks: Vec<SpecHook>,
    /// Groups that the job would be in besides the user's.
    #[serde(alias = "additionalGIDs")]
    pub additional_gids: Vec<u32>,
    /// Shares of the processors' caches.
    pub intel_rdt: Option<IntelRdt>,
    /// Network interfaces that the job would have for itself.
    pub net_devices: Vec<NetDevice>,
}

/// A device node. What it would be made with (`type` to `gid`) is not looked at: jobs have the
/// host's own node, with the host's permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DeviceNode {
    /// Where it is inside.
    pub path: String,
    /// Where it is on the host, if not there.
    #[serde(default)]
    pub host_path: String,
    /// `b`, `c`, `u`, `p`.
    #[serde(default)]
    pub r#type: String,
    /// Its major number.
    #[serde(default)]
    pub major: i64,
    /// Its minor number.
    #[serde(default)]
    pub minor: i64,
    /// Permission bits.
    #[serde(default)]
    pub file_mode: Option<u32>,
    /// What the device cgroup would allow; Slurm's decides.
    #[serde(default)]
    pub permissions: String,
    /// Its owner.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Its group.
    #[serde(default)]
    pub gid: Option<u32>,
}

/// A file or directory of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BindMount {
    /// The host's path.
    pub host_path: String,
    /// Where it appears inside.
    pub container_path: String,
    /// Anything but a bind is not for us.
    #[serde(default)]
    pub r#type: String,
    /// As mount(8) has them.
    #[serde(default)]
    pub options: Vec<String>,
}

/// A program that a container engine would run as root. We never do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SpecHook {
    /// When.
    pub hook_name: String,
    /// The program.
    pub path: String,
    /// Its arguments, its own name first.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds.
    #[serde(default)]
    pub timeout: Option<i64>,
}

/// `intelRdt`, which we refuse: its names only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    clos_id: String,
    l3_cache_schema: String,
    mem_bw_schema: String,
    schemata: Vec<String>,
    enable_monitoring: bool,
    #[serde(rename = "enableCMT")]
    enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    enable_mbm: bool,
}

/// `netDevices`, which we refuse: its names only.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NetDevice {
    host_interface_name: String,
    name: String,
}

impl Spec {
    /// Why it cannot be used.
    pub fn check(&self) -> Result<(), String> {
        let version = self.cdi_version.trim_start_matches('v');
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(0), Some(3..)) | (Some(1), Some(_)) => {}
            _ => return Err(format!("cdiVersion {version}: 0.3 to 1.x is known here")),
        }
        if self.devices.is_empty() {
            return Err("no devices".into());
        }
        Ok(())
    }
}
