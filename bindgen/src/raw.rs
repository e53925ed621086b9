//! Slurm's own declarations, as bindgen reads them from the installed headers, and the few that
//! no installed header has.
#![allow(
    clippy::all,
    missing_docs,
    missing_debug_implementations,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    dead_code
)]

use std::ffi::{c_char, c_int, c_void};

include!(concat!(env!("OUT_DIR"), "/slurm.rs"));

// src/common/xmalloc.h and xstring.c: exported under these names, with these signatures, by
// every release from 22.05 to 26.05. Slurm frees what a plugin leaves in its structures with
// slurm_xfree, which looks for a header before the pointer: malloc'ed memory there is heap
// corruption.
unsafe extern "C" {
    pub fn slurm_xstrdup(text: *const c_char) -> *mut c_char;
    pub fn slurm_xfree(item: *mut *mut c_void);
    pub fn slurm_xrecalloc(
        item: *mut *mut c_void,
        count: usize,
        size: usize,
        clear: bool,
        may_fail: bool,
        file: *const c_char,
        line: c_int,
        function: *const c_char,
    ) -> *mut c_void;
}
