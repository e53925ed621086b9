//! A stopwatch for system calls.

use std::fmt::Display;
use std::time::Instant;

/// Named calls in the order in which they were made, and the time since the first.
#[derive(Debug)]
pub(crate) struct Laps {
    begin: Instant,
    calls: Vec<(&'static str, f64)>,
    total: f64,
}

impl Laps {
    pub(crate) fn start() -> Laps {
        Laps { begin: Instant::now(), calls: Vec::with_capacity(128), total: 0.0 }
    }

    /// Makes one call and records its time; calls of the same name add up.
    pub(crate) fn call<T, E: Display>(
        &mut self,
        name: &'static str,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, String> {
        let begin = Instant::now();
        let result = call();
        let micros = begin.elapsed().as_secs_f64() * 1e6;
        match self.calls.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += micros,
            None => self.calls.push((name, micros)),
        }
        result.map_err(|error| format!("{name}: {error}"))
    }

    pub(crate) fn stop(mut self) -> Laps {
        self.total = self.begin.elapsed().as_secs_f64() * 1e6;
        self
    }

    /// Microseconds from start to stop.
    pub(crate) fn total(&self) -> f64 {
        self.total
    }

    /// Name and microseconds of each call.
    pub(crate) fn calls(&self) -> &[(&'static str, f64)] {
        &self.calls
    }
}
