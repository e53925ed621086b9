//! Where `job_desc_msg_t` keeps its two lists of variables, in every release so far.
//!
//! The structure changes with each release, and a plugin that cannot read it cannot tell a job that
//! asked for something from one that did not. So much of it is known that on another release than
//! the one built for only the former are refused.

use std::mem::offset_of;

use crate::{BUILT_FOR, Version, raw::job_desc_msg_t};

/// Offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) environment: usize,
    pub(super) env_size: usize,
    pub(super) spank_job_env: usize,
    pub(super) spank_job_env_size: usize,
}

/// This release's own.
pub(super) const NATIVE: Layout = Layout {
    environment: offset_of!(job_desc_msg_t, environment),
    env_size: offset_of!(job_desc_msg_t, env_size),
    spank_job_env: offset_of!(job_desc_msg_t, spank_job_env),
    spank_job_env_size: offset_of!(job_desc_msg_t, spank_job_env_size),
};

/// Compiled from each release's headers for 64-bit Linux; micro releases do not differ.
#[cfg(target_pointer_width = "64")]
const KNOWN: &[((u32, u32), Layout)] = &[
    ((22, 5), layout(224, 268, 592, 600)),
    ((23, 2), layout(232, 276, 616, 624)),
    ((23, 11), layout(232, 276, 624, 632)),
    ((24, 5), layout(232, 276, 632, 640)),
    ((24, 11), layout(232, 276, 632, 640)),
    ((25, 5), layout(240, 284, 640, 648)),
    ((25, 11), layout(240, 284, 640, 648)),
    ((26, 5), layout(248, 292, 648, 656)),
];
#[cfg(not(target_pointer_width = "64"))]
const KNOWN: &[((u32, u32), Layout)] = &[];

/// The layout of `release`, if it is known.
pub(super) fn of(release: Version) -> Option<Layout> {
    if release.same_release(BUILT_FOR) {
        return Some(NATIVE);
    }
    KNOWN.iter().find(|(known, _)| *known == release.release()).map(|(_, layout)| *layout)
}

#[cfg(target_pointer_width = "64")]
const fn layout(
    environment: usize,
    env_size: usize,
    spank_job_env: usize,
    spank_job_env_size: usize,
) -> Layout {
    Layout { environment, env_size, spank_job_env, spank_job_env_size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_headers() {
        let listed = KNOWN.iter().find(|(known, _)| *known == BUILT_FOR.release());
        assert_eq!(listed.map(|(_, layout)| *layout), Some(NATIVE), "Slurm {BUILT_FOR}");
    }

    #[test]
    fn a_release_that_is_not_out_yet_is_unknown() {
        assert_eq!(of(Version::from_number(99 << 16)), None);
    }
}
