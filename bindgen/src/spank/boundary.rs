//! The boundary: the one place where Slurm calls in. No panic and no error gets past it that
//! `policy.rs` does not let through.

use std::{
    ffi::{c_char, c_int},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
};

use super::{Context, Given, Hook, Opt, Origin, Plugin, Spank, handle, policy::Fate};
use crate::{
    log,
    panic::{self, Panicked, contain},
    raw, text,
};

/// Slurm's word for failure. Never a positive number: up to 24.11 those mean success.
const FAILED: c_int = -1;
const FINE: c_int = 0;

/// What [`spank_plugin!`](crate::spank_plugin) implements for the plugin.
#[doc(hidden)]
pub trait Exported: Plugin {
    const NAME: &'static str;
    fn slot() -> &'static Slot<Self>;
}

/// A plugin's state, and what has become of it.
#[derive(Debug)]
pub struct Slot<P> {
    plugin: Mutex<Option<P>>,
    given: Mutex<Given>,
    /// The first failure that could not be returned where it happened.
    kept: Mutex<Option<String>>,
}

/// Why a call did not succeed.
enum Failure {
    /// The plugin says no, in these words.
    Refused(String),
    /// The plugin panicked, or is not in a state to be called.
    Bug,
}

/// Runs a hook for Slurm.
///
/// # Safety
/// The arguments are those that Slurm passed to `hook`.
#[doc(hidden)]
pub unsafe fn run_hook<P: Exported>(
    hook: Hook,
    handle: *mut raw::spank_handle,
    argc: c_int,
    argv: *mut *mut c_char,
) -> c_int {
    let answer = contain(|| {
        panic::log_panics_as(P::NAME);
        // SAFETY: Slurm's own arguments, used before this returns.
        let mut spank = unsafe { Spank::new(hook, handle, argc, argv, P::NAME) };
        P::slot().run(&mut spank)
    });
    // Only a bug in this file gets here: fail where failing is safe.
    answer.unwrap_or_else(|Panicked| match hook.fate(handle::context()) {
        Fate::Return => FAILED,
        Fate::Keep | Fate::Log => FINE,
    })
}

/// What Slurm calls for each occurrence of an option.
///
/// # Safety
/// `value` is null or a NUL-terminated string.
unsafe extern "C" fn option_given<P: Exported>(
    number: c_int,
    value: *const c_char,
    remote: c_int,
) -> c_int {
    let origin = if remote == 0 { Origin::Command } else { Origin::Node };
    let answer = contain(|| {
        let Some(option) = usize::try_from(number).ok().and_then(|at| P::OPTIONS.get(at)) else {
            return FAILED;
        };
        // SAFETY: the caller vouches for it.
        let value = unsafe { text::from_c(value) }.unwrap_or_default();
        P::slot().option(option, value, origin)
    });
    answer.unwrap_or(FAILED)
}

impl<P> Slot<P> {
    /// An empty one, for a `static`.
    #[doc(hidden)]
    #[allow(clippy::new_without_default, reason = "const")]
    pub const fn new() -> Slot<P> {
        Slot { plugin: Mutex::new(None), given: Mutex::new(Given::none()), kept: Mutex::new(None) }
    }
}

impl<P: Exported> Slot<P> {
    fn run(&self, spank: &mut Spank<'_>) -> c_int {
        let hook = spank.hook();
        if hook == Hook::Init {
            self.start_over();
        }
        let fate = hook.fate(spank.context());
        if let Some(kept) = self.kept()
            && !hook.is_cleanup()
        {
            if fate != Fate::Return || !self.asked_for(spank) {
                return FINE;
            }
            say_once_per_node(spank, &kept);
            return FAILED;
        }
        match self.call(|plugin| {
            if hook == Hook::Init {
                register_options::<P>(spank)?;
            }
            dispatch(plugin, hook, spank).map_err(|e| e.to_string())
        }) {
            Ok(()) => FINE,
            Err(failure) => self.settle(failure, fate, spank),
        }
    }

    /// Does with a failure what the policy says.
    fn settle(&self, failure: Failure, fate: Fate, spank: &Spank<'_>) -> c_int {
        let (text, is_bug) = match failure {
            Failure::Refused(text) => (text, false),
            Failure::Bug => (bug_text::<P>(), true),
        };
        match fate {
            Fate::Return if !is_bug || self.asked_for(spank) => {
                say_once_per_node(spank, &text);
                FAILED
            }
            // A panic in a job that asked for nothing. The panic itself is in the log already.
            Fate::Return => {
                self.keep(text);
                FINE
            }
            Fate::Keep => {
                say_in_log::<P>(&text);
                self.keep(text);
                FINE
            }
            Fate::Log => {
                say_in_log::<P>(&text);
                FINE
            }
        }
    }

