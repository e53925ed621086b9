//! The boundary of a job_submit plugin: slurmctld calls in here, and no panic gets out.

use std::{
    ffi::{c_char, c_int},
    sync::{Once, OnceLock},
};

use super::{JobDescription, JobSubmit, Rejection, layout, memory};
use crate::{
    BUILT_FOR, Version, log,
    panic::{self, Panicked, contain},
    raw, running, text,
};

const ACCEPTED: c_int = 0;

/// What [`job_submit_plugin!`](crate::job_submit_plugin) implements for the plugin.
#[doc(hidden)]
pub trait Exported: JobSubmit {
    const NAME: &'static str;
    fn cell() -> &'static OnceLock<Self>;
}

/// A method of the plugin.
type Method<P> = fn(&P, &mut JobDescription<'_>, u32) -> Result<Option<String>, Rejection>;

/// Runs `job_submit` for slurmctld.
///
/// # Safety
/// The arguments are those that slurmctld passed.
#[doc(hidden)]
pub unsafe fn submit<P: Exported>(
    job: *mut raw::job_desc_msg_t,
    uid: u32,
    message: *mut *mut c_char,
) -> c_int {
    // SAFETY: passed on.
    unsafe { run::<P>(P::submit, job, uid, message) }
}

/// Runs `job_modify` for slurmctld.
///
/// # Safety
/// The arguments are those that slurmctld passed; before 23.02 it passed no `message`, and what is
/// there is anything.
#[doc(hidden)]
pub unsafe fn modify<P: Exported>(
    job: *mut raw::job_desc_msg_t,
    uid: u32,
    message: *mut *mut c_char,
) -> c_int {
    const FIRST_WITH_MESSAGE: (u32, u32) = (23, 2);
    let has_message = contain(|| running().release() >= FIRST_WITH_MESSAGE).unwrap_or(false);
    let message = if has_message { message } else { std::ptr::null_mut() };
    // SAFETY: passed on.
    unsafe { run::<P>(P::modify, job, uid, message) }
}

/// # Safety
/// `job` is valid; `message` is null or slurmctld's.
unsafe fn run<P: Exported>(
    method: Method<P>,
    job: *mut raw::job_desc_msg_t,
    uid: u32,
    message: *mut *mut c_char,
) -> c_int {
    let answer = contain(|| {
        panic::log_panics_as(P::NAME);
        let running = running();
        let Some(layout) = layout::of(running) else {
            say_once_that_nothing_is_checked::<P>(running);
            return Ok(None);
        };
        // SAFETY: slurmctld's description, and the layout of its release.
        let mut job = unsafe { JobDescription::new(job, layout) };
        if running.same_release(BUILT_FOR) {
            decide(method, &mut job, uid)
        } else {
            foreign::<P>(&job, running)
        }
    });
    // Only a bug in this file is a panic here. The nodes check every job again.
    let answer = answer.unwrap_or(Ok(None));
    let (text, code) = match &answer {
        Ok(None) => return ACCEPTED,
        Ok(Some(info)) => (info.as_str(), ACCEPTED),
        Err(rejection) => (rejection.message(), rejection.number()),
    };
    // SAFETY: passed on. A panic here would cost the user the words only.
    let _said = contain(|| unsafe { tell(message, &text::prefixed(P::NAME, text)) });
    code
}

fn decide<P: Exported>(
    method: Method<P>,
    job: &mut JobDescription<'_>,
    uid: u32,
) -> Result<Option<String>, Rejection> {
    match contain(|| method(P::cell().get_or_init(P::default), job, uid)) {
        Ok(answer) => answer,
        Err(Panicked) if asked_for::<P>(job) => Err(Rejection::fault(format!(
            "this is a bug in {}: please send this line to your HPC support, who find more in \
             slurmctld's log",
            P::NAME
        ))),
        Err(Panicked) => Ok(None),
    }
}

/// On a release that this was not built for, only the jobs that asked are concerned.
fn foreign<P: Exported>(
    job: &JobDescription<'_>,
    running: Version,
) -> Result<Option<String>, Rejection> {
    if !asked_for::<P>(job) {
        return Ok(None);
    }
    let name = P::NAME;
    Err(Rejection::fault(format!(
        "this is Slurm {running}, and the plugin is for Slurm {BUILT_FOR}\nhint: install the package \
         of {name} for Slurm {running}\nThis is a site problem: please send these lines to your HPC \
         support."
    )))
}

/// A panic in the question is a yes: fail closed.
fn asked_for<P: Exported>(job: &JobDescription<'_>) -> bool {
    contain(|| P::asked_for(job)).unwrap_or(true)
}

fn say_once_that_nothing_is_checked<P: Exported>(running: Version) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let name = P::NAME;
        log::error(&format!(
            "{name}: built for Slurm {BUILT_FOR}, this is {running}: jobs pass unchecked here, and \
             the nodes refuse those that ask for {name}"
        ));
    });
}

/// Leaves `text` for the user, below what another plugin has said.
///
/// # Safety
/// `message` is null or slurmctld's, and null or made by Slurm's allocator behind that.
unsafe fn tell(message: *mut *mut c_char, text: &str) {
    if message.is_null() {
        log::info(text);
        return;
    }
    // SAFETY: not null, so slurmctld's.
    let before = unsafe { memory::read(message) };
    let before = before.map(|before| format!("{}\n", before.to_string_lossy()));
    let text = format!("{}{text}", before.unwrap_or_default()).replace('\0', "\\0");
    // SAFETY: as above.
    if let Err(error) = unsafe { memory::replace(message, "the message", &text) } {
        log::error(&error.to_string());
    }
}
