//! What the writer is told by a reader that a hostile registry has taken over.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../imgtool/src/wire.rs"]
mod wire;

use wire::{ToReader, ToWriter};

fuzz_target!(|bytes: &[u8]| {
    let _ = ToReader::receive(&mut &bytes[..]);
    let mut rest = bytes;
    while let Ok(message) = ToWriter::receive(&mut rest) {
        let mut sent = Vec::new();
        message.send(&mut sent).expect("what was received can be sent");
        assert_eq!(ToWriter::receive(&mut &sent[..]).ok(), Some(message));
    }
});
