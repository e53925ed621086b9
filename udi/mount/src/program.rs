//! Running a program of the site's or the system's: it gets what it is given and nothing else of
//! ours, and it does not run for ever.

use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use udi::{Error, Result};

use crate::{fault, sys};

/// Seconds: more than this is for ever, and no sum of times can do more.
const A_YEAR: u64 = 365 * 24 * 3600;

/// Bytes of what a program prints that are kept.
const LONGEST: usize = 8 << 10;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Nothing if it had to be stopped.
    pub(crate) status: Option<ExitStatus>,
    /// The beginning of what it printed, where that was kept.
    pub(crate) said: Vec<u8>,
}

/// Where what a program prints goes.
#[derive(Debug)]
pub(crate) enum Output {
    /// Its beginning is kept.
    Kept,
    /// To this process's standard error, all of it.
    Error,
}

/// A time limit as sites write it.
pub(crate) fn seconds(limit: u64) -> Duration {
    Duration::from_secs(limit.min(A_YEAR))
}

impl Ended {
    /// What went wrong, behind the program's name; nothing if nothing did.
    pub(crate) fn complaint(&self, limit: u64) -> Option<String> {
        match self.status {
            Some(status) if status.success() => None,
            Some(status) => Some(match (status.code(), status.signal()) {
                (Some(code), _) => format!("failed with exit {code}"),
                (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
            }),
            None => Some(format!("did not end within {limit} seconds and was stopped")),
        }
    }
}

/// Runs `command`, whose environment is its own, with `file` open and no other of ours.
///
/// To be called on a thread that ends soon: the program is a copy of it, with its rights, and the
/// thread gets a table of open files of its own.
pub(crate) fn run(
    command: &mut Command,
    file: Option<&OwnedFd>,
    output: Output,
    limit: Duration,
) -> Result<Ended> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |e| Error::admin(format!("cannot run {program}")).because(e);
    sys::keep_files_to_ourselves().map_err(fault::bug("cannot keep open files from a program"))?;
    if let Some(file) = file {
        rustix::io::fcntl_setfd(file, FdFlags::empty())
            .map_err(fault::bug("cannot pass a file on to a program"))?;
    }
    command.process_group(0).stdin(Stdio::null());
    let reader = match output {
        Output::Kept => {
            let (reader, writer) = std::io::pipe().map_err(failed)?;
            command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
            Some(reader)
        }
        Output::Error => {
            let error = std::io::stderr();
            command.stdout(error.as_fd().try_clone_to_owned().map_err(failed)?);
            None
        }
    };
    let child = command.spawn().map_err(failed)?;
    // With them go our ends of the pipe.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    watch(child, reader, limit).map_err(failed)
}

/// What the child left running ends with it, and it does not outlive our attention.
fn watch(mut child: Child, from: Option<PipeReader>, limit: Duration) -> std::io::Result<Ended> {
    let pid = Pid::from_child(&child);
    let watched = until_stopped(&mut child, pid, from, limit);
    if watched.is_err() && matches!(child.try_wait(), Ok(None)) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        let _ = child.wait();
    }
    watched
}

fn until_stopped(
    child: &mut Child,
    pid: Pid,
    mut from: Option<PipeReader>,
    limit: Duration,
) -> std::io::Result<Ended> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    if let Some(from) = &from {
        rustix::io::ioctl_fionbio(from, true)?;
    }
    let mut said = Vec::new();
    let ended = until_end(&pidfd, &mut from, &mut said, limit)?;
    // Before it is waited for: until then nobody else can be this process group.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    // On storage that hangs it may not even die; then it is left to init.
    if !ended && !until_end(&pidfd, &mut None, &mut said, Duration::from_secs(1))? {
        return Ok(Ended { status: None, said });
    }
    let status = child.wait()?;
    Ok(Ended { status: ended.then_some(status), said })
}

/// Whether the process ended in time. What it says meanwhile is taken.
fn until_end(
    pidfd: &OwnedFd,
    from: &mut Option<PipeReader>,
    said: &mut Vec<u8>,
    limit: Duration,
) -> std::io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let is_late = left.is_zero();
        let mut polled = vec![PollFd::new(pidfd, PollFlags::IN)];
        polled.extend(from.iter().map(|from| PollFd::new(from, PollFlags::IN)));
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let left = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
        let ready = poll(&mut polled, Some(&left));
        let is_over = polled.first().is_some_and(|pidfd| !pidfd.revents().is_empty());
        drop(polled);
        if let Some(open) = from
            && !take(open, said)?
        {
            *from = None;
        }
        match ready {
            Ok(0) => return Ok(false),
            Err(error) if error != Errno::INTR => return Err(error.into()),
            _ if is_over => return Ok(true),
            // Also where it never stops saying something.
            _ if is_late => return Ok(false),
            _ => {}
        }
    }
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
