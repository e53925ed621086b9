//! How far a pull is: bars on a terminal, plain lines elsewhere, nothing if asked to be quiet.

use indicatif::{DecimalBytes, MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The progress of one pull.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    Bars(MultiProgress),
    Lines,
    Quiet,
}

/// The progress of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    bar: Option<ProgressBar>,
    line: Option<String>,
    size: u64,
    done: Arc<AtomicU64>,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        let bars = MultiProgress::new();
        // A terminal that cannot move its cursor (TERM=dumb) is shown nothing by indicatif.
        if std::io::stderr().is_terminal() && !bars.is_hidden() {
            Self::Bars(bars)
        } else {
            Self::Lines
        }
    }

    /// Says something once.
    pub(crate) fn say(&self, line: &str) {
        match self {
            Self::Bars(bars) => drop(bars.println(line)),
            Self::Lines => drop(writeln!(std::io::stderr(), "{line}")),
            Self::Quiet => {}
        }
    }

    /// Layer `number` of `count`, to be fetched.
    pub(crate) fn layer(&self, number: usize, count: usize, name: &str, size: u64) -> Layer {
        let title = format!("layer {number}/{count} {name}");
        let bar = match self {
            Self::Bars(bars) => {
                let style = ProgressStyle::with_template(
                    "{msg} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:<10} {eta}",
                );
                let bar = ProgressBar::new(size).with_message(title.clone());
                // The template is ours: were it wrong, the default is good enough.
                Some(bars.add(match style {
                    Ok(style) => bar.with_style(style),
                    Err(_) => bar,
                }))
            }
            _ => None,
        };
        let line = matches!(self, Self::Lines).then_some(title);
        Layer { bar, line, size, done: Arc::default() }
    }
}

impl Layer {
    /// More bytes came.
    pub(crate) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            if done >= self.size {
                bar.finish();
            }
        }
        if let Some(line) = &self.line
            && done == self.size
        {
            let _ = writeln!(std::io::stderr(), "{line}: {}", size(self.size));
        }
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}
