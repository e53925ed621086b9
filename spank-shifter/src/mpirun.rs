//! mpirun and mpiexec on the host of a job with an image: told what to do in their place.
//!
//! In a Slurm job they start a helper on each node by srun. As any step of the job's that helper would
//! be looked for in the image, which has none, or another one's. It is refused before there is a
//! step: one that is refused later holds the job's resources to its end (22.05).

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use udi::{Error, Result, Texts, Word};

/// The helpers: of Open MPI up to 4 and from 5 on, of MPICH, and of those made from MPICH.
const HELPERS: [&str; 5] = ["orted", "prted", "hydra_pmi_proxy", "hydra_bstrap_proxy", "pmi_proxy"];

/// In srun: refuses to start a helper of the host's in the image that the step would inherit.
/// Whoever types an option for one knows that it is an image.
pub(crate) fn refuse(given: &Texts, inherited: &Texts) -> Result<()> {
    if !given.is_empty() || matches!(inherited.text(Word::Image), "" | "none") {
        return Ok(());
    }
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let Some(helper) = helper(words.map(|word| word.into_owned())) else { return Ok(()) };
    let error = Error::user(format!(
        "mpirun of the host cannot start ranks in an image: its {helper} is not in there"
    ))
    .hint(
        "start the program by srun, as in: srun --mpi=pmix ./program (srun --mpi=list names the \
         kinds there are); for a program of the host: SLURM_SHIFTER_IMAGE=none mpirun ./program",
    );
    // Open MPI has its srun say everything to /dev/null.
    if is_null("/proc/self/fd/2")
        && let Ok(mut parents) = File::options()
            .append(true)
            .open(format!("/proc/{}/fd/2", std::os::unix::process::parent_id()))
    {
        let text: String =
            error.to_string().lines().map(|line| format!("shifter: {line}\n")).collect();
        let _as_well_as_can_be = parents.write_all(text.as_bytes());
    }
    Err(error)
}

/// Options of srun's that have no value behind them.
const FLAGS: [&str; 18] = [
    "contiguous",
    "disable-status",
    "exact",
    "exclusive",
    "hold",
    "immediate",
    "kill-on-bad-exit",
    "label",
    "no-kill",
    "overcommit",
    "overlap",
    "oversubscribe",
    "preserve-env",
    "pty",
    "quiet",
    "spread-job",
    "unbuffered",
    "verbose",
];
const SHORT_FLAGS: &str = "EHIKOQVXZhjklsuv";

/// The helper that a command line of srun's starts, if one.
fn helper(words: impl Iterator<Item = String>) -> Option<&'static str> {
    let mut is_value = false;
    for word in words.skip(1) {
        if let Some(option) = word.strip_prefix('-').filter(|option| !option.is_empty()) {
            is_value = has_value_behind(option);
        } else if !std::mem::take(&mut is_value) {
            let name = Path::new(&word).file_name().and_then(|name| name.to_str());
            return HELPERS.into_iter().find(|helper| name == Some(helper));
        }
    }
    None
}

/// Whether the next word is the value of `option`, a word behind its first dash.
fn has_value_behind(option: &str) -> bool {
    match option.strip_prefix('-') {
        Some(long) => !long.is_empty() && !long.contains('=') && !FLAGS.contains(&long),
        // `-N2` has its value.
        None => option.len() == 1 && !SHORT_FLAGS.contains(option),
    }
}

fn is_null(path: &str) -> bool {
    let device = |path: &str| std::fs::metadata(path).map(|meta| (meta.dev(), meta.rdev()));
    matches!((device(path), device("/dev/null")), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_known_where_mpirun_puts_it() {
        let of = |line: &str| helper(line.split(' ').map(str::to_owned));
        for (line, expected) in [
            (
                "srun --ntasks-per-node=1 --kill-on-bad-exit --nodes=2 --nodelist=c1,c2 --ntasks=2 \
                 orted -mca ess \"slurm\"",
                Some("orted"),
            ),
            ("srun --kill-on-bad-exit --mpi=none /opt/bin/prted --prtemca x", Some("prted")),
            (
                "/usr/bin/srun --nodelist c1,c2 -N 2 -n 2 --input none /usr/bin/hydra_pmi_proxy --x",
                Some("hydra_pmi_proxy"),
            ),
            ("srun -N1 -n1 -- pmi_proxy", Some("pmi_proxy")),
            ("srun ls /usr/bin/orted", None),
            ("srun -Q --overlap -N2 ls /usr/bin/orted", None),
            ("srun -n 2 ./a.out orted", None),
            ("srun --mpi=pmix ./a.out prted", None),
            ("srun", None),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
    }
}
