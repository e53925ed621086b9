//! What kind of host this is: what runs here decides.

use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use udi::{Config, Error};

use super::report::{Finding, unknown};
use super::slurm::Slurm;
use crate::identity::Identity;

/// What a host is for; one may be for several things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// slurmd runs here, or should.
    Compute,
    /// Users submit from here.
    Login,
    /// slurmctld runs here.
    Controller,
}

/// A process that runs here.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) id: u32,
    /// Its program, if we may know.
    pub(super) program: Option<PathBuf>,
}

/// Everything that checks look at first.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) roles: Vec<Role>,
    pub(super) slurmd: Option<Process>,
    pub(super) slurm: Slurm,
    pub(super) config_path: PathBuf,
    pub(super) config: Result<Config, Error>,
}

impl Host {
    pub(super) fn look(identity: &Identity, config: &Path) -> Self {
        let name = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let slurmd = process("slurmd", true);
        let slurmctld = process("slurmctld", false);
        let daemons = [&slurmd, &slurmctld];
        let daemon = daemons.into_iter().flatten().find_map(|p| p.program.clone());
        let slurm = Slurm::look(daemon.as_deref());
        let is_node = slurmd.is_some() || slurm.has_node(name.split('.').next().unwrap_or(&name));
        let mut roles = Vec::new();
        if is_node {
            roles.push(Role::Compute);
        }
        if slurmctld.is_some() {
            roles.push(Role::Controller);
        }
        // Who has the tool, and is no compute node, is there for users.
        if !is_node {
            roles.push(Role::Login);
        }
        let config_path = config.to_owned();
        let config = udi_store::site::load(config);
        Self { name, identity: identity.clone(), roles, slurmd, slurm, config_path, config }
    }

    pub(super) fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    pub(super) fn is_root(&self) -> bool {
        self.identity.uid == 0
    }

    /// The site's configuration, for checks that need one.
    pub(super) fn config(&self) -> Result<&Config, Finding> {
        let path = self.config_path.display();
        self.config.as_ref().map_err(|_| unknown(format!("{path} must be repaired first")))
    }

    /// `c1: a compute node; Slurm 24.11.5`
    pub(super) fn title(&self) -> String {
        let roles: Vec<&str> = self
            .roles
            .iter()
            .map(|role| match role {
                Role::Compute => "compute node",
                Role::Login => "login host",
                Role::Controller => "controller",
            })
            .collect();
        let slurm = match &self.slurm.release {
            Some(release) => format!("Slurm {release}"),
            None => "no Slurm".to_owned(),
        };
        format!("{}: {}; {slurm}", self.name, roles.join(" and "))
    }
}

/// The first process of that name; root's, if `of_root`. It decides what is looked at, not
/// whom to trust.
fn process(name: &str, of_root: bool) -> Option<Process> {
    let all = std::fs::read_dir("/proc").ok()?.flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| {
            let owner = || std::fs::metadata(format!("/proc/{id}")).map(|meta| meta.uid());
            is_called(*id, name) && (!of_root || owner().is_ok_and(|uid| uid == 0))
        })
        .min()
        .map(|id| Process { id, program: std::fs::read_link(format!("/proc/{id}/exe")).ok() })
}

/// By what it was started as, too: a daemon that starts itself anew (`scontrol reconfigure`,
/// since 23.11) is called after its file, which distributions name as they like.
fn is_called(id: u32, name: &str) -> bool {
    let read = |file: &str| std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    let words = read("cmdline");
    let first = words.split(|&byte| byte == 0).next().unwrap_or_default();
    let first = first.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    read("comm").trim_ascii_end() == name.as_bytes() || first == name.as_bytes()
}
