//! What Slurm knows of the job, the step and the task.

use std::ffi::{OsStr, OsString, c_char, c_int};

use super::Spank;
use crate::{Error, ErrorKind, raw, text};

/// A step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepId {
    /// A step of srun's.
    Number(u32),
    /// The batch script.
    Batch,
    /// The step that adopted processes live in (`PrologFlags=Contain`).
    Extern,
    /// The shell of a salloc with `use_interactive_step`.
    Interactive,
}

impl From<u32> for StepId {
    fn from(id: u32) -> StepId {
        match id {
            raw::SLURM_BATCH_SCRIPT => StepId::Batch,
            raw::SLURM_EXTERN_CONT => StepId::Extern,
            raw::SLURM_INTERACTIVE_STEP => StepId::Interactive,
            id => StepId::Number(id),
        }
    }
}

/// Defines methods that read one item by one pointer.
macro_rules! items {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $item:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// [`ErrorKind::NotAvailable`] where Slurm does not know it.
        pub fn $name(&self) -> Result<$type, Error> {
            let mut value: $type = 0;
            // SAFETY: a valid handle, and a pointer to the type that spank.h names for this item.
            let rc = unsafe { raw::spank_get_item(self.raw(), raw::$item, &raw mut value) };
            check(stringify!($name), rc).map(|()| value)
        }
    )*};
}

impl Spank<'_> {
    items! {
        /// The job's user. Known on a node, and in srun from `local_user_init`.
        uid: u32 = S_JOB_UID;
        /// The job's primary group. Known where [`uid`](Spank::uid) is.
        gid: u32 = S_JOB_GID;
        /// The job's id; an array's task and a heterogeneous job's component each have their own.
        job_id: u32 = S_JOB_ID;
        /// The number of nodes of the step.
        node_count: u32 = S_JOB_NNODES;
        /// This node's number within the step, from 0.
        node_id: u32 = S_JOB_NODEID;
        /// The number of the step's tasks on this node.
        local_task_count: u32 = S_JOB_LOCAL_TASK_COUNT;
        /// The number of the step's tasks; 0 in a batch step.
        total_task_count: u32 = S_JOB_TOTAL_TASK_COUNT;
        /// The task's number on this node, from 0. Known in the hooks of a task.
        local_task_id: c_int = S_TASK_ID;
        /// The task's number within the step, from 0: its rank. Known in the hooks of a task.
        global_task_id: u32 = S_TASK_GLOBAL_ID;
        /// The task's wait status. Known in `task_exit`.
        task_exit_status: c_int = S_TASK_EXIT_STATUS;
        /// The task's process. Known in the hooks of a task.
        task_pid: c_int = S_TASK_PID;
        /// How often the job was requeued.
        restart_count: u32 = S_SLURM_RESTART_COUNT;
        /// The id of the job array, 0 for a job that is not of one.
        array_job_id: u32 = S_JOB_ARRAY_ID;
        /// The job's number within its array.
        array_task_id: u32 = S_JOB_ARRAY_TASK_ID;
    }

    /// The step's id.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] where Slurm does not know it.
    pub fn step_id(&self) -> Result<StepId, Error> {
        let mut id: u32 = 0;
        // SAFETY: a valid handle and the uint32_t* that S_JOB_STEPID takes.
        let rc = unsafe { raw::spank_get_item(self.raw(), raw::S_JOB_STEPID, &raw mut id) };
        check("step_id", rc).map(|()| StepId::from(id))
    }

    /// All the groups that the job's user is in on this node, as slurmd resolved them.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] outside of slurmstepd.
    pub fn supplementary_gids(&self) -> Result<Vec<u32>, Error> {
        let mut gids: *mut libc::gid_t = std::ptr::null_mut();
        let mut count: c_int = 0;
        let (list, length) = (&raw mut gids, &raw mut count);
        // SAFETY: a valid handle and the gid_t** and int* that this item takes.
        let rc =
            unsafe { raw::spank_get_item(self.raw(), raw::S_JOB_SUPPLEMENTARY_GIDS, list, length) };
        check("supplementary_gids", rc)?;
        let count = usize::try_from(count).unwrap_or(0);
        if gids.is_null() || count == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: Slurm keeps `count` groups there for as long as the job's record lives.
        Ok(unsafe { std::slice::from_raw_parts(gids, count) }.to_vec())
    }

    /// The step's command. Known in slurmstepd, and in srun from `local_user_init`.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] where Slurm does not know it.
    pub fn argv(&self) -> Result<Vec<OsString>, Error> {
        let mut argv: *mut *mut c_char = std::ptr::null_mut();
        let mut argc: c_int = 0;
        let (count, list) = (&raw mut argc, &raw mut argv);
        // SAFETY: a valid handle and the int* and char*** that this item takes.
        let rc = unsafe { raw::spank_get_item(self.raw(), raw::S_JOB_ARGV, count, list) };
        check("argv", rc)?;
        // SAFETY: Slurm keeps that many strings there, some of which may be null.
        Ok(unsafe { strings(argv, usize::try_from(argc).unwrap_or(0)) })
    }

    /// The whole environment of the job (in a task's hooks: of that task), as `NAME=value`. It is
    /// borrowed: nothing is copied, for ranks ask for it while their siblings wait.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] outside of slurmstepd.
    pub fn job_environment(&self) -> Result<Vec<(&OsStr, &OsStr)>, Error> {
        let mut env: *mut *mut c_char = std::ptr::null_mut();
        // SAFETY: a valid handle and the char*** that this item takes.
        let rc = unsafe { raw::spank_get_item(self.raw(), raw::S_JOB_ENV, &raw mut env) };
        check("job_environment", rc)?;
        if env.is_null() {
            return Err(Error::new(ErrorKind::NotAvailable, "job_environment"));
        }
        // SAFETY: it ends with a null pointer. Slurm changes it by our own hand only, which needs
        // the handle for itself, and in this process, which has one thread or is in our hook.
        let entries = unsafe { borrowed(env, usize::MAX) };
        Ok(entries.into_iter().filter_map(text::split_variable).collect())
    }

    /// The release of the running Slurm in its own words, as in "22.05.8".
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] where Slurm does not say.
    pub fn slurm_version(&self) -> Result<String, Error> {
        let mut version: *mut c_char = std::ptr::null_mut();
        // SAFETY: a valid handle and the char** that this item takes.
        let rc = unsafe { raw::spank_get_item(self.raw(), raw::S_SLURM_VERSION, &raw mut version) };
        check("slurm_version", rc)?;
        // SAFETY: a constant of Slurm's.
        let version = unsafe { text::from_c(version) };
        let version =
            version.ok_or_else(|| Error::new(ErrorKind::NotAvailable, "slurm_version"))?;
        Ok(version.to_string_lossy().into_owned())
    }
}

