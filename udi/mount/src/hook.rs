//! The site's programs around the staging of a UDI, run as root on the host.

use std::io::{PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use udi::{Base, Error, Hook, Plan, Result};

use crate::node::Node;
use crate::{fault, open, sys};

/// Seconds: more than this is for ever, and no sum of times can do more.
const A_YEAR: u64 = 365 * 24 * 3600;

/// Bytes of what a hook prints that get into the node's log.
const LONGEST: usize = 8 << 10;

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
    let failed = |e| Error::admin(format!("cannot run the site's hook {program}")).because(e);
    let limit = Duration::from_secs(hook.timeout.min(A_YEAR));
    let (ended, said) = open::in_thread("hook", || {
        // The child is a copy of this thread, and has its table of open files.
        sys::keep_files_to_ourselves()
            .map_err(fault::bug("cannot keep open files from a program"))?;
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let child = Command::new(&real)
            .args(arguments)
            .env_clear()
            .envs(told.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer)
            .spawn()
            .map_err(failed)?;
        watch(child, reader, limit).map_err(failed)
    })?;
    for line in String::from_utf8_lossy(&said).lines() {
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        node.log(&format!("hook {program}: {line}"));
    }
    let how = match ended {
        Some(status) if status.success() => return Ok(()),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("failed with exit {code}"),
            (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
        },
        None => format!("did not end within {} seconds and was stopped", hook.timeout),
    };
    Err(Error::admin(format!("the site's hook {program} {how}"))
        .hint("what it printed stands in the log of slurmd on the node"))
}

/// How the child ended, or nothing if it had to be stopped, and the beginning of what it said.
/// What it left running ends with it.
fn watch(
    mut child: Child,
    mut from: PipeReader,
    limit: Duration,
) -> std::io::Result<(Option<ExitStatus>, Vec<u8>)> {
    let end = Instant::now() + limit;
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    rustix::io::ioctl_fionbio(&from, true)?;
    let (mut said, mut open) = (Vec::new(), true);
    let ended = loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&from, PollFlags::IN)];
        let polled = if open { &mut polled[..] } else { &mut polled[..1] };
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let left = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
        let ready = poll(polled, Some(&left));
        let is_over = polled.first().is_some_and(|pidfd| !pidfd.revents().is_empty());
        open = open && take(&mut from, &mut said)?;
        match ready {
            Ok(0) => break false,
            Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
            _ if is_over => break true,
            _ => {}
        }
    };
    // Before it is waited for: until then nobody else can be this process group.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    Ok((ended.then_some(status), said))
}

/// Takes what is there to read, but not for ever, and keeps the beginning; false at its end.
fn take(from: &mut PipeReader, said: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut bytes = [0; 4096];
    for _ in 0..16 {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(length) => {
                let room = LONGEST.saturating_sub(said.len());
                said.extend(bytes.iter().take(length.min(room)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
