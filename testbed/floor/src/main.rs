//! The floor of staging: exactly the system calls that a UDI needs, timed one by one, with no
//! checks, no access rights and no error handling worth the name. What the product costs is
//! judged as a ratio to this program in the same run.
// A program for the terminal, unlike the plugins for which the lint exists.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod laps;
mod report;
mod stage;
mod sys;

use std::ffi::CString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::report::Report;
use crate::stage::{Bench, Bind};

/// Time the system calls of staging an image and entering it.
#[derive(Parser, Debug)]
struct Args {
    /// Squashfs image.
    #[arg(long, value_name = "FILE.sqsh")]
    image: PathBuf,
    /// Number of host trees to bind: /proc, /sys, /dev, then others.
    #[arg(long, default_value_t = 9)]
    binds: usize,
    /// Bind these instead; may be repeated.
    #[arg(long = "bind", value_name = "PATH", conflicts_with = "binds")]
    paths: Vec<PathBuf>,
    /// Processes that enter each UDI.
    #[arg(long, default_value_t = 4)]
    ranks: usize,
    /// How often to stage cold and warm, in turn.
    #[arg(long, default_value_t = 50)]
    repeat: usize,
    /// Run this program in each UDI as its first process, and on the host for comparison.
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<CString>,
    /// Drop the image from the page cache before each cold staging.
    #[arg(long)]
    drop_cache: bool,
    /// Print every sample as JSON.
    #[arg(long)]
    json: bool,
}

fn run(args: &Args) -> Result<(), String> {
    let binds = if args.paths.is_empty() {
        Bind::usual(args.binds)
    } else {
        args.paths.iter().map(|path| Bind::of(path)).collect()
    };
    let bench = Bench::new(&args.image, binds)?;
    let mut report = Report::new(&args.image, bench.binds());
    // In turn, so that whatever else the machine does hits both alike.
    for _ in 0..args.repeat {
        if args.drop_cache {
            bench.drop_cache()?;
        }
        let cold = bench.stage_cold()?;
        report.cold(&cold);
        if let Some(program) = &args.exec {
            report.exec(
                sys::run(program, None)?,
                sys::run(program, Some(cold.namespace()))?,
                // Again: what the first process has brought into memory is there.
                sys::run(program, Some(cold.namespace()))?,
            );
        }
        let device = cold.device();
        drop(cold);
        // Without this the next round would pay for taking the last one down.
        sys::wait_until_free(device)?;

        let warm = bench.stage_warm()?;
        for _ in 0..args.ranks {
            report.enter(&sys::enter_in_child(warm.namespace())?);
        }
        report.warm(&warm);
    }
    if args.json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("floor: {message}");
            ExitCode::FAILURE
        }
    }
}
