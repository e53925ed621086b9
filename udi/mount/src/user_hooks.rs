//! What modules run inside, as the user, before the commands of a step's ranks.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::fs::{FlockOperation, MemfdFlags};
use udi::{Blame, Error, Hook, Result};

use crate::program::{self, Output};
use crate::{fault, open};

/// The modules' programs of a step on a node. The first rank that gets there runs them, the others
/// wait; how it went is the same for all.
#[derive(Debug)]
pub struct UserHooks {
    hooks: Vec<(String, Hook)>,
    /// Nothing until they have run; then a byte, and why they failed. In memory that the ranks
    /// inherit, so that there is nothing to find, to guess or to clean up.
    outcome: OwnedFd,
}

/// The byte that says that all went well, or that it did not.
const FINE: u8 = b'+';
const FAILED: u8 = b'-';

/// Bytes of an outcome: a line or two.
const LONGEST: usize = 4096;

impl UserHooks {
    /// Called in slurmstepd before it forks the ranks, with each hook's module; nothing if there is
    /// nothing to run.
    pub fn new(hooks: Vec<(String, Hook)>) -> Result<Option<Self>> {
        if hooks.is_empty() {
            return Ok(None);
        }
        let outcome = rustix::fs::memfd_create("hooks", MemfdFlags::CLOEXEC)
            .map_err(fault::bug("cannot make a file in memory"))?;
        Ok(Some(Self { hooks, outcome }))
    }

    /// Called by each rank, inside and as the user, with its final environment.
    pub fn run(&self, environment: &[(&OsStr, &OsStr)]) -> Result<()> {
        // The lock is the process's, and the kernel's to take back when a rank is killed: then the
        // next one runs them.
        self.lock(FlockOperation::LockExclusive)?;
        let outcome = match self.known()? {
            Some(outcome) => outcome,
            None => {
                let outcome = self.hooks.iter().try_for_each(|hook| one(hook, environment));
                self.note(&outcome)?;
                outcome
            }
        };
        self.lock(FlockOperation::Unlock)?;
        outcome
    }

    fn lock(&self, operation: FlockOperation) -> Result<()> {
        rustix::io::retry_on_intr(|| rustix::fs::fcntl_lock(&self.outcome, operation))
            .map_err(fault::bug("cannot lock the modules' hooks"))
    }

    fn known(&self) -> Result<Option<Result<()>>> {
        let mut bytes = [0; LONGEST];
        let length = rustix::io::pread(&self.outcome, &mut bytes, 0)
            .map_err(fault::bug("cannot read how the modules' hooks ended"))?;
        let Some((first, rest)) = bytes.get(..length).and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        if *first == FINE {
            return Ok(Some(Ok(())));
        }
        let text = String::from_utf8_lossy(rest);
        let (what, hint) = text.split_once('\n').unwrap_or((&text, ""));
        Ok(Some(Err(Error::user(what).hint(hint))))
    }

    fn note(&self, outcome: &Result<()>) -> Result<()> {
        let text = match outcome {
            Ok(()) => vec![FINE],
            Err(error) => {
                let steps = error.next_steps();
                let hint = steps.first().map(|step| step.trim_start_matches("hint: "));
                let said = format!("{}\n{}", error.what(), hint.unwrap_or_default());
                [&[FAILED], said.as_bytes()].concat()
            }
        };
        let text = text.get(..text.len().min(LONGEST)).unwrap_or_default();
        rustix::io::pwrite(&self.outcome, text, 0)
            .map(|_| ())
            .map_err(fault::bug("cannot note how the modules' hooks ended"))
    }
}

fn one((module, hook): &(String, Hook), environment: &[(&OsStr, &OsStr)]) -> Result<()> {
    let name = hook.command.join(" ");
    let failed = |how: String| {
        Error::user(format!("--module={module}: its program {name} {how}")).hint(format!(
            "what it says stands above; do without {module}, or ask your HPC support"
        ))
    };
    let Some((program, arguments)) = hook.command.split_first() else {
        return Err(failed("is not named in shifter.toml".into()));
    };
    let ended = open::in_thread("user-hook", || {
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        program::run(&mut command, None, Output::Error, program::seconds(hook.timeout))
    });
    let ended = match ended {
        Err(error) if error.blame() == Blame::Admin => {
            return Err(failed(format!("could not be run: {}", error.what())));
        }
        other => other?,
    };
    match ended.complaint(hook.timeout) {
        None => Ok(()),
        Some(how) => Err(failed(how)),
    }
}
