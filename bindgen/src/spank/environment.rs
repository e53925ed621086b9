//! The job's environment, and the part of it that the prolog and epilog get to see.

use std::{
    env,
    ffi::{CString, OsStr, OsString, c_char, c_int},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use super::{Context, Spank, item::check};
use crate::{Error, ErrorKind, raw, text};

/// No variable is longer: execve(2) allows 128 KiB for one string, Slurm's own setter 256 KiB.
const LONGEST: usize = 1 << 20;

impl Spank<'_> {
    /// A variable of the job's environment as text; `None` if it is not set.
    ///
    /// In slurmstepd the job's (in a task's hooks: that task's); elsewhere this process's own.
    ///
    /// # Errors
    /// [`ErrorKind::NotUtf8`], and what [`getenv_os`](Spank::getenv_os) answers.
    pub fn getenv(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(value) = self.getenv_os(name)? else { return Ok(None) };
        let value = value.into_string();
        value.map(Some).map_err(|_| Error::new(ErrorKind::NotUtf8, format!("the variable {name}")))
    }

    /// A variable of the job's environment as bytes; `None` if it is not set.
    ///
    /// # Errors
    /// [`ErrorKind::NotAName`] for a name that cannot be one; [`ErrorKind::Slurm`] if Slurm fails.
    pub fn getenv_os(&self, name: &str) -> Result<Option<OsString>, Error> {
        let c_name = text::name_to_c(name)?;
        if self.context() != Context::Remote {
            return Ok(env::var_os(name));
        }
        read_variable(name, |buffer, size| {
            // SAFETY: a valid handle, a NUL-terminated name, a buffer of `size` bytes.
            unsafe { raw::spank_getenv(self.raw(), c_name.as_ptr(), buffer, size) }
        })
    }

    /// Sets a variable of the job's environment, over one that is there.
    ///
    /// In slurmstepd the job's (in a task's hooks: only that task's). In srun, sbatch and salloc this
    /// process's own, which is what becomes the job's: call it in `init` or `init_post_opt` only,
    /// while the command has one thread.
    ///
    /// # Errors
    /// [`ErrorKind::NotAName`] for a NUL byte; [`ErrorKind::Slurm`] if it cannot be set;
    /// [`ErrorKind::NotAvailable`] in slurmd and in prolog and epilog, where no job would see it.
    pub fn setenv(
        &mut self,
        name: impl AsRef<OsStr>,
        value: impl AsRef<OsStr>,
    ) -> Result<(), Error> {
        let shown = name.as_ref().display().to_string();
        let c_value = text::to_c(&shown, value.as_ref().as_bytes())?;
        let c_name = text::name_to_c(name)?;
        let what = format!("setting the variable {shown}");
        match self.context() {
            Context::Remote => {
                let (name, value) = (c_name.as_ptr(), c_value.as_ptr());
                // SAFETY: a valid handle and NUL-terminated strings, which Slurm copies.
                check(&what, unsafe { raw::spank_setenv(self.raw(), name, value, 1) })
            }
            Context::Local | Context::Allocator => {
                // SAFETY: copied by the C library; the commands call hooks before their threads.
                match unsafe { libc::setenv(c_name.as_ptr(), c_value.as_ptr(), 1) } {
                    0 => Ok(()),
                    _ => Err(Error::new(ErrorKind::Slurm(libc::ENOMEM), what)),
                }
            }
            _ => Err(Error::new(ErrorKind::NotAvailable, what)),
        }
    }

    /// Removes a variable from the job's environment, under the rules of
    /// [`setenv`](Spank::setenv).
    ///
    /// # Errors
    /// As [`setenv`](Spank::setenv).
    pub fn unsetenv(&mut self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let what = format!("removing the variable {}", name.as_ref().display());
        let c_name = text::name_to_c(name)?;
        match self.context() {
            Context::Remote => {
                // SAFETY: a valid handle and a NUL-terminated name.
                check(&what, unsafe { raw::spank_unsetenv(self.raw(), c_name.as_ptr()) })
            }
            Context::Local | Context::Allocator => {
                // SAFETY: a NUL-terminated name; the commands call hooks before their threads.
                unsafe { libc::unsetenv(c_name.as_ptr()) };
                Ok(())
            }
            _ => Err(Error::new(ErrorKind::NotAvailable, what)),
        }
    }

    /// Sets a variable that slurmctld stores with the job: Prolog and Epilog see it as
    /// `SPANK_<name>`, job_submit plugins under its own name. Only before submission.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] after submission.
    pub fn job_control_setenv(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let (c_name, c_value) = (text::name_to_c(name)?, text::to_c(name, value)?);
        let (c_name, c_value) = (c_name.as_ptr(), c_value.as_ptr());
        // SAFETY: a valid handle and NUL-terminated strings, which Slurm copies.
        let rc = unsafe { raw::spank_job_control_setenv(self.raw(), c_name, c_value, 1) };
        check(&format!("setting the job-control variable {name}"), rc)
    }

    /// A variable set by [`job_control_setenv`](Spank::job_control_setenv), by this plugin or
    /// another. Only before submission: in prolog and epilog use `getenv("SPANK_<name>")`.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] after submission, [`ErrorKind::NotUtf8`].
    pub fn job_control_getenv(&self, name: &str) -> Result<Option<String>, Error> {
        let c_name: CString = text::name_to_c(name)?;
        let value = read_variable(name, |buffer, size| {
            // SAFETY: a valid handle, a NUL-terminated name, a buffer of `size` bytes.
            unsafe { raw::spank_job_control_getenv(self.raw(), c_name.as_ptr(), buffer, size) }
        })?;
        let value = value.map(OsString::into_string).transpose();
        value.map_err(|_| Error::new(ErrorKind::NotUtf8, format!("the variable {name}")))
    }

    /// Removes a variable set by [`job_control_setenv`](Spank::job_control_setenv).
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] after submission.
    pub fn job_control_unsetenv(&mut self, name: &str) -> Result<(), Error> {
        let c_name = text::name_to_c(name)?;
        // SAFETY: a valid handle and a NUL-terminated name.
        let rc = unsafe { raw::spank_job_control_unsetenv(self.raw(), c_name.as_ptr()) };
        check(&format!("removing the job-control variable {name}"), rc)
    }
}

