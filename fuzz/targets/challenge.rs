//! How a registry wants to be asked, and the token that it gives.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../imgtool/src/registry/challenge.rs"]
mod challenge;

fuzz_target!(|bytes: &[u8]| {
    if let Some(token) = challenge::token(bytes) {
        // It becomes part of a header.
        assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
    }
    if let Ok(header) = std::str::from_utf8(bytes) {
        let _ = challenge::Challenge::parse(header);
    }
});
