//! Making a file system: by the system's own program, which is the store's owner and holds
//! nothing but the file.

use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use udi::{CacheFs, Error, Result};

use crate::{fault, open, sys};

/// How long it may take. On a node's disk it is some milliseconds; on busy parallel storage
/// each of its some hundred writes may take long.
const LIMIT: Duration = Duration::from_secs(60);

/// The program of this node that makes `fs`.
pub(super) fn program(fs: CacheFs) -> Result<&'static str> {
    let (names, package) = match fs {
        CacheFs::Xfs => (["/usr/sbin/mkfs.xfs", "/sbin/mkfs.xfs"], "xfsprogs"),
        CacheFs::Ext4 => (["/usr/sbin/mke2fs", "/sbin/mke2fs"], "e2fsprogs"),
    };
    let other = match fs {
        CacheFs::Xfs => CacheFs::Ext4,
        CacheFs::Ext4 => CacheFs::Xfs,
    };
    names.into_iter().find(|name| Path::new(name).exists()).ok_or_else(|| {
        Error::admin(format!("this node has no {}, which makes caches of {}", names[0], fs.name()))
            .hint(format!("install {package}; until then fs={} may work", other.name()))
    })
}

/// Fast rather than complete: what makes up for a crash, or shares blocks between files, is of
/// no use in a file system that ends with its job.
fn arguments(fs: CacheFs) -> &'static [&'static str] {
    match fs {
        CacheFs::Xfs => &["-q", "-f", "-K", "-s", "size=4096", "-m", "reflink=0,rmapbt=0"],
        CacheFs::Ext4 => &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            "-b",
            "4096",
            "-O",
            "^has_journal,^resize_inode",
            "-E",
            "nodiscard,lazy_itable_init=1",
        ],
    }
}

/// Makes `fs` in `file`, with the rights of `owner`.
pub(super) fn format(program: &str, fs: CacheFs, file: &OwnedFd, owner: u32) -> Result<()> {
    run(program, arguments(fs), file, owner, LIMIT)
}

/// Runs `program ARGUMENT… FILE` as `owner`, who has no other right, no environment and none of
/// this process's open files. What it says becomes part of the error.
pub(crate) fn run(
    program: &str,
    arguments: &[&str],
    file: &OwnedFd,
    owner: u32,
    limit: Duration,
) -> Result<()> {
    let (ended, said) = open::as_account(owner, open::NOGROUP, &[], || {
        // The child is a copy of this thread: it has the thread's rights and open files.
        rustix::thread::set_no_new_privs(true)
            .map_err(fault::bug("cannot give up ever gaining rights"))?;
        sys::keep_files_to_ourselves()
            .map_err(fault::bug("cannot keep open files from a program"))?;
        rustix::io::fcntl_setfd(file, FdFlags::empty())
            .map_err(fault::bug("cannot pass a file on to a program"))?;
        // A file in memory, not a pipe: nobody has to read while it writes.
        let mut output = rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)
            .map(std::fs::File::from)
            .map_err(fault::bug("cannot make a file in memory"))?;
        let failed = |e| Error::admin(format!("cannot run {program}")).because(e);
        let child = Command::new(program)
            .args(arguments)
            .arg(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let ended = wait(child, limit).map_err(failed)?;
        let mut said = Vec::new();
        output.rewind().map_err(failed)?;
        output.take(1024).read_to_end(&mut said).map_err(failed)?;
        Ok((ended, String::from_utf8_lossy(&said).into_owned()))
    })?;
    let why = match ended {
        Some(status) if status.success() => return Ok(()),
        Some(status) => status.to_string(),
        None => format!("it was stopped after {} seconds", limit.as_secs_f32()),
    };
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = if lines.is_empty() { String::new() } else { format!(" ({})", lines.join(", ")) };
    Err(Error::admin(format!("{program} failed: {why}{said}")))
}

/// How the child ended; nothing if it had to be killed.
fn wait(mut child: Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    if let Some(status) = ended_within(&mut child, limit)? {
        return Ok(Some(status));
    }
    child.kill()?;
    // On storage that hangs it may not even die; then it is left to init.
    ended_within(&mut child, Duration::from_secs(1)).map(|_| None)
}

fn ended_within(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            ended => return Ok(ended),
        }
    }
}
