//! What another process of ours tells, that somebody hostile may have taken over: a reader its
//! writer, another site's shifterimg this one; and what a daemon answers.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../imgtool/src"]
mod imgtool {
    pub(crate) mod wire;
}
#[path = "../../imgtool/src/import"]
mod import {
    pub(crate) mod announced;
}
#[path = "../../imgtool/src/import/daemon"]
mod daemon {
    pub(crate) mod answer;
}

use imgtool::wire::{ToReader, ToWriter};
use import::announced::Announced;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    if let Ok(Some(announced)) = Announced::next(&mut rest) {
        let line = announced.line().expect("what was understood can be said") + "\n";
        assert_eq!(Announced::next(&mut line.as_bytes()).ok().flatten(), Some(announced));
    }
    let mut rest = bytes;
    if daemon::answer::head(&mut rest).is_ok() {
        assert!(!daemon::answer::message(rest).contains(char::is_control));
    }
    let _ = ToReader::receive(&mut &bytes[..]);
    let mut rest = bytes;
    while let Ok(message) = ToWriter::receive(&mut rest) {
        let mut sent = Vec::new();
        message.send(&mut sent).expect("what was received can be sent");
        assert_eq!(ToWriter::receive(&mut &sent[..]).ok(), Some(message));
    }
});
