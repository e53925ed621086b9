//! Releases of Slurm: the one this was built for, and the one it finds itself in.
//!
//! A plugin that says another release than the one that loads it is refused, and a refused
//! *required* plugin stops srun, slurmd and slurmctld. So that an upgrade of Slurm does not stop a
//! cluster, `plugin_version` is set when the plugin is loaded; the plugin compares [`running`] with
//! [`BUILT_FOR`] and refuses only what it can no longer vouch for.

use std::{fmt, sync::OnceLock};

use crate::{raw, symbol};

/// A release of Slurm, as in 24.11.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32);

/// The release whose headers this was compiled with.
pub const BUILT_FOR: Version = Version(raw::SLURM_VERSION_NUMBER);

impl Version {
    /// From Slurm's own number: a byte each for year, month and micro.
    pub const fn from_number(number: u32) -> Version {
        Version(number)
    }

    /// Slurm's own number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Year and month, as in (24, 11). Plugin interfaces change only between these.
    pub const fn release(self) -> (u32, u32) {
        ((self.0 >> 16) & 0xff, (self.0 >> 8) & 0xff)
    }

    /// Whether both are micro releases of one release.
    pub const fn same_release(self, other: Version) -> bool {
        self.0 & 0xff_ff00 == other.0 & 0xff_ff00
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month) = self.release();
        write!(f, "{year:02}.{month:02}.{}", self.0 & 0xff)
    }
}

/// The release of the Slurm program that this code runs in; [`BUILT_FOR`] where that is not
/// Slurm at all. The last number is right where another Slurm plugin was loaded to take it from,
/// else 0 or that of [`BUILT_FOR`].
pub fn running() -> Version {
    static RUNNING: OnceLock<Version> = OnceLock::new();
    *RUNNING.get_or_init(detect)
}

/// Another plugin knows best, to the micro release; the library's number has no micro release
/// but is there before any plugin is.
fn detect() -> Version {
    let library = symbol::api_version().and_then(of_api);
    let sibling = symbol::sibling_plugin_version().map(Version).filter(|sibling| {
        // A stray or foreign file must not outvote the library that is loading us.
        library.is_none_or(|library| library.same_release(*sibling))
    });
    match (sibling, library) {
        (Some(sibling), _) => sibling,
        (None, Some(library)) if library.same_release(BUILT_FOR) => BUILT_FOR,
        (None, Some(library)) => library,
        (None, None) => BUILT_FOR,
    }
}

/// The release of a libslurm, from what `slurm_api_version` returns (its upper half is the number
/// in libslurm.so.NN). Since 24.05 each half-yearly release adds one; later ones follow until
/// shown otherwise.
fn of_api(api: u32) -> Option<Version> {
    let (year, month) = match api >> 16 {
        0..38 => return None,
        38 => (22, 5),
        39 => (23, 2),
        40 => (23, 11),
        later => {
            let half_years = later - 41;
            (24 + half_years / 2, if half_years % 2 == 0 { 5 } else { 11 })
        }
    };
    (year < 256).then_some(Version(year << 16 | month << 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_number_names_the_release() {
        let known = [
            (38, "22.05.0"),
            (39, "23.02.0"),
            (40, "23.11.0"),
            (41, "24.05.0"),
            (42, "24.11.0"),
            (43, "25.05.0"),
            (44, "25.11.0"),
            (45, "26.05.0"),
            (46, "26.11.0"),
        ];
        for (api, release) in known {
            assert_eq!(of_api(api << 16).map(|v| v.to_string()).as_deref(), Some(release));
        }
    }

    #[test]
    fn a_release_before_ours_or_a_nonsense_number_is_none() {
        assert_eq!(of_api(37 << 16), None);
        assert_eq!(of_api(u32::MAX), None);
    }

    #[test]
    fn outside_of_slurm_it_runs_in_what_it_was_built_for() {
        assert_eq!(running(), BUILT_FOR);
    }

    #[test]
    fn micro_releases_are_one_release() {
        let v = Version::from_number;
        assert!(v(0x180b05).same_release(v(0x180b00)));
        assert!(!v(0x180b05).same_release(v(0x190505)));
        assert_eq!(v(0x160508).to_string(), "22.05.8");
    }
}