/// Reads a variable with a buffer that grows until it fits. `None` if it is not set.
fn read_variable(
    name: &str,
    read: impl Fn(*mut c_char, c_int) -> raw::spank_err_t,
) -> Result<Option<OsString>, Error> {
    let what = format!("reading the variable {name}");
    let mut size = 1024;
    while size <= LONGEST {
        let mut buffer = vec![0_u8; size];
        match read(buffer.as_mut_ptr().cast(), size as c_int) {
            raw::ESPANK_NOSPACE => size *= 4,
            raw::ESPANK_ENV_NOEXIST => return Ok(None),
            rc => {
                check(&what, rc)?;
                let length = buffer.iter().position(|b| *b == 0).unwrap_or(buffer.len());
                buffer.truncate(length);
                return Ok(Some(OsString::from_vec(buffer)));
            }
        }
    }
    Err(Error::new(ErrorKind::Slurm(libc::E2BIG), what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_read_whole() {
        let long = "x".repeat(200_000);
        let read = |buffer: *mut c_char, size: c_int| {
            if long.len() >= size as usize {
                return raw::ESPANK_NOSPACE;
            }
            // SAFETY: the value fits, as just seen.
            unsafe { buffer.copy_from_nonoverlapping(long.as_ptr().cast(), long.len()) };
            0
        };
        assert_eq!(read_variable("X", read), Ok(Some(OsString::from(&long))));
    }

    #[test]
    fn a_value_without_end_is_an_error() {
        assert!(read_variable("X", |_, _| raw::ESPANK_NOSPACE).is_err());
    }

    #[test]
    fn an_unset_variable_is_none() {
        assert_eq!(read_variable("X", |_, _| raw::ESPANK_ENV_NOEXIST), Ok(None));
    }
}
