//! Slurm's own log.
//!
//! Every line goes through `"%s"`: a user's text is never a format string. A text of several
//! lines becomes several log lines, so that each carries Slurm's prefix.

//!
//! The functions are looked up when they are first needed, so that a plugin's own unit tests can be
//! linked without Slurm; outside of Slurm nothing is logged.

use std::{
    ffi::{CStr, c_char},
    sync::OnceLock,
};

use crate::{symbol, text};

/// A fault: always logged. In srun, sbatch and salloc it is printed as `srun: error: …`.
pub fn error(text: &str) {
    static ERROR: Function = Function::new(c"slurm_error");
    ERROR.log(text);
}

/// What an administrator may want to know.
pub fn info(text: &str) {
    static INFO: Function = Function::new(c"slurm_info");
    INFO.log(text);
}

/// What is only of interest while something is being looked for.
pub fn debug(text: &str) {
    static DEBUG: Function = Function::new(c"slurm_debug");
    DEBUG.log(text);
}

/// A message for the user, without Slurm's prefix: in srun, sbatch, salloc and, once tasks are
/// being launched, in slurmstepd it appears on the user's standard error, and in the node's log.
pub fn user(text: &str) {
    static USER: Function = Function::new(c"slurm_spank_log");
    USER.log(text);
}

/// A function of Slurm's that logs like printf.
type Printf = unsafe extern "C" fn(*const c_char, ...);

struct Function {
    name: &'static CStr,
    found: OnceLock<Option<Printf>>,
}

impl Function {
    const fn new(name: &'static CStr) -> Function {
        Function { name, found: OnceLock::new() }
    }

    fn log(&self, text: &str) {
        let find = || {
            let found = symbol::find(self.name)?;
            // SAFETY: spank.h declares all four as void(const char *, ...), in every release.
            Some(unsafe { std::mem::transmute::<*mut std::ffi::c_void, Printf>(found.as_ptr()) })
        };
        let Some(log) = *self.found.get_or_init(find) else { return };
        for line in text.lines() {
            let line = text::to_c_lossy(line);
            // SAFETY: "%s" takes exactly one NUL-terminated string, which lives during the call.
            unsafe { log(c"%s".as_ptr(), line.as_ptr()) };
        }
    }
}
