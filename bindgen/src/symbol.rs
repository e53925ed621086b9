//! What is looked up in the running process instead of being linked: functions that not every
//! Slurm program or release has, and what other plugins say of themselves.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_long, c_void},
    ptr::NonNull,
};

/// The address of `name` in this process.
pub(crate) fn find(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: a lookup by a NUL-terminated name.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// What `slurm_api_version()` of the running libslurm returns.
pub(crate) fn api_version() -> Option<u32> {
    let found = find(c"slurm_api_version")?;
    // SAFETY: slurm.h declares `long slurm_api_version(void)` in every release.
    let function: extern "C" fn() -> c_long = unsafe { std::mem::transmute(found.as_ptr()) };
    u32::try_from(function()).ok()
}

/// The `plugin_version` of a plugin of Slurm's own that this process has loaded already.
///
/// job_submit plugins must match to the micro release, which no function of Slurm returns.
/// slurmctld loads its authentication, selection and scheduling plugins before job_submit ones.
pub(crate) fn sibling_plugin_version() -> Option<u32> {
    loaded_objects().iter().find_map(|path| version_of_loaded(path))
}

fn version_of_loaded(path: &CStr) -> Option<u32> {
    // SAFETY: a NUL-terminated path; NOLOAD, so that no code of the object runs.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return None;
    }
    // SAFETY: a valid handle and NUL-terminated names.
    let kind = unsafe { libc::dlsym(handle, c"plugin_type".as_ptr()) }.cast::<c_char>();
    // SAFETY: as above.
    let version = unsafe { libc::dlsym(handle, c"plugin_version".as_ptr()) }.cast::<u32>();
    let mut answer = None;
    if !kind.is_null() && !version.is_null() {
        // SAFETY: every Slurm plugin's plugin_type is a NUL-terminated character array.
        let kind = unsafe { CStr::from_ptr(kind) };
        // SAFETY: and its plugin_version an unsigned 32-bit number.
        let version = unsafe { version.read() };
        // SPANK plugins need not match to the micro release, and both kinds may set their
        // version in this very way (this one is in the list as well).
        let kind = kind.to_bytes();
        let may_be_ours = kind == b"spank" || kind.starts_with(b"job_submit/");
        answer = (!may_be_ours).then_some(version);
    }
    // SAFETY: gives back the reference that dlopen took.
    unsafe { libc::dlclose(handle) };
    answer
}

/// The paths of everything this process has mapped as code, in load order.
fn loaded_objects() -> Vec<CString> {
    /// # Safety
    /// `info` is valid, `data` is a `Vec<CString>` that nobody else uses.
    unsafe extern "C" fn note(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: `data` is the vector below, borrowed for the length of the walk only.
        let found = unsafe { &mut *data.cast::<Vec<CString>>() };
        // SAFETY: the C library passes a valid entry.
        let name = unsafe { (*info).dlpi_name };
        if !name.is_null() {
            // SAFETY: not null, and the C library's names are NUL-terminated.
            let name = unsafe { CStr::from_ptr(name) };
            if !name.is_empty() {
                found.push(name.to_owned());
            }
        }
        0
    }
    let mut found: Vec<CString> = Vec::new();
    // SAFETY: `note` keeps to the interface, and `found` outlives the walk.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut found).cast()) };
    found
}
