//! Percentiles and how they are printed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::stage::Staged;
use crate::sys::Entered;

/// Microseconds of every call and every total.
#[derive(Debug)]
pub(crate) struct Report {
    image: PathBuf,
    binds: usize,
    cold: Samples,
    warm: Samples,
    enter: Vec<f64>,
    renounce: Vec<f64>,
    /// A program run on the host, as the first in a cold UDI, and as the second there.
    exec: [Vec<f64>; 3],
}

#[derive(Debug, Default)]
struct Samples {
    totals: Vec<f64>,
    /// In the order of the first staging, so that this is the list of calls as well.
    calls: Vec<(&'static str, Vec<f64>)>,
}

impl Samples {
    fn add(&mut self, staged: &Staged) {
        self.totals.push(staged.laps.total());
        for &(name, micros) in staged.laps.calls() {
            match self.calls.iter_mut().find(|(known, _)| *known == name) {
                Some((_, samples)) => samples.push(micros),
                None => self.calls.push((name, vec![micros])),
            }
        }
    }

    fn json(&self) -> Value {
        let calls = self.calls.iter().map(|(name, samples)| {
            let [p50, p90] = percentiles(samples);
            json!({ "call": name, "p50_us": p50, "p90_us": p90 })
        });
        Value::Array(calls.collect())
    }
}

impl Report {
    pub(crate) fn new(image: &Path, binds: usize) -> Report {
        Report {
            image: image.into(),
            binds,
            cold: Samples::default(),
            warm: Samples::default(),
            enter: Vec::new(),
            renounce: Vec::new(),
            exec: Default::default(),
        }
    }

    pub(crate) fn cold(&mut self, staged: &Staged) {
        self.cold.add(staged);
    }

    pub(crate) fn warm(&mut self, staged: &Staged) {
        self.warm.add(staged);
    }

    pub(crate) fn enter(&mut self, entered: &Entered) {
        self.enter.push(entered.setns);
        self.renounce.push(entered.renounce);
    }

    pub(crate) fn exec(&mut self, host: f64, first: f64, second: f64) {
        for (samples, micros) in self.exec.iter_mut().zip([host, first, second]) {
            samples.push(micros);
        }
    }

    /// Every total, and percentiles of every call.
    pub(crate) fn json(&self) -> Value {
        json!({
            "image": self.image,
            "binds": self.binds,
            "stage_cold_us": self.cold.totals,
            "stage_warm_us": self.warm.totals,
            "enter_us": self.enter,
            "renounce_us": self.renounce,
            "exec_host_us": self.exec[0],
            "exec_first_us": self.exec[1],
            "exec_second_us": self.exec[2],
            "calls_cold": self.cold.json(),
            "calls_warm": self.warm.json(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {} binds, {} times cold and warm in turn; microseconds p50 / p90",
            self.image.display(),
            self.binds,
            self.cold.totals.len()
        )?;
        for (title, samples) in [("cold", &self.cold), ("warm", &self.warm)] {
            writeln!(f, "\nstaging, {title} image mount")?;
            for (name, samples) in &samples.calls {
                line(f, name, samples)?;
            }
            line(f, "TOTAL", &samples.totals)?;
        }
        writeln!(f, "\nentering, per rank")?;
        line(f, "setns", &self.enter)?;
        line(f, "empty capabilities", &self.renounce)?;
        if !self.exec[0].is_empty() {
            writeln!(f, "\nfork, program, wait")?;
            let names = ["on the host", "first in a cold image", "second there"];
            for (name, samples) in names.iter().zip(&self.exec) {
                line(f, name, samples)?;
            }
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, samples: &[f64]) -> fmt::Result {
    let [p50, p90] = percentiles(samples);
    writeln!(f, "  {name:<24} {p50:>9.1} {p90:>9.1}")
}

/// p50 and p90: of the sorted samples the one at or above that share.
fn percentiles(samples: &[f64]) -> [f64; 2] {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    [50, 90].map(|percent| {
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests {
    use super::percentiles;

    #[test]
    fn percentiles_are_samples_that_occurred() {
        assert_eq!(percentiles(&[3.0, 1.0, 2.0]), [2.0, 3.0]);
        assert_eq!(percentiles(&[5.0]), [5.0, 5.0]);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentiles(&hundred), [50.0, 90.0]);
    }
}
