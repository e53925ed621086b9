//! What a batch script does, as far as it can be told by looking at its words.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// Whether it starts programs in the job's image: whether it has the word `srun`, or `shifter` as old
/// scripts do, not in a comment; or is itself run by `shifter`. (`mpirun` and the like start theirs on
/// the host.)
pub(crate) fn has_srun(script: &OsStr) -> bool {
    let script = script.as_bytes();
    let mut first = script.split(u8::is_ascii_whitespace);
    if first.next().is_some_and(|word| word.starts_with(b"#!") && word.ends_with(b"/shifter")) {
        return true;
    }
    script.split(|byte| *byte == b'\n').any(|line| {
        let is_blank = |at: usize| line.get(at).is_none_or(u8::is_ascii_whitespace);
        let comment = (0..line.len())
            .find(|at| line.get(*at) == Some(&b'#') && at.checked_sub(1).is_none_or(is_blank));
        let code = line.get(..comment.unwrap_or(line.len())).unwrap_or_default();
        let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
        let mut words = code.split(|byte| !in_word(byte));
        // `${LAUNCHER:-srun}`
        words.any(|word| matches!(word.strip_prefix(b"-").unwrap_or(word), b"srun" | b"shifter"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_word_wherever_it_stands() {
        for script in [
            "srun ./a",
            "#!/bin/bash\n#SBATCH -n4\n\n  time srun -n4 ./a # all",
            "/usr/bin/srun a",
            "x=$(srun a)",
            "${LAUNCHER:-srun} a",
            "subprocess.run([\"srun\", \"a\"])",
            "a && srun b",
            "echo $#; srun a",
            "shifter ./a",
            "#!/usr/bin/shifter /bin/sh\n./a",
        ] {
            assert!(has_srun(OsStr::new(script)), "{script}");
        }
        for script in [
            "",
            "./a",
            "# srun ./a",
            "#!/bin/sh\n# shifter",
            "shifterimg images",
            "#SBATCH --comment=srun",
            "mpirun ./a # not srun",
            "mpiexec -n 4 ./a",
            "./my-srun; ./srun.sh; srun_all; xsrun",
            "echo a\t#srun",
        ] {
            assert!(!has_srun(OsStr::new(script)), "{script}");
        }
    }
}
