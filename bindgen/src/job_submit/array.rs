//! An array of `NAME=value` strings with its length beside it, as job descriptions have them.
//!
//! Older releases do not end such an array with a null pointer: only the length counts.

use std::{
    ffi::{CString, OsStr, c_char, c_int},
    os::unix::ffi::OsStrExt,
    ptr,
};

use super::memory;
use crate::{Error, ErrorKind, raw, text};

/// The array behind two fields of a structure of Slurm's.
///
/// Every method is unsafe for the same reason: the fields are valid, nobody else uses them
/// meanwhile, `list` is null or holds `length` pointers, each null or to a NUL-terminated string,
/// and all of it was made by Slurm's allocator.
pub(super) struct Array {
    pub(super) list: *mut *mut *mut c_char,
    pub(super) length: *mut u32,
}

impl Array {
    /// The value of the first entry `name=`, as bytes.
    ///
    /// # Safety
    /// See [`Array`]. The value does not change while `'a` lasts.
    pub(super) unsafe fn get<'a>(&self, name: &str) -> Option<&'a OsStr> {
        // SAFETY: passed on.
        (0..unsafe { self.count() }).find_map(|at| {
            // SAFETY: below the length.
            let field = unsafe { self.field(at) };
            // SAFETY: an entry of the array.
            let (found, value) = text::split_variable(unsafe { memory::read(field) }?)?;
            (found == name).then_some(value)
        })
    }

    /// Sets `name=value`: all entries of that name, or a new one at the end.
    ///
    /// # Safety
    /// See [`Array`].
    pub(super) unsafe fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        text::name_to_c(name)?;
        let entry = text::to_c(name, format!("{name}={value}"))?;
        let prefix = format!("{name}=");
        let mut found = false;
        // SAFETY: passed on.
        for at in 0..unsafe { self.count() } {
            // SAFETY: below the length.
            let field = unsafe { self.field(at) };
            // SAFETY: an entry of the array.
            let before = unsafe { memory::read(field) };
            if before.is_some_and(|before| before.as_bytes().starts_with(prefix.as_bytes())) {
                found = true;
                let copy = memory::duplicate(&entry)?;
                // SAFETY: as above.
                let mut before = unsafe { ptr::replace(field, copy) };
                // SAFETY: made by Slurm's allocator, and nobody else's any more.
                unsafe { raw::slurm_xfree((&raw mut before).cast()) };
            }
        }
        if found {
            return Ok(());
        }
        // SAFETY: passed on.
        unsafe { self.push(&entry) }
    }

    /// # Safety
    /// See [`Array`].
    unsafe fn push(&mut self, entry: &CString) -> Result<(), Error> {
        let full = || Error::new(ErrorKind::Slurm(libc::ENOMEM), "growing an array of Slurm's");
        let copy = memory::duplicate(entry)?;
        // SAFETY: passed on.
        let at = unsafe { self.count() };
        // One more for the null pointer that newer releases expect at the end.
        let count = at.checked_add(2).ok_or_else(full)?;
        let file = c"array.rs".as_ptr();
        let (clear, may_fail, line) = (true, true, line!() as c_int);
        // SAFETY: null or made by Slurm's allocator; the new part is zeroed.
        let grown = unsafe {
            raw::slurm_xrecalloc(
                self.list.cast(),
                count,
                size_of::<*mut c_char>(),
                clear,
                may_fail,
                file,
                line,
                file,
            )
        };
        if grown.is_null() {
            let mut copy = copy;
            // SAFETY: made by Slurm's allocator just now.
            unsafe { raw::slurm_xfree((&raw mut copy).cast()) };
            return Err(full());
        }
        // SAFETY: the array has two places from here on.
        let field = unsafe { self.field(at) };
        // SAFETY: as above; nothing of value is there.
        unsafe { field.write(copy) };
        // SAFETY: as above. xrecalloc zeroes only what it adds.
        unsafe { field.wrapping_add(1).write(ptr::null_mut()) };
        let length = u32::try_from(at + 1).map_err(|_| full())?;
        // SAFETY: the caller vouches for it.
        unsafe { self.length.write(length) };
        Ok(())
    }

    /// # Safety
    /// See [`Array`].
    unsafe fn count(&self) -> usize {
        // SAFETY: the caller vouches for the field.
        let list = unsafe { self.list.read() };
        // SAFETY: and for this one.
        let length = unsafe { self.length.read() };
        if list.is_null() { 0 } else { length as usize }
    }

    /// # Safety
    /// See [`Array`]; `at` is below what was allocated.
    unsafe fn field(&self, at: usize) -> *mut *mut c_char {
        // SAFETY: the caller vouches for the field.
        let list = unsafe { self.list.read() };
        // SAFETY: and for the place in the list.
        unsafe { list.add(at) }
    }
}
