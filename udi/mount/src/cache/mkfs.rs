//! Making a file system: by the system's own program, which is the store's owner and holds
//! nothing but the file.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use udi::{CacheFs, Error, Result};

use crate::program::{self as programs, Output};
use crate::{fault, open};

/// How long it may take. On a node's disk it is some milliseconds; on busy parallel storage
/// each of its some hundred writes may take long.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of what it says that become part of an error.
const LONGEST: usize = 1024;

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
    let ended = open::as_account(owner, open::NOGROUP, &[], || {
        rustix::thread::set_no_new_privs(true)
            .map_err(fault::bug("cannot give up ever gaining rights"))?;
        let mut command = Command::new(program);
        command.args(arguments).arg(format!("/proc/self/fd/{}", file.as_raw_fd()));
        command.env_clear().current_dir("/");
        programs::run(&mut command, Some(file), Output::Kept, limit)
    })?;
    let why = match ended.status {
        Some(status) if status.success() => return Ok(()),
        Some(status) => status.to_string(),
        None => format!("it was stopped after {} seconds", limit.as_secs_f32()),
    };
    let said = ended.said.get(..ended.said.len().min(LONGEST)).unwrap_or_default();
    let said = String::from_utf8_lossy(said).into_owned();
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = if lines.is_empty() { String::new() } else { format!(" ({})", lines.join(", ")) };
    Err(Error::admin(format!("{program} failed: {why}{said}")))
}
