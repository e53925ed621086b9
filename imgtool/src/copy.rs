//! Copying to another site: by the caller's own ssh, to a shifterimg that knows that site's rules.

use serde_json::json;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use udi::{Config, Error, ImageRef, Result};

use crate::cli;
use crate::export::{Opened, open};
use crate::identity::{Environment, Identity};
use crate::import::Announced;
use crate::progress::Progress;
use crate::show;

/// `[LOGIN@]HOST[:NAME[:TAG]]`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    host: String,
    /// How the image shall be called there.
    name: Option<String>,
}

impl Destination {
    fn parse(typed: &str, config: &Config) -> Result<Self> {
        let (host, name) = match typed.split_once(':') {
            Some((host, name)) => (host, Some(name)),
            None => (typed, None),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        // It must never be taken for an option.
        if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
            return Err(Error::user(format!("{typed}: {host} is no host"))
                .hint("[LOGIN@]HOST or [LOGIN@]HOST:NAME:TAG; the port goes into ~/.ssh/config"));
        }
        if let Some(name) = name {
            let full = cli::image(&format!("user:x/{name}"), config);
            if !is_plain(name) || full.is_err() {
                return Err(Error::user(format!("{typed}: {name} cannot be an image's name"))
                    .hint(
                        "the name is NAME:TAG; where the other site keeps its images, it knows",
                    ));
            }
        }
        Ok(Self { host: host.to_owned(), name: name.map(str::to_owned) })
    }
}

/// The other side's shell is given it.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
}

/// What the image is called without whose it is.
fn name(image: &str, config: &Config) -> Result<String> {
    let unnamed = || {
        Error::user(format!("{image} does not say how it shall be called there"))
            .hint("[LOGIN@]HOST:NAME:TAG")
    };
    let parsed = cli::image(image, config)?;
    let tag = match &parsed {
        ImageRef::Docker(docker) => docker.tag().unwrap_or(&config.images.default_tag).to_owned(),
        ImageRef::User(_) => String::new(),
        ImageRef::Id(_) | ImageRef::Local(_) => return Err(unnamed()),
    };
    let full = parsed.name();
    let last = full.split('@').next().and_then(|full| full.rsplit('/').next());
    let last = last.filter(|last| is_plain(last)).ok_or_else(unnamed)?;
    Ok(if last.contains(':') { last.to_owned() } else { format!("{last}:{tag}") })
}

/// `shifterimg copy`
pub(crate) fn run(config: &Config, identity: &Identity, args: &cli::Copy) -> Result<()> {
    let destination = Destination::parse(&args.destination, config)?;
    let name = match &destination.name {
        Some(name) => name.clone(),
        None => name(&args.image, config)?,
    };
    if !is_plain(&args.program) {
        return Err(Error::user(format!("{}: no program's path", args.program))
            .hint("--program /opt/shifter/bin/shifterimg"));
    }
    let platform = args.platform.as_ref().unwrap_or(&config.images.platform);
    let mut image = open(config, identity, &args.image, Some(platform))?;
    let mut there = vec![args.program.as_str(), "receive", "--platform", platform];
    there.extend(args.public.then_some("--public"));
    there.extend(args.quiet.then_some("--quiet"));
    there.push(&name);
    let mut ssh = Ssh::start(&identity.environment, &destination.host, &there)?;
    let sent = ssh.send(&mut image, &Progress::new(args.quiet), &args.image);
    let status = ssh.end()?;
    // What the other side said of itself explains more than that it listens no longer.
    let done = if status.success() { sent? } else { None };
    let Some(Announced::Done { image, digest, size }) = done else {
        return Err(refused(&destination.host, status, &args.program));
    };
    if args.json {
        let (host, done) = (&destination.host, (&image, &digest, size));
        let done = json!({ "host": host, "image": done.0, "digest": done.1, "size": done.2 });
        return show::print(&show::pretty(&done)?);
    }
    match args.quiet {
        true => show::print(digest.as_str()),
        // Another machine says so: nothing of it may reach the terminal as a command.
        false => show::print(&format!("{}@{digest}", show::printable(&image))),
    }
}

fn refused(host: &str, status: ExitStatus, program: &str) -> Error {
    match status.code() {
        Some(255) => Error::user(format!("ssh could not reach {host}, or lost it"))
            .hint(format!("does ssh {host} work? A copy that broke off goes on where it ended")),
        Some(126 | 127) => Error::user(format!("there is no {program} at {host}"))
            .hint("say where it is: --program PATH; or ask that site for Shifter"),
        _ => Error::user(format!("{host} did not take the image"))
            .hint("why, it said above; a copy that broke off goes on where it ended"),
    }
}

