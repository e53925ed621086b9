//! Text on its way to and from C: bytes that no panic and no surprise can come from.

use std::{
    ffi::{CStr, CString, OsStr, c_char},
    os::unix::ffi::OsStrExt,
};

use crate::{Error, ErrorKind};

/// `text` for C. Text with a NUL byte inside cannot be said in C.
pub(crate) fn to_c(what: &str, text: impl AsRef<[u8]>) -> Result<CString, Error> {
    CString::new(text.as_ref()).map_err(|_| Error::new(ErrorKind::NotAName, what))
}

/// The name of an environment variable for C.
pub(crate) fn name_to_c(name: impl AsRef<OsStr>) -> Result<CString, Error> {
    let name = name.as_ref();
    let what = || format!("the variable {name:?}");
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(Error::new(ErrorKind::NotAName, what()));
    }
    to_c(&what(), name.as_bytes())
}

/// `text` for a log line: a NUL byte would cut the line short, so it is shown instead.
pub(crate) fn to_c_lossy(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default()
}

/// Each line of `text` behind `name: `.
pub(crate) fn prefixed(name: &str, text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("{name}: {line}")).collect();
    lines.join("\n")
}

/// The text behind a C pointer, or `None` for a null pointer.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that lives and does not change for `'a`.
pub(crate) unsafe fn from_c<'a>(text: *const c_char) -> Option<&'a OsStr> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller vouches for the string.
    let text = unsafe { CStr::from_ptr(text) };
    Some(OsStr::from_bytes(text.to_bytes()))
}

/// Splits `NAME=value` at the first `=`.
pub(crate) fn split_variable(entry: &OsStr) -> Option<(&OsStr, &OsStr)> {
    let bytes = entry.as_bytes();
    let at = bytes.iter().position(|b| *b == b'=')?;
    Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_byte_is_an_error_for_slurm_and_visible_in_a_log() {
        assert_eq!(to_c("x", "a\0b").map_err(|e| e.kind()), Err(ErrorKind::NotAName));
        assert_eq!(to_c_lossy("a\0b").as_bytes(), b"a\\0b");
    }

    #[test]
    fn a_variable_name_is_not_empty_and_has_no_equals_sign() {
        for name in ["", "A=B", "A\0"] {
            assert_eq!(name_to_c(name).map_err(|e| e.kind()), Err(ErrorKind::NotAName), "{name:?}");
        }
        assert!(name_to_c("A").is_ok());
    }

    #[test]
    fn only_the_first_equals_sign_separates() {
        let entry = OsStr::new("A=b=c");
        assert_eq!(split_variable(entry), Some((OsStr::new("A"), OsStr::new("b=c"))));
        assert_eq!(split_variable(OsStr::new("none")), None);
    }
}
