//! Slurm's own log.
//!
//! Every line goes through `"%s"`: a user's text is never a format string. A text of several
//! lines becomes several log lines, so that each carries Slurm's prefix.

use std::ffi::{CStr, c_char};

use crate::{raw, text};

/// A fault: always logged. In srun, sbatch and salloc it is printed as `srun: error: …`.
pub fn error(text: &str) {
    each_line(text, |line| {
        // SAFETY: "%s" takes exactly one NUL-terminated string, which lives during the call.
        unsafe { raw::slurm_error(FORMAT, line) }
    });
}

/// What an administrator may want to know.
pub fn info(text: &str) {
    each_line(text, |line| {
        // SAFETY: "%s" takes exactly one NUL-terminated string, which lives during the call.
        unsafe { raw::slurm_info(FORMAT, line) }
    });
}

/// What is only of interest while something is being looked for.
pub fn debug(text: &str) {
    each_line(text, |line| {
        // SAFETY: "%s" takes exactly one NUL-terminated string, which lives during the call.
        unsafe { raw::slurm_debug(FORMAT, line) }
    });
}

/// A message for the user, without Slurm's prefix: in srun, sbatch, salloc and, once tasks are
/// being launched, in slurmstepd it appears on the user's standard error, and in the node's log.
pub fn user(text: &str) {
    each_line(text, |line| {
        // SAFETY: "%s" takes exactly one NUL-terminated string, which lives during the call.
        unsafe { raw::slurm_spank_log(FORMAT, line) }
    });
}

const FORMAT: *const c_char = c"%s".as_ptr();

fn each_line(text: &str, log: impl Fn(*const c_char)) {
    for line in text.lines() {
        let line = text::to_c_lossy(line);
        let line: &CStr = &line;
        log(line.as_ptr());
    }
}
