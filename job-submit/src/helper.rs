//! Asking `shifter-check`, without ever waiting for long.
//!
//! The image store is on a shared file system that may hang, and a process that hangs there cannot
//! always be killed: so slurmctld waits at most [`LIMIT`] for an answer, never for a process to end,
//! and after a time-out asks nothing for [`PAUSE`].

use std::{
    io::{ErrorKind, Read, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
};

use crate::protocol::{Answer, MAX_BYTES, Question};

const PROGRAM: &str = "/usr/libexec/shifter/shifter-check";
const LIMIT: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_secs(30);

/// The helper program, and what is known of it.
#[derive(Debug)]
pub(crate) struct Helper {
    program: PathBuf,
    /// When it may be asked again after a time-out.
    resume: Mutex<Option<Instant>>,
    /// Those that were not waited for.
    left: Mutex<Vec<Child>>,
}

impl Default for Helper {
    fn default() -> Helper {
        Helper::at(PROGRAM.into())
    }
}

impl Helper {
    fn at(program: PathBuf) -> Helper {
        Helper { program, resume: Mutex::new(None), left: Mutex::new(Vec::new()) }
    }

    /// Whether the user (uid, gid) may have `images`, names without control characters, and their
    /// digests.
    pub(crate) fn ask(&self, images: &[String], (uid, gid): (u32, u32)) -> Result<Answer, Silence> {
        self.reap();
        if lock(&self.resume).is_some_and(|resume| Instant::now() < resume) {
            return Err(Silence::NoAnswer);
        }
        let question = Question { uid, gid, images: images.to_vec() };
        let broken = |why: String| {
            let why = format!("{} {why}", self.program.display());
            slurm::log::error(&format!("shifter: {why}"));
            Silence::Broken(why)
        };
        let mut child = self.start().map_err(|error| broken(format!("does not start: {error}")))?;
        let deadline = Instant::now() + LIMIT;
        write(&mut child, question.to_text().as_bytes(), deadline);
        let answer = match read(&mut child, deadline) {
            Heard::Answer(Answer::Digests(digests)) if digests.len() != images.len() => {
                Err(broken("answered something else".into()))
            }
            Heard::Answer(answer) => Ok(answer),
            Heard::Nonsense => Err(broken("gave no answer".into())),
            Heard::NothingInTime => {
                slurm::log::error(&format!(
                    "shifter: the image store did not answer in {} ms; it is not asked again for \
                     {} s",
                    LIMIT.as_millis(),
                    PAUSE.as_secs()
                ));
                *lock(&self.resume) = Some(Instant::now() + PAUSE);
                // It may be beyond reach of any signal until the store answers.
                let _best_effort = child.kill();
                Err(Silence::NoAnswer)
            }
        };
        lock(&self.left).push(child);
        self.reap();
        answer
    }

    /// A cleared environment, and nothing of slurmctld's but the three pipes.
    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    }

    /// Collects those that have ended, without waiting.
    fn reap(&self) {
        lock(&self.left).retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The store did not answer in time, now or a moment ago.
    NoAnswer,
    /// The helper does not work; these words are for an administrator.
    Broken(String),
}

/// What came out of the helper.
enum Heard {
    Answer(Answer),
    Nonsense,
    NothingInTime,
}

/// Writes what the helper takes until `deadline`, and closes its standard input. Why it did not take
/// all, reading says.
fn write(child: &mut Child, mut text: &[u8], deadline: Instant) {
    let Some(mut stdin) = child.stdin.take() else { return };
    if rustix::fs::fcntl_setfl(&stdin, OFlags::NONBLOCK).is_err() {
        return;
    }
    while !text.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return };
        let mut fds = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) if !left.is_zero() => continue,
            Err(_) => return,
        }
        match stdin.write(text) {
            Ok(length) => text = text.get(length..).unwrap_or_default(),
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => return,
        }
    }
}

/// Reads until the helper closes its end, or until `deadline`.
fn read(child: &mut Child, deadline: Instant) -> Heard {
    let Some(mut stdout) = child.stdout.take() else { return Heard::Nonsense };
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return Heard::NothingInTime };
        let mut fds = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Heard::NothingInTime,
            Err(rustix::io::Errno::INTR) if !left.is_zero() => continue,
            Err(_) => return Heard::NothingInTime,
            Ok(_) => {}
        }
        let mut buffer = [0; 4096];
        match stdout.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if said.len() + length <= MAX_BYTES => {
                said.extend_from_slice(&buffer[..length]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return Heard::Nonsense,
        }
    }
    let answer = std::str::from_utf8(&said).ok().and_then(Answer::parse);
    answer.map_or(Heard::Nonsense, Heard::Answer)
}

