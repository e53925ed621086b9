//! shifterimg: imports container images into the image store.
//!
//! Installed set-user-ID to the store's owner, so the first lines matter most: who runs us,
//! what the caller left in our environment and files. A pull then is two processes: the
//! [`mod@pull`] or [`mod@import`] reader, with the user's rights only, and the [`writer`], with the store's.

mod cli;
mod convert;
mod copy;
mod delivery;
mod doctor;
mod export;
mod identity;
mod import;
mod layer;
mod progress;
mod pull;
mod registry;
mod sandbox;
mod show;
mod source;
mod sys;
mod table;
mod wire;
mod writer;

use clap::Parser;
use serde_json::json;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use udi::{Blame, Config, Error, ImageFormat, Result};

use cli::{Cli, Command};
use delivery::Delivered;
use identity::Identity;
use writer::Purpose;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            let mut stderr = std::io::stderr();
            for (n, line) in error.lines().iter().enumerate() {
                let _ = writeln!(stderr, "{}{line}", if n == 0 { "shifterimg: " } else { "" });
            }
            ExitCode::from(match error.blame() {
                Blame::User => 1,
                Blame::Admin => 3,
                Blame::Bug => 70,
            })
        }
    }
}

fn start() -> Result<ExitCode> {
    identity::harden()?;
    let identity = Identity::look()?;
    sys::clean_environment();
    // clap ends the process itself, with 2, when the command line makes no sense.
    let cli = Cli::parse();
    let path = config_path(&identity, cli.config.as_deref())?;
    // It must be able to say that there is none.
    if let Command::Doctor(args) = &cli.command {
        return doctor::run(&identity, path, args);
    }
    let config = udi_store::site::load(path)?;
    match &cli.command {
        Command::Doctor(_) => Ok(()),
        Command::Pull(args) => pull(&config, &identity, args),
        Command::Import(args) => import(&config, &identity, args),
        Command::Export(args) => export::run(&config, &identity, args),
        Command::Copy(args) => copy::run(&config, &identity, args),
        Command::Receive(args) => receive(&config, &identity, args),
        Command::Images(args) => show::images(&config, &identity, args),
        Command::Lookup(args) => show::lookup(&config, &identity, args),
        Command::Inspect(args) => show::inspect(&config, &identity, args),
        Command::Rm(args) => show::rm(&config, &identity, args),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Where the site's configuration is. Who runs us with rights of ours must not choose another one.
fn config_path<'a>(identity: &Identity, other: Option<&'a Path>) -> Result<&'a Path> {
    match other {
        Some(path) if identity.is_elevated() => Err(Error::user(format!(
            "--config={}: only root may use another configuration",
            path.display()
        ))
        .hint("leave --config out")),
        other => Ok(other.unwrap_or(Path::new(Config::PATH))),
    }
}

fn pull(config: &Config, identity: &Identity, args: &cli::Pull) -> Result<()> {
    // A mistake in the name is told before anything else happens.
    cli::image(&args.image, config)?;
    convert::check(config, args.format)?;
    let pull = |channel| pull::run(config, identity, args, channel);
    let purpose = (Purpose::Pull, args.format);
    report(&as_two(config, identity, purpose, pull)?, args.json, args.quiet)
}

fn import(config: &Config, identity: &Identity, args: &cli::Import) -> Result<()> {
    let request = import::Request::parse(args, config, identity)?;
    convert::check(config, args.format)?;
    let import = |channel| import::run(config, identity, args, &request, channel);
    let purpose = (Purpose::Import, args.format);
    report(&as_two(config, identity, purpose, import)?, args.json, args.quiet)
}

fn receive(config: &Config, identity: &Identity, args: &cli::Receive) -> Result<()> {
    let request = import::Request::received(args, config, identity)?;
    let receive = |channel| import::receive(config, identity, args, &request, channel);
    let done = as_two(config, identity, (Purpose::Import, ImageFormat::Squashfs), receive)?;
    let digest = done.digest;
    show::print(&import::Announced::Done { image: done.image, digest, size: done.size }.line()?)
}

/// Splits into the reader, which does `read` and gives what came of it, and the writer, which
/// ends when it has done its part.
fn as_two(
    config: &Config,
    identity: &Identity,
    (purpose, format): (Purpose, ImageFormat),
    read: impl FnOnce(UnixStream) -> Result<Delivered>,
) -> Result<Delivered> {
    identity.check_owner(udi_store::Store::open(&config.store)?.owner())?;
    let (ours, theirs) =
        UnixStream::pair().map_err(|e| Error::admin("cannot make a socket").because(e))?;
    match sys::split()? {
        sys::Side::Child => {
            drop(ours);
            writer::run(config, identity, purpose, format, theirs);
            sys::end()
        }
        sys::Side::Parent(child) => {
            drop(theirs);
            let result = read(ours);
            // The writer removes what it began, and has ended when we have.
            let _ = nix::sys::wait::waitpid(child, None);
            result
        }
    }
}

fn report(done: &Delivered, json: bool, quiet: bool) -> Result<()> {
    let digest = &done.digest;
    if json {
        return show::print(&show::pretty(&json!({
            "image": done.image, "digest": digest, "platform": done.platform,
            "size": done.size, "private": done.private, "new": done.new,
            "readable": done.readable, "unreadable": done.unreadable,
        }))?);
    }
    if quiet {
        return show::print(digest.as_str());
    }
    show::print(&format!("{}@{digest}", done.image))
}
