//! How slurmstepd runs a TaskProlog where the rank is in an image already.
//!
//! Slurm 24.11.0 to 24.11.6 executes slurmstepd in between, in whatever file system the task sees:
//! its dynamic loader and libraries are the host's, and no image has them. 24.11.7 went back to executing
//! the script itself (SchedMD's ticket 22853), as all releases before and since do.

use std::ffi::{CStr, c_char, c_int};

use crate::{Version, running, symbol};

const FIRST: Version = Version::from_number(0x18_0b_00);
const MENDED: Version = Version::from_number(0x18_0b_07);

/// `int run_command_init(int argc, char **argv, char *binary)`, of 24.11's run_command.h.
type Init = unsafe extern "C" fn(c_int, *const *const c_char, *const c_char) -> c_int;

/// A path that leads nowhere, whoever looks. Slurm puts it into the node's log, once for each step.
const NOTHING: &CStr = c"/dev/null/slurmstepd-in-an-image";

/// From now on this slurmstepd executes a task's scripts itself. To be called before tasks fork; does nothing
/// on releases that need nothing done.
///
/// Told of a launcher that is not there, Slurm says so in its log, and does without one: its own way
/// where slurmstepd cannot be executed. There is none that says less.
pub fn execute_scripts_directly() {
    if !needs_launcher(running()) {
        return;
    }
    let Some(found) = symbol::find(c"run_command_init") else { return };
    // SAFETY: so it is declared in all micro releases of 24.11, and it only reads its arguments.
    let init = unsafe { std::mem::transmute::<*mut std::ffi::c_void, Init>(found.as_ptr()) };
    // SAFETY: no arguments, and a NUL-terminated path.
    unsafe { init(0, std::ptr::null(), NOTHING.as_ptr()) };
}

fn needs_launcher(running: Version) -> bool {
    (FIRST..MENDED).contains(&running)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_releases_that_need_it() {
        let needs = |number| needs_launcher(Version::from_number(number));
        for number in [0x16_05_08, 0x18_05_05, 0x18_0b_07, 0x19_05_00, 0x1a_05_01] {
            assert!(!needs(number), "{}", Version::from_number(number));
        }
        assert!(needs(0x18_0b_00) && needs(0x18_0b_05) && needs(0x18_0b_06));
    }
}