    fn option(&self, option: &'static Opt, value: &std::ffi::OsStr, origin: Origin) -> c_int {
        lock(&self.given).note(option.name, value.to_string_lossy().into_owned());
        if self.kept().is_some() {
            return FINE;
        }
        let outcome = match value.to_str() {
            None => Err(Failure::Refused(format!(
                "--{}={}: not UTF-8 text",
                option.name,
                value.display()
            ))),
            Some(value) => self.call(|plugin| {
                let value = (option.argument != super::Argument::None).then_some(value);
                plugin.option(option, value, origin).map_err(|e| e.to_string())
            }),
        };
        match (outcome, origin) {
            (Ok(()), _) => FINE,
            (Err(Failure::Refused(text)), Origin::Command) => {
                log::user(&text::prefixed(P::NAME, &text));
                FAILED
            }
            // Slurm would log this and run the step as if the option had not been given.
            (Err(Failure::Refused(text)), Origin::Node) => {
                say_in_log::<P>(&text);
                self.keep(text);
                FINE
            }
            (Err(Failure::Bug), _) => {
                self.keep(bug_text::<P>());
                FINE
            }
        }
    }

    /// Calls the plugin, which is made first if there is none. A plugin that has panicked, or that
    /// is in the middle of another call, is not called.
    fn call(&self, body: impl FnOnce(&mut P) -> Result<(), String>) -> Result<(), Failure> {
        let mut plugin = match self.plugin.try_lock() {
            Ok(plugin) => plugin,
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => return Err(Failure::Bug),
        };
        // The guard is dropped inside when a panic passes it: the lock is poisoned then, and stays
        // so until the next init.
        match contain(move || body(plugin.get_or_insert_with(P::default))) {
            Ok(answer) => answer.map_err(Failure::Refused),
            Err(Panicked) => Err(Failure::Bug),
        }
    }

    /// A panic in the question is a yes: fail closed.
    fn asked_for(&self, spank: &Spank<'_>) -> bool {
        let given = lock(&self.given).clone();
        contain(|| P::asked_for(spank, &given)).unwrap_or(true)
    }

    /// Forgets what was: a process may load the plugin more than once, and the linker keeps its
    /// variables.
    fn start_over(&self) {
        self.plugin.clear_poison();
        let before = self.plugin.try_lock().ok().and_then(|mut plugin| plugin.take());
        // A failure while dropping was logged; there is nothing else to do about it.
        let _logged = contain(|| drop(before));
        *lock(&self.given) = Given::none();
        *lock(&self.kept) = None;
    }

    fn kept(&self) -> Option<String> {
        lock(&self.kept).clone()
    }

    /// The first failure is the cause of those after it.
    fn keep(&self, text: String) {
        lock(&self.kept).get_or_insert(text);
    }
}

fn register_options<P: Exported>(spank: &mut Spank<'_>) -> Result<(), String> {
    if spank.context() == Context::Slurmd {
        return Ok(());
    }
    let offered = (0..).zip(P::OPTIONS).filter(|(_, option)| P::offers(spank, option));
    for (number, option) in offered.collect::<Vec<_>>() {
        let registered = spank.register(option, number, option_given::<P>);
        registered.map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn dispatch<P: Plugin>(plugin: &mut P, hook: Hook, spank: &mut Spank<'_>) -> Result<(), P::Error> {
    match hook {
        Hook::Init => plugin.init(spank),
        Hook::InitPostOpt => plugin.init_post_opt(spank),
        Hook::LocalUserInit => plugin.local_user_init(spank),
        Hook::UserInit => plugin.user_init(spank),
        Hook::TaskInitPrivileged => plugin.task_init_privileged(spank),
        Hook::TaskInit => plugin.task_init(spank),
        Hook::TaskPostFork => plugin.task_post_fork(spank),
        Hook::TaskExit => plugin.task_exit(spank),
        Hook::Exit => plugin.exit(spank),
        Hook::SlurmdExit => plugin.slurmd_exit(spank),
        Hook::JobProlog => plugin.job_prolog(spank),
        Hook::JobEpilog => plugin.job_epilog(spank),
    }
}

/// Each rank of the node has the same to say: the first one says it, and where.
fn say_once_per_node(spank: &Spank<'_>, text: &str) {
    if !spank.hook().is_in_a_rank() {
        return spank.say(text);
    }
    // SLURMD_NODENAME is not set yet where ranks enter.
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let text = format!("on {}: {text}", node.trim());
    if spank.local_task_id().unwrap_or(0) == 0 {
        spank.say(&text);
    } else {
        // Should only another rank than the first fail, its words are to be had with --slurmd-debug.
        spank.say_if_debugging(&text);
    }
}

fn bug_text<P: Exported>() -> String {
    let name = P::NAME;
    format!("this is a bug in {name}, and its words are in the log: please tell your HPC support")
}

fn say_in_log<P: Exported>(text: &str) {
    log::error(&text::prefixed(P::NAME, text));
}

/// These locks guard plain data that is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
