//! What a client asks slurmctld for.
//!
//! The structure's layout is that of the release this was built for; on another release only the
//! variables can be read, and the boundary calls nothing but `asked_for`.

use std::{
    ffi::{OsStr, OsString, c_char},
    fmt,
    marker::PhantomData,
    ptr,
};

use super::{
    array::Array,
    layout::{self, Layout},
    memory,
};
use crate::{Error, ErrorKind, raw};

/// A job as its client describes it. Every byte of it comes from a user.
pub struct JobDescription<'a> {
    raw: *mut raw::job_desc_msg_t,
    layout: Layout,
    lifetime: PhantomData<&'a mut ()>,
}

/// Which list of variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variables {
    /// The environment of the batch script (sbatch only).
    Environment,
    /// What SPANK plugins in the client left for the job: job-control variables and options, as
    /// `_SLURM_SPANK_OPTION_<plugin>_<option>`. Prolog and Epilog see it with a `SPANK_` before
    /// each name.
    SpankJob,
}

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// An administrator's comment on the job, kept by accounting.
    AdminComment,
    /// The user's comment on the job.
    Comment,
    /// The batch script.
    Script,
    /// The command line that the job was submitted with.
    SubmitLine,
    /// The name of the job.
    Name,
}

impl JobDescription<'_> {
    /// # Safety
    /// `raw` is slurmctld's own description, with its lists where `layout` says, while it calls.
    pub(super) unsafe fn new(raw: *mut raw::job_desc_msg_t, layout: Layout) -> Self {
        JobDescription { raw, layout, lifetime: PhantomData }
    }

    /// The user that the job will run as; `None` on a release that this was not built for.
    pub fn user_id(&self) -> Option<u32> {
        // SAFETY: valid while slurmctld calls.
        self.is_native().then(|| unsafe { (*self.raw).user_id })
    }

    /// The group that the job will run as; `None` on a release that this was not built for.
    pub fn group_id(&self) -> Option<u32> {
        // SAFETY: valid while slurmctld calls.
        self.is_native().then(|| unsafe { (*self.raw).group_id })
    }

    /// Whether there is a batch script: nobody sits before this job.
    pub fn is_batch(&self) -> bool {
        self.text(Text::Script).is_some()
    }

    /// One of the texts, as bytes; `None` on a release that this was not built for.
    pub fn text(&self, which: Text) -> Option<&OsStr> {
        let field = self.text_field(which)?;
        // SAFETY: the field is valid while slurmctld calls.
        unsafe { memory::read(field) }
    }

    /// Replaces one of the texts.
    ///
    /// # Errors
    /// [`ErrorKind::NotAName`] for a NUL byte; [`ErrorKind::NotAvailable`] on a release that this
    /// was not built for.
    pub fn set_text(&mut self, which: Text, value: &str) -> Result<(), Error> {
        let foreign = || Error::new(ErrorKind::NotAvailable, format!("setting {which:?}"));
        let field = self.text_field(which).ok_or_else(foreign)?;
        // SAFETY: valid while slurmctld calls, and made by Slurm's allocator.
        unsafe { memory::replace(field, &format!("{which:?}"), value) }
    }

    /// A variable as bytes.
    pub fn variable_os(&self, which: Variables, name: &str) -> Option<OsString> {
        let array = self.array(which);
        // SAFETY: slurmctld's own array.
        unsafe { array.get(name) }.map(OsStr::to_owned)
    }

    /// A variable as text.
    ///
    /// # Errors
    /// [`ErrorKind::NotUtf8`].
    pub fn variable(&self, which: Variables, name: &str) -> Result<Option<String>, Error> {
        let value = self.variable_os(which, name).map(OsString::into_string).transpose();
        value.map_err(|_| Error::new(ErrorKind::NotUtf8, format!("the variable {name}")))
    }

    /// Sets a variable, over one that is there.
    ///
    /// # Errors
    /// [`ErrorKind::NotAName`] for what cannot be said in an environment.
    pub fn set_variable(&mut self, which: Variables, name: &str, value: &str) -> Result<(), Error> {
        let mut array = self.array(which);
        // SAFETY: slurmctld's own array, made by Slurm's allocator.
        unsafe { array.set(name, value) }
    }

    fn array(&self, which: Variables) -> Array {
        let (list, length) = match which {
            Variables::Environment => (self.layout.environment, self.layout.env_size),
            Variables::SpankJob => (self.layout.spank_job_env, self.layout.spank_job_env_size),
        };
        let start = self.raw.cast::<u8>();
        Array { list: start.wrapping_add(list).cast(), length: start.wrapping_add(length).cast() }
    }

    fn text_field(&self, which: Text) -> Option<*mut *mut c_char> {
        if !self.is_native() {
            return None;
        }
        // SAFETY: valid while slurmctld calls, and laid out as in the headers.
        let job = unsafe { &mut *self.raw };
        Some(ptr::from_mut(match which {
            Text::AdminComment => &mut job.admin_comment,
            Text::Comment => &mut job.comment,
            Text::Script => &mut job.script,
            Text::SubmitLine => &mut job.submit_line,
            Text::Name => &mut job.name,
        }))
    }

    fn is_native(&self) -> bool {
        self.layout == layout::NATIVE
    }
}

impl fmt::Debug for JobDescription<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobDescription").field("user_id", &self.user_id()).finish_non_exhaustive()
    }
}
