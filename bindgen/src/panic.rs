//! Panics end here: they are logged where an administrator looks, and become an error.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    sync::{Once, OnceLock},
};

use crate::log;

/// A panic that was caught.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Calls `body`; no panic leaves it.
pub(crate) fn contain<T>(body: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(|payload: Box<dyn Any + Send>| {
        // Dropping a payload runs the plugin's code, which may panic again.
        std::mem::forget(payload);
        Panicked
    })
}

/// Sends the words of a panic to Slurm's log. Rust's own hook would write to standard error, which
/// is /dev/null in a daemon and the user's output in a job.
pub(crate) fn log_panics_as(plugin: &'static str) {
    static NAME: OnceLock<&'static str> = OnceLock::new();
    static ONCE: Once = Once::new();
    NAME.get_or_init(|| plugin);
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let name = NAME.get().copied().unwrap_or("plugin");
            // One line: "panicked at FILE:LINE:COLUMN: WORDS".
            let words = info.to_string().replace('\n', " ");
            log::error(&format!("{name}: this is a bug in {name}: {words}"));
        }));
    });
}
