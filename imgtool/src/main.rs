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
mod login;
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

/// Platforms of one pull; no site has more. Each has a process.
const MAX_PLATFORMS: usize = 8;

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
        Command::Login(args) => login::log_in(&config, &identity, args),
        Command::Logout(args) => login::log_out(&config, &identity, args),
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
    convert::check(config, args.options.format)?;
    let pull = |channels| pull::run(config, identity, args, channels);
    let writers = args.options.platforms(config).len();
    if writers > MAX_PLATFORMS {
        return Err(Error::user(format!("--platform: {writers} of them are too many"))
            .hint(format!("pull for {MAX_PLATFORMS} at a time")));
    }
    let purpose = (Purpose::Pull, args.options.format);
    report(&with_writers(writers, config, identity, purpose, pull)?, &args.options)
}

fn import(config: &Config, identity: &Identity, args: &cli::Import) -> Result<()> {
    let request = import::Request::parse(args, config, identity)?;
    args.options.platform(config)?;
    convert::check(config, args.options.format)?;
    let import = |channel| import::run(config, identity, args, &request, channel);
    let purpose = (Purpose::Import, args.options.format);
    report(&[with_writer(config, identity, purpose, import)?], &args.options)
}

fn receive(config: &Config, identity: &Identity, args: &cli::Receive) -> Result<()> {
    let request = import::Request::received(args, config, identity)?;
    let receive = |channel| import::receive(config, identity, args, &request, channel);
    let purpose = (Purpose::Import, ImageFormat::Squashfs);
    let Delivered { image, digest, size, .. } = with_writer(config, identity, purpose, receive)?;
    show::print(&import::Announced::Done { image, digest, size }.line()?)
}

/// As [`with_writers`], for one image.
fn with_writer(
    config: &Config,
    identity: &Identity,
    purpose: (Purpose, ImageFormat),
    read: impl FnOnce(UnixStream) -> Result<Delivered>,
) -> Result<Delivered> {
    let nobody = || Error::bug("there is no writer");
    let read = |mut channels: Vec<UnixStream>| {
        let channel = channels.pop().ok_or_else(nobody)?;
        read(channel).map(|delivered| vec![delivered])
    };
    with_writers(1, config, identity, purpose, read)?.pop().ok_or_else(nobody)
}

/// Splits into the reader, which does `read` and gives what came of it, and `count` writers, one
/// for each image, which end when they have done their part. All are there from the beginning:
/// the reader has no right to make one.
fn with_writers(
    count: usize,
    config: &Config,
    identity: &Identity,
    (purpose, format): (Purpose, ImageFormat),
    read: impl FnOnce(Vec<UnixStream>) -> Result<Vec<Delivered>>,
) -> Result<Vec<Delivered>> {
    identity.check_owner(udi_store::Store::open(&config.store)?.owner())?;
    let (mut channels, mut children) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (ours, theirs) =
            UnixStream::pair().map_err(|e| Error::admin("cannot make a socket").because(e))?;
        match sys::split()? {
            sys::Side::Child => {
                // Also those to the others, who shall notice when the reader is gone.
                drop((ours, channels));
                writer::run(config, identity, purpose, format, theirs);
                sys::end()
            }
            sys::Side::Parent(child) => {
                channels.push(ours);
                children.push(child);
            }
        }
    }
    let result = read(channels);
    // The writers remove what they began, and have ended when we have.
    for child in children {
        let _ = nix::sys::wait::waitpid(child, None);
    }
    result
}

/// One document, whatever was asked for; of several images a list.
fn report(done: &[Delivered], options: &cli::Options) -> Result<()> {
    if options.json {
        let mut all = done.iter().map(|done| {
            json!({
                "image": done.image, "digest": done.digest, "platform": done.platform,
                "size": done.size, "private": done.private, "new": done.new,
                "readable": done.readable, "unreadable": done.unreadable,
            })
        });
        let document = match done.len() {
            1 => all.next().unwrap_or_default(),
            _ => all.collect(),
        };
        return show::print(&show::pretty(&document)?);
    }
    let lines = done.iter().map(|Delivered { image, digest, platform, .. }| match options.quiet {
        true => digest.to_string(),
        false if done.len() > 1 => format!("{image}@{digest} ({platform})"),
        false => format!("{image}@{digest}"),
    });
    show::print(&lines.collect::<Vec<_>>().join("\n"))
}