/// These locks guard plain data that is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper(script: &str) -> (tempfile::TempDir, Helper) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("check");
        // By another process: a child of another test's would hold the file open for writing if it
        // were forked meanwhile, and nobody could run it.
        let words = ["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\"; chmod 755 \"$0\""];
        let made = Command::new("sh").args(words).arg(&program).arg(script).status();
        assert!(made.unwrap().success());
        (dir, Helper::at(program))
    }

    fn ask(helper: &Helper) -> Result<Answer, Silence> {
        helper.ask(&["docker:a:1".to_owned()], (1000, 100))
    }

    #[test]
    fn the_question_comes_on_standard_input_and_the_answer_is_taken_from_standard_output() {
        let (_dir, helper) = helper(
            "read uid; read gid; read image\nprintf 'user 0\\n%s %s %s\\n\\n' $uid $gid $image",
        );
        let Ok(Answer::No { what, .. }) = ask(&helper) else { panic!() };
        assert_eq!(what, "1000 100 docker:a:1");
    }

    #[test]
    fn a_question_longer_than_a_pipe_is_asked_whole_and_a_helper_that_reads_nothing_is_not_waited_for()
     {
        let names = vec!["docker:a:1".to_owned(); 20_000];
        let (_dir, counts) = helper("printf 'user 0\\n%s\\n\\n' $(wc -l)");
        let Ok(Answer::No { what, .. }) = counts.ask(&names, (1000, 100)) else { panic!() };
        assert_eq!(what, "20003");
        let (_dir, deaf) = helper("exec sleep 60");
        assert_eq!(deaf.ask(&names, (1000, 100)), Err(Silence::NoAnswer));
    }

    #[test]
    fn as_many_digests_as_names_or_none() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let (_dir, helper) = helper(&format!("cat >&-; printf 'digests 1\\n{digest}\\n'"));
        assert!(matches!(ask(&helper), Ok(Answer::Digests(_))));
        let two = ["a".to_owned(), "b".to_owned()];
        assert!(matches!(helper.ask(&two, (1000, 100)), Err(Silence::Broken(_))));
    }

    #[test]
    fn a_helper_that_hangs_is_not_waited_for_and_not_asked_again_for_a_while() {
        // `exec`, so that the one process that is killed is the one that hangs.
        let (dir, helper) = helper("echo x >> \"$(dirname $0)/asked\"; exec sleep 60");
        assert_eq!(ask(&helper), Err(Silence::NoAnswer));
        assert_eq!(ask(&helper), Err(Silence::NoAnswer));
        let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap_or_default();
        assert!(asked.len() <= 2, "asked twice");
        *lock(&helper.resume) = None;
        assert_eq!(ask(&helper), Err(Silence::NoAnswer));
        assert!(lock(&helper.left).len() <= 2);
    }

    #[test]
    fn a_helper_that_closes_its_output_but_lives_on_is_not_waited_for() {
        let (_dir, helper) = helper("exec >&-; exec sleep 60");
        assert!(matches!(ask(&helper), Err(Silence::Broken(_))));
        for child in lock(&helper.left).iter_mut() {
            child.kill().unwrap();
        }
    }

    #[test]
    fn a_helper_that_is_not_there_or_says_nonsense_is_named() {
        let (dir, told_nothing) = helper("echo nonsense");
        let (told_too_much_dir, told_too_much) = helper("yes");
        for helper in [told_nothing, told_too_much, Helper::at(dir.path().join("none"))] {
            let Err(Silence::Broken(why)) = ask(&helper) else { panic!() };
            assert!(why.starts_with(helper.program.to_str().unwrap()), "{why}");
            for child in lock(&helper.left).iter_mut() {
                let _ended_already = child.kill();
            }
        }
        drop(told_too_much_dir);
    }

    #[test]
    fn nothing_of_the_environment_gets_to_the_helper() {
        let (_dir, helper) = helper("printf 'user 0\\n%s\\n\\n' \"$CARGO_MANIFEST_DIR$HOME\"");
        let Ok(Answer::No { what, .. }) = ask(&helper) else { panic!() };
        assert_eq!(what, "");
    }
}