/// ssh, with the other side's shifterimg.
struct Ssh {
    child: Child,
    to: Option<ChildStdin>,
}

impl Ssh {
    /// With the caller's rights, which is all that we have now, and the caller's environment.
    fn start(environment: &Environment, host: &str, words: &[&str]) -> Result<Self> {
        let mut command = Command::new("ssh");
        command.env_clear().envs(environment.variables());
        command.args(["-T", "--", host]).args(words);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| {
            Error::user("ssh cannot be run").because(e).hint("is openssh-client installed here?")
        })?;
        let to = child.stdin.take();
        Ok(Self { child, to })
    }

    /// Sends what the other side has not; gives its last word.
    fn send(
        &mut self,
        image: &mut Opened,
        progress: &Progress,
        name: &str,
    ) -> Result<Option<Announced>> {
        let lost = |e: io::Error| Error::user("the other side broke off").because(e);
        let (Some(mut to), Some(mut from)) = (self.to.take(), self.child.stdout.take()) else {
            return Err(Error::bug("no way to ssh"));
        };
        let cannot = |e| Error::admin("cannot read the image").because(e);
        let size = image.file.metadata().map_err(cannot)?.len();
        let first = Announced::File { digest: image.id.clone(), size, info: image.info.clone() };
        writeln!(to, "{}", first.line()?).map_err(lost)?;
        to.flush().map_err(lost)?;
        let Some(Announced::Have(have)) = Announced::next(&mut from).map_err(lost)? else {
            return Ok(None);
        };
        if have > size {
            return Err(Error::user("the other side has more than there is"));
        }
        if have > 0 {
            progress.say(&format!("goes on after {}", crate::progress::size(have)));
        }
        image.file.seek(SeekFrom::Start(have)).map_err(cannot)?;
        let bar = progress.layer(1, 1, name, size - have);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = image.file.read(&mut buffer).map_err(cannot)?;
            if n == 0 {
                break;
            }
            to.write_all(&buffer[..n]).map_err(lost)?;
            bar.add(n as u64);
        }
        drop(to);
        Announced::next(&mut from).map_err(lost)
    }

    fn end(&mut self) -> Result<ExitStatus> {
        drop(self.to.take());
        self.child.wait().map_err(|e| Error::bug("ssh is gone").because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> Config {
        Config::parse("[store]\npath = \"/x\"\n", std::path::Path::new("x")).unwrap()
    }

    #[test]
    fn a_destination_is_a_host_and_perhaps_a_name() {
        for (typed, host, name) in [
            ("host", "host", None),
            ("alice@login.site.org", "alice@login.site.org", None),
            ("host:app:1", "host", Some("app:1")),
            ("host:group/app", "host", Some("group/app")),
        ] {
            let found = Destination::parse(typed, &config()).unwrap();
            assert_eq!((found.host.as_str(), found.name.as_deref()), (host, name), "{typed}");
        }
        for typed in [
            "",
            "-oProxyCommand=x",
            "host:",
            "host:/store",
            "host:a b",
            "host:$(x)",
            "a;b",
            "host:../x",
        ] {
            let error = Destination::parse(typed, &config()).unwrap_err().to_string();
            assert!(error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn there_an_image_is_called_what_it_is_called_here_without_whose_it_is() {
        let pinned = format!("group/app:2@sha256:{}", "a".repeat(64));
        for (image, there) in [
            ("debian:12", "debian:12"),
            ("registry.site:5000/group/app", "app:latest"),
            ("user:alice/app:1", "app:1"),
            (&pinned, "app:2"),
        ] {
            assert_eq!(name(image, &config()).unwrap(), there);
        }
        assert!(name(&format!("id:sha256:{}", "a".repeat(64)), &config()).is_err());
    }

    proptest! {
        #[test]
        fn nothing_typed_is_a_word_for_a_shell(typed: String) {
            if let Ok(found) = Destination::parse(&typed, &config()) {
                let all = format!("{}{}", found.host, found.name.unwrap_or_default());
                let special = |c: char| c.is_whitespace() || "$`;&|<>(){}'\"\\*?#~!".contains(c);
                prop_assert!(!all.contains(special));
                prop_assert!(!all.starts_with('-'));
            }
        }
    }
}