/// Copies up to `limit` strings, or those before the first null pointer.
///
/// # Safety
/// `list` is null or holds `limit` pointers or ends with a null pointer; the strings are
/// NUL-terminated.
pub(super) unsafe fn strings(list: *mut *mut c_char, limit: usize) -> Vec<OsString> {
    // SAFETY: the caller vouches for list and strings, which are copied before this returns.
    unsafe { borrowed(list, limit) }.into_iter().map(OsStr::to_owned).collect()
}

/// As [`strings`], but as they are there.
///
/// # Safety
/// As for [`strings`]; and the strings neither move nor change for `'a`.
unsafe fn borrowed<'a>(list: *mut *mut c_char, limit: usize) -> Vec<&'a OsStr> {
    let mut found = Vec::new();
    if list.is_null() {
        return found;
    }
    for at in 0..limit {
        // SAFETY: no null pointer came before, so this entry is still of the list.
        let entry = unsafe { list.add(at) };
        // SAFETY: as above.
        let entry = unsafe { entry.read() };
        // SAFETY: the caller vouches for the strings.
        match unsafe { text::from_c(entry) } {
            Some(string) => found.push(string),
            None => break,
        }
    }
    found
}

/// Slurm's answer as a result.
pub(super) fn check(what: &str, rc: raw::spank_err_t) -> Result<(), Error> {
    let kind = match rc {
        0 => return Ok(()),
        raw::ESPANK_NOT_AVAIL
        | raw::ESPANK_NOT_REMOTE
        | raw::ESPANK_NOT_LOCAL
        | raw::ESPANK_NOT_TASK
        | raw::ESPANK_NOT_EXECD
        | raw::ESPANK_BAD_ARG => ErrorKind::NotAvailable,
        raw::ESPANK_ENV_NOEXIST | raw::ESPANK_NOEXIST => ErrorKind::Missing,
        code => ErrorKind::Slurm(code.try_into().unwrap_or(i32::MAX)),
    };
    Err(Error::new(kind, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_steps_have_names() {
        assert_eq!(StepId::from(0), StepId::Number(0));
        assert_eq!(StepId::from(0xffff_fffb), StepId::Batch);
        assert_eq!(StepId::from(0xffff_fffc), StepId::Extern);
        assert_eq!(StepId::from(0xffff_fffa), StepId::Interactive);
    }

    #[test]
    fn a_list_ends_at_its_null_pointer_or_its_length() {
        let (a, b) = (c"a", c"b");
        let mut list = [a.as_ptr().cast_mut(), b.as_ptr().cast_mut(), std::ptr::null_mut()];
        // SAFETY: two strings and a null pointer.
        assert_eq!(unsafe { strings(list.as_mut_ptr(), usize::MAX) }, ["a", "b"]);
        // SAFETY: as above.
        assert_eq!(unsafe { strings(list.as_mut_ptr(), 1) }, ["a"]);
        // SAFETY: null is an empty list.
        assert!(unsafe { strings(std::ptr::null_mut(), 5) }.is_empty());
    }
}
