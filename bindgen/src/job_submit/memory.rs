//! Strings that Slurm owns: made and freed by Slurm's own allocator.

use std::{
    ffi::{CStr, OsStr, c_char},
    ptr,
};

use crate::{Error, ErrorKind, raw, text};

/// A copy of `text` that Slurm can free.
pub(super) fn duplicate(text: &CStr) -> Result<*mut c_char, Error> {
    // SAFETY: a NUL-terminated string, which Slurm copies.
    let copy = unsafe { raw::slurm_xstrdup(text.as_ptr()) };
    if copy.is_null() {
        return Err(Error::new(ErrorKind::Slurm(libc::ENOMEM), "copying a string for Slurm"));
    }
    Ok(copy)
}

/// Puts a copy of `value` into a field of Slurm's, and frees what was there.
///
/// # Safety
/// `field` is valid, and null or made by Slurm's allocator.
pub(super) unsafe fn replace(
    field: *mut *mut c_char,
    what: &str,
    value: &str,
) -> Result<(), Error> {
    let copy = duplicate(&text::to_c(what, value)?)?;
    // SAFETY: the caller vouches for the field.
    let mut before = unsafe { ptr::replace(field, copy) };
    // SAFETY: null, or made by Slurm's allocator.
    unsafe { raw::slurm_xfree((&raw mut before).cast()) };
    Ok(())
}

/// What a field of Slurm's says.
///
/// # Safety
/// `field` is valid; its string does not change while `'a` lasts.
pub(super) unsafe fn read<'a>(field: *const *mut c_char) -> Option<&'a OsStr> {
    // SAFETY: the caller vouches for the field.
    let field = unsafe { field.read() };
    // SAFETY: and for its string.
    unsafe { text::from_c(field) }
}
