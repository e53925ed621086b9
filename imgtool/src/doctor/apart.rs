//! Work that may hang, in a process of its own: a thread in a dead file system would keep us
//! from ending, too.

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, setpgid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The time was over.
    Hung,
    /// It could not be started, or ended without an answer.
    Died,
}

/// What `work` gives, if it does within `limit`. Call it before there is any thread.
pub(super) fn run<T: Serialize + DeserializeOwned>(
    limit: Duration,
    work: impl FnOnce() -> T,
) -> Result<T, Silence> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|_| Silence::Died)?;
    match sys::split().map_err(|_| Silence::Died)? {
        sys::Side::Child => {
            drop(ours);
            // What it starts ends with it.
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            if let Ok(answer) = catch_unwind(AssertUnwindSafe(work))
                && let Ok(json) = serde_json::to_vec(&answer)
            {
                let _ = File::from(theirs).write_all(&json);
            }
            sys::end()
        }
        sys::Side::Parent(child) => {
            drop(theirs);
            let _ = setpgid(child, child);
            let answer = read(File::from(ours), Instant::now() + limit);
            if answer.is_none() {
                // Who waits for a dead server may not even die: it is not waited for.
                let _ = killpg(child, Signal::SIGKILL);
                let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
                return Err(Silence::Hung);
            }
            let _ = waitpid(child, None);
            answer.and_then(|json| serde_json::from_slice(&json).ok()).ok_or(Silence::Died)
        }
    }
}

/// All that comes, unless the time is over first.
fn read(mut from: File, end: Instant) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 64 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut polled = [PollFd::new(&from, PollFlags::IN)];
        match poll(&mut polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => return Some(bytes),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// What a program prints, if it succeeds within `limit`: with no environment but Slurm's
/// own choice of a configuration.
pub(super) fn output(program: &Path, args: &[&str], limit: Duration) -> Result<String, Silence> {
    let printed = run(limit, || {
        let mut command = Command::new(program);
        command.args(args).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        if let Some(conf) = std::env::var_os("SLURM_CONF") {
            command.env("SLURM_CONF", conf);
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    })?;
    printed.ok_or(Silence::Died)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The test harness has threads; these forks only sleep, compute and run programs.

    #[test]
    fn what_hangs_is_given_up_and_what_it_started_ends() {
        let start = Instant::now();
        let silence = output(Path::new("/bin/sleep"), &["1234567"], Duration::from_millis(200));
        assert_eq!(silence, Err(Silence::Hung));
        assert!(start.elapsed() < Duration::from_secs(60));
        let sleeping = || {
            let all = std::fs::read_dir("/proc").unwrap().flatten();
            let lines = all.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
            lines.into_iter().any(|line| line.ends_with(b"sleep\x001234567\0"))
        };
        while sleeping() {
            assert!(start.elapsed() < Duration::from_secs(60), "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn answers_come_whole_and_a_failure_is_none() {
        let long = run(Duration::from_secs(60), || "x".repeat(1 << 20));
        assert_eq!(long.map(|text| text.len()), Ok(1 << 20));
        let text = output(Path::new("/bin/echo"), &["a", "b"], Duration::from_secs(60));
        assert_eq!(text.as_deref(), Ok("a b\n"));
        for program in ["/bin/false", "/nonexistent"] {
            let silence = output(Path::new(program), &[], Duration::from_secs(60));
            assert_eq!(silence, Err(Silence::Died), "{program}");
        }
    }
}
