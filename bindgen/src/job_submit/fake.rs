//! Slurm's allocator for tests: a header with a magic number before each block, as in xmalloc.c, so
//! that memory from anywhere else is noticed when it is freed.

#![allow(clippy::missing_safety_doc, reason = "Slurm's own contracts")]

use std::ffi::{c_char, c_int, c_void};

const MAGIC: usize = 0x42;
const HEADER: usize = 2;

#[unsafe(no_mangle)]
unsafe extern "C" fn slurm_xstrdup(text: *const c_char) -> *mut c_char {
    // SAFETY: a test passes a string.
    let length = unsafe { libc::strlen(text) } + 1;
    let mut copy: *mut c_void = std::ptr::null_mut();
    // SAFETY: a null pointer grows from nothing.
    unsafe {
        slurm_xrecalloc(&raw mut copy, 1, length, true, false, text, 0, text);
    }
    // SAFETY: as long as the string.
    unsafe { libc::memcpy(copy, text.cast(), length) };
    copy.cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn slurm_xfree(item: *mut *mut c_void) {
    // SAFETY: a test passes a valid field.
    let block = unsafe { item.read() }.cast::<usize>();
    if block.is_null() {
        return;
    }
    let header = block.wrapping_sub(HEADER);
    // SAFETY: every block has a header.
    assert_eq!(unsafe { header.read() }, MAGIC, "not Slurm's memory");
    // SAFETY: as above; a second free will notice.
    unsafe { header.write(0) };
    // SAFETY: made by realloc below.
    unsafe { libc::free(header.cast()) };
    // SAFETY: a valid field.
    unsafe { item.write(std::ptr::null_mut()) };
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn slurm_xrecalloc(
    item: *mut *mut c_void,
    count: usize,
    size: usize,
    _clear: bool,
    _may_fail: bool,
    _file: *const c_char,
    _line: c_int,
    _function: *const c_char,
) -> *mut c_void {
    // SAFETY: a test passes a valid field.
    let block = unsafe { item.read() }.cast::<usize>();
    let bytes = count * size;
    let (header, before) = if block.is_null() {
        (std::ptr::null_mut(), 0)
    } else {
        let header = block.wrapping_sub(HEADER);
        // SAFETY: every block has a header.
        assert_eq!(unsafe { header.read() }, MAGIC, "not Slurm's memory");
        // SAFETY: the second word is the length.
        (header, unsafe { header.wrapping_add(1).read() })
    };
    // SAFETY: null or made here.
    let grown = unsafe { libc::realloc(header.cast(), HEADER * 8 + bytes) }.cast::<usize>();
    // SAFETY: just made.
    unsafe { grown.write(MAGIC) };
    let length = grown.wrapping_add(1);
    // SAFETY: as above.
    unsafe { length.write(bytes) };
    let block = grown.wrapping_add(HEADER).cast::<u8>();
    if bytes > before {
        // SAFETY: the new part of the block.
        unsafe { libc::memset(block.wrapping_add(before).cast(), 0, bytes - before) };
    }
    // SAFETY: a valid field.
    unsafe { item.write(block.cast()) };
    block.cast()
}
