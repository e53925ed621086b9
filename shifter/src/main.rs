//! The program `shifter`, for scripts that were written for the original: inside an image it runs
//! its arguments, on the host of a job it has srun run them in the image.
//!
//! It has no rights of its own and decides nothing. The same program also puts an image's
//! entrypoint before a command, where Slurm cannot.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod host;
mod inside;
mod options;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use options::Asked;

/// What is wrong, and what to do.
type Refusal = (String, String);

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(command) = inside::entrypoint(&args) {
        return execute(command);
    }
    let command = options::parse(args).and_then(|asked| match asked {
        Asked::Help => Ok(None),
        Asked::Run(run) if inside::is_here() => inside::command(&run).map(Some),
        Asked::Run(run) => host::command(&run).map(Some),
    });
    match command {
        Ok(Some(command)) => execute(command),
        Ok(None) => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Err((what, hint)) => {
            // All ranks of a node would say the same.
            if std::env::var("SLURM_LOCALID").is_ok_and(|rank| rank != "0") {
                return ExitCode::FAILURE;
            }
            eprintln!("shifter: {what}\nshifter: hint: {hint}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes the command; comes back only if that fails, with the codes of a shell.
fn execute(mut command: Command) -> ExitCode {
    let error = command.exec();
    eprintln!("shifter: {}: {error}", command.get_program().display());
    match error.kind() {
        std::io::ErrorKind::NotFound => ExitCode::from(127),
        _ => ExitCode::from(126),
    }
}
