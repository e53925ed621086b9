//! The site's programs around the staging of a UDI, run as root on the host.

use std::path::Path;
use std::process::Command;

use udi::{Base, Error, Hook, Plan, Result};

use crate::node::Node;
use crate::open;
use crate::program::{self, Output};

/// Runs hooks one after the other, until one fails: the job then fails, by the site's fault.
pub(crate) fn run(node: &Node, hooks: &[Hook], job: u32, plan: &Plan) -> Result<()> {
    hooks.iter().try_for_each(|hook| one(node, hook, &told(job, plan)))
}

/// What hooks are told of the job, as environment variables.
fn told(job: u32, plan: &Plan) -> [(&'static str, String); 6] {
    let image = match &plan.image {
        Base::Store(digest) => digest.to_string(),
        Base::Local(path) => format!("local:{path}"),
    };
    [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("SHIFTER_JOB_ID", job.to_string()),
        ("SHIFTER_UID", plan.user.uid.to_string()),
        ("SHIFTER_GID", plan.user.gid.to_string()),
        ("SHIFTER_USER", plan.user.login.clone()),
        ("SHIFTER_IMAGE", image),
    ]
}

fn one(node: &Node, hook: &Hook, told: &[(&str, String)]) -> Result<()> {
    let Some((program, arguments)) = hook.command.split_first() else {
        return Err(Error::admin("a hook without a command in shifter.toml"));
    };
    let real = udi_store::site::check(Path::new(program))
        .map_err(|error| error.about(format!("the site's hook {program} will not be run: ")))?;
    let ended = open::in_thread("hook", || {
        let mut command = Command::new(&real);
        command.args(arguments).env_clear().current_dir("/");
        command.envs(told.iter().map(|(name, value)| (name, value)));
        program::run(&mut command, None, Output::Kept, program::seconds(hook.timeout))
            .map_err(|error| error.about("the site's hook: "))
    })?;
    for line in String::from_utf8_lossy(&ended.said).lines() {
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        node.log(&format!("hook {program}: {line}"));
    }
    let Some(how) = ended.complaint(hook.timeout) else { return Ok(()) };
    Err(Error::admin(format!("the site's hook {program} {how}"))
        .hint("what it printed stands in the log of slurmd on the node"))
}
