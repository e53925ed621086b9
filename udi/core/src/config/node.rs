//! How nodes work, and what of the site's own runs there.

use serde::Deserialize;
use std::path::PathBuf;

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Seconds that an image's mount stays after its last use.
    pub image_linger: u64,
    /// How many unused image mounts may stay.
    pub image_linger_max: usize,
    /// `SlurmdSpoolDir`: the batch script and PMIx sockets are below it.
    pub spool: PathBuf,
    /// Where the specs of devices are (CDI); of two for the same device the one in the later
    /// directory counts.
    pub cdi: Vec<PathBuf>,
    /// Whether root's own jobs may use images.
    pub allow_root: bool,
    /// For tests of failure only: the callback in which to panic.
    pub debug_panic: String,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            image_linger: 0,
            image_linger_max: 8,
            spool: "/var/spool/slurmd".into(),
            cdi: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            allow_root: false,
            debug_panic: String::new(),
        }
    }
}

/// `[hooks]`: the site's programs, run as root on the host when a UDI is staged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HooksConfig {
    /// Run before anything is mounted.
    pub before: Vec<Hook>,
    /// Run when the UDI is complete, before a rank enters it.
    pub after: Vec<Hook>,
}

/// `[[hooks.before]]`, `[[hooks.after]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The program, an absolute path, and its arguments. Program and directories above must
    /// be root's.
    pub command: Vec<String>,
    /// Seconds after which it is killed and has failed.
    #[serde(default = "ten")]
    pub timeout: u64,
}

fn ten() -> u64 {
    10
}
