//! What needs `unsafe`: forking, ending a fork, and emptying the environment.
#![allow(unsafe_code)]

use nix::unistd::{ForkResult, fork};
use std::ffi::OsString;

use udi::{Error, Result};

/// What of the user's environment we look at; nothing else stays, also not for libraries.
const KEPT: [&str; 6] = [
    "HOME",
    "TERM",
    "NO_COLOR",
    "COLUMNS",
    "TZ",
    // Passed on to Slurm's commands, which run with the caller's rights.
    "SLURM_CONF",
];

/// Which process this is after [`split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Parent(nix::unistd::Pid),
    Child,
}

/// Splits the process in two. Call it before there is any thread.
pub(crate) fn split() -> Result<Side> {
    // SAFETY: no thread but this one exists yet, so the child may do whatever it likes.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(Side::Parent(child)),
        Ok(ForkResult::Child) => Ok(Side::Child),
        Err(error) => Err(Error::admin("cannot start a process").because(error)),
    }
}

/// Removes all variables that we do not read ourselves: a set-user-ID program must not let
/// its caller talk to the libraries it uses (resolver, TLS, allocator) behind its back.
/// Call it before there is any thread.
pub(crate) fn clean_environment() {
    let names: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        if !KEPT.iter().any(|kept| *kept == name) {
            // SAFETY: no thread but this one exists yet, so nobody reads it meanwhile.
            unsafe { std::env::remove_var(name) };
        }
    }
    // SAFETY: as above.
    unsafe { std::env::set_var("PATH", "/usr/sbin:/usr/bin:/sbin:/bin") };
}

/// Ends this process, a fork, at once: what its parent registered for its own end is not run.
pub(crate) fn end() -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { nix::libc::_exit(0) }
}
