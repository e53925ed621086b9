//! `shifterimg doctor`: is this host fit for jobs with images, and if not, what is to be done?
//!
//! A check is a name, the hosts it matters on, and a function that looks. Each runs in a
//! process of its own with a time limit, so that neither a hung file system nor a bug of ours
//! keeps the others from being told.

mod apart;
mod devices;
mod host;
mod kernel;
mod node;
mod plugins;
mod report;
mod site;
mod slurm;
mod store;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use udi::Result;

use crate::cli;
use crate::identity::Identity;
use apart::Silence;
use host::{Host, Role};
use report::{Finding, Report, failed};

/// What a check has seen; the error is a finding too, after which there is no more to see.
type Look = std::result::Result<Vec<Finding>, Finding>;

struct Check {
    name: &'static str,
    on: &'static [Role],
    look: fn(&Host) -> Look,
}

const EVERYWHERE: &[Role] = &[Role::Compute, Role::Login, Role::Controller];
const NODES: &[Role] = &[Role::Compute];
const USERS: &[Role] = &[Role::Login];
const CONTROLLER: &[Role] = &[Role::Controller];

/// In the order in which a site is set up, so that the first failure is the one to repair first.
const CHECKS: &[Check] = &[
    Check { name: "configuration", on: EVERYWHERE, look: site::configuration },
    Check { name: "slurm", on: EVERYWHERE, look: plugins::release },
    Check { name: "plugin", on: EVERYWHERE, look: plugins::spank },
    Check { name: "plugstack.conf", on: EVERYWHERE, look: plugins::plugstack },
    Check { name: "job_submit", on: CONTROLLER, look: plugins::job_submit },
    Check { name: "shifter-check", on: CONTROLLER, look: plugins::helper },
    Check { name: "kernel", on: NODES, look: kernel::release },
    Check { name: "file systems", on: NODES, look: kernel::file_systems },
    Check { name: "loop devices", on: NODES, look: kernel::loop_devices },
    Check { name: "mounts", on: NODES, look: node::propagation },
    Check { name: "/run/shifter", on: NODES, look: node::directory },
    Check { name: "spool", on: NODES, look: node::spool },
    Check { name: "site's files", on: NODES, look: node::site_files },
    Check { name: "hooks", on: NODES, look: node::hooks },
    Check { name: "devices", on: NODES, look: devices::specs },
    Check { name: "shifter", on: NODES, look: plugins::program },
    Check { name: "caches", on: NODES, look: node::caches },
    Check { name: "local images", on: NODES, look: site::local_images },
    Check { name: "account", on: EVERYWHERE, look: store::account },
    Check { name: "shifterimg", on: USERS, look: store::tool },
    Check { name: "registries", on: USERS, look: site::registries },
    Check { name: "formats", on: USERS, look: site::formats },
    Check { name: "store", on: EVERYWHERE, look: store::reachable },
    Check { name: "pulling", on: USERS, look: store::writable },
];

/// A check has this long. Those that ask Slurm or a file system have shorter limits inside.
const LIMIT: Duration = Duration::from_secs(20);

/// Looks, prints, and ends with 3 if something must be repaired.
pub(crate) fn run(identity: &Identity, config: &Path, args: &cli::Doctor) -> Result<ExitCode> {
    if identity.uid != 0 {
        identity.become_user()?;
    }
    let host = Host::look(identity, config);
    let mut report = Report::new(args.json, &host)?;
    for check in CHECKS.iter().filter(|check| check.on.iter().any(|role| host.is(*role))) {
        let seen =
            apart::run(LIMIT, || (check.look)(&host).unwrap_or_else(|finding| vec![finding]));
        let findings = seen.unwrap_or_else(|silence| {
            vec![match silence {
                Silence::Hung => failed(format!("no answer within {} s", LIMIT.as_secs())),
                Silence::Died => failed("the check itself has a bug: please tell us"),
            }]
        });
        report.add(check.name, findings)?;
    }
    report.end()?;
    Ok(if report.has_failed() { ExitCode::from(3) } else { ExitCode::SUCCESS })
}
