//! What a task executes.

use std::{
    ffi::{CString, OsStr, OsString, c_char, c_int},
    os::unix::ffi::OsStrExt,
};

use super::{Spank, item::check};
use crate::{Error, ErrorKind, raw, symbol, text};

/// `spank_err_t spank_prepend_task_argv(spank_t, int argc, const char *argv[])`, of spank.h since
/// 23.11.
type Prepend = unsafe extern "C" fn(raw::spank_t, c_int, *const *const c_char) -> raw::spank_err_t;

impl Spank<'_> {
    /// Whether the running Slurm has [`prepend_argv`](Spank::prepend_argv): since 23.11.
    pub fn can_prepend_argv() -> bool {
        symbol::find(c"spank_prepend_task_argv").is_some()
    }

    /// Puts words before the task's command: Slurm then looks up and executes the first of them.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] outside of a task's hooks and on older releases;
    /// [`ErrorKind::NotAName`] for a NUL byte.
    pub fn prepend_argv(&mut self, words: &[impl AsRef<OsStr>]) -> Result<(), Error> {
        let what = "changing the command";
        let Some(found) = symbol::find(c"spank_prepend_task_argv") else {
            return Err(Error::new(ErrorKind::NotAvailable, what));
        };
        let words = words.iter().map(|word| text::to_c(what, word.as_ref().as_bytes()));
        let words = words.collect::<Result<Vec<CString>, Error>>()?;
        let mut list: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
        list.push(std::ptr::null());
        let count = c_int::try_from(words.len()).unwrap_or(c_int::MAX);
        // SAFETY: spank.h declares it so in every release that has it.
        let prepend =
            unsafe { std::mem::transmute::<*mut std::ffi::c_void, Prepend>(found.as_ptr()) };
        // SAFETY: a valid handle, and that many NUL-terminated strings, which Slurm copies.
        check(what, unsafe { prepend(self.raw(), count, list.as_ptr()) })
    }

    /// Has the step execute `program` with the arguments of its command; gives what was the
    /// command's first word. For releases that cannot [`prepend`](Spank::prepend_argv): the words
    /// are those of the step, which its tasks share but with `--multi-prog`.
    ///
    /// Only in a task's hooks: it changes the calling process's own copy.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] where there is no command; [`ErrorKind::NotAName`] for a NUL byte.
    pub fn replace_program(&mut self, program: impl AsRef<OsStr>) -> Result<OsString, Error> {
        let what = "changing the command";
        let program = text::to_c(what, program.as_ref().as_bytes())?;
        let mut argv: *mut *mut c_char = std::ptr::null_mut();
        let mut argc: c_int = 0;
        let (count, list) = (&raw mut argc, &raw mut argv);
        // SAFETY: a valid handle and the int* and char*** that this item takes.
        let rc = unsafe { raw::spank_get_item(self.raw(), raw::S_JOB_ARGV, count, list) };
        check(what, rc)?;
        if argc < 1 || argv.is_null() || !self.hook().is_in_a_rank() {
            return Err(Error::new(ErrorKind::NotAvailable, what));
        }
        // SAFETY: the list has `argc` entries, at least one.
        let first = unsafe { argv.read() };
        // SAFETY: null or a NUL-terminated string; copied before anything changes.
        let Some(was) = (unsafe { text::from_c(first) }) else {
            return Err(Error::new(ErrorKind::NotAvailable, what));
        };
        let was = was.to_owned();
        // SAFETY: the list is this process's own, and Slurm reads it next when it executes the
        // command. It lives until then: neither Slurm nor we free it.
        unsafe { argv.write(program.into_raw()) };
        Ok(was)
    }
}
