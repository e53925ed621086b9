//! `--image-entrypoint`: ranks run by the image's entrypoint, their command being its arguments.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use slurm::spank::Spank;
use udi::{Error, ImageInfo, Plan, Request, Result};

use crate::slurm_refused;

/// What the program `shifter` executes, word by word, before its own arguments.
const WORDS: &str = "SHIFTER_ARGV_";

/// An image's entrypoint, and how it gets before a rank's command.
#[derive(Debug)]
pub(crate) struct Entrypoint {
    words: Vec<String>,
    /// Before 23.11 Slurm lets nobody lengthen a command, only exchange its words. Its first one
    /// becomes this program, open since before the image was entered, which then executes all.
    program: Option<File>,
}

impl Entrypoint {
    pub(crate) fn of(info: &ImageInfo, request: &Request, spank: &Spank<'_>) -> Result<Self> {
        let words = info.entrypoint.clone();
        // An empty word is docker's way to take away what the image below had.
        if words.first().is_none_or(String::is_empty) {
            let image = request.image().name();
            return Err(Error::user(format!("--image-entrypoint: {image} has no entrypoint"))
                .hint("leave the option out: the command then runs as it is"));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(Error::user("--image-entrypoint: the image's entrypoint is no command")
                .hint("leave the option out, and name the command yourself"));
        }
        let command = spank.argv().map_err(slurm_refused)?;
        if command.first().is_some_and(|program| program.as_bytes().ends_with(b"/")) {
            // slurmstepd puts the name behind the first word, which is the entrypoint's then.
            return Err(Error::user(
                "--image-entrypoint: not with --bcast that names a directory, or nothing",
            )
            .hint("name the file: --bcast=/tmp/program"));
        }
        let program = match Spank::can_prepend_argv() {
            true => None,
            false if is_multi_prog(&command) => {
                return Err(Error::user(
                    "--image-entrypoint: not with --multi-prog on this release of Slurm",
                )
                .hint("write the entrypoint into the file of programs"));
            }
            false => Some(open_program()?),
        };
        Ok(Self { words, program })
    }

    /// To be called in a rank.
    pub(crate) fn put_before(&self, spank: &mut Spank<'_>) -> Result<()> {
        let Some(program) = &self.program else {
            return spank.prepend_argv(&self.words).map_err(slurm_refused);
        };
        // By its descriptor, which the kernel closes when it has executed it: no path of the
        // image's leads anywhere else.
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let command = spank.replace_program(path).map_err(slurm_refused)?;
        let words = self.words.iter().map(OsString::from).chain([command]);
        for (nth, word) in words.enumerate() {
            spank.setenv(format!("{WORDS}{nth}"), word).map_err(slurm_refused)?;
        }
        // Words that are left over from somebody else end here.
        let end = format!("{WORDS}{}", self.words.len() + 1);
        spank.unsetenv(end).map_err(slurm_refused)
    }
}

/// Whether the command is a file of programs, as srun passes it on: its name, then its text, each
/// line of which begins with numbers of ranks.
fn is_multi_prog(argv: &[OsString]) -> bool {
    let Some(text) = argv.get(1).map(|text| text.as_bytes()) else { return false };
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"));
    let ranks = first.and_then(|line| line.split(u8::is_ascii_whitespace).next());
    let is_rank = |byte: &u8| byte.is_ascii_digit() || b"*-,".contains(byte);
    // Where no line ends it may be a command's argument: numbers alone are.
    let program = first.and_then(|line| line.split(u8::is_ascii_whitespace).nth(1));
    let has_program = program.is_some_and(|word| !word.iter().all(u8::is_ascii_digit));
    (has_program || text.contains(&b'\n')) && ranks.is_some_and(|ranks| ranks.iter().all(is_rank))
}

fn open_program() -> Result<File> {
    let needs = "--image-entrypoint needs the program";
    let path = Plan::PROGRAM;
    let install = "install it on the compute nodes, as the installation guide says";
    let file = File::open(path)
        .map_err(|e| Error::admin(format!("{needs} {path}")).because(e).hint(install))?;
    let meta = file
        .metadata()
        .map_err(|e| Error::admin(format!("{needs} {path}")).because(e).hint(install))?;
    if meta.uid() != 0 || meta.mode() & 0o022 != 0 || !meta.is_file() {
        return Err(Error::admin(format!("{path}: others than root can write it"))
            .hint(format!("chown root {path} && chmod go-w {path}")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_programs_is_told_from_a_command() {
        let is =
            |words: &[&str]| is_multi_prog(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(is(&["programs", "# ranks\n0 ./first\n1-3,5 ./others %t\n"]));
        assert!(is(&["programs", "\n* hostname\n"]));
        assert!(is(&["programs", "* ./a.out"]));
        for command in [
            &["hostname"][..],
            &["sh", "-c", "echo 1\necho 2"],
            &["python3", "import os\nprint(1)\n"],
            &["seq", "5"],
            &["echo", "1 2 three"],
        ] {
            assert!(!is(command), "{command:?}");
        }
    }
}
