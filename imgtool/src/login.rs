//! Logging in to a registry and out of it.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;

use udi::{Config, Error, ImageRef, Result};

use crate::identity::Identity;
use crate::progress::Progress;
use crate::registry::{Credentials, Endpoint, Found, Logins, Registry, host_of, place};
use crate::wire::ToReader;
use crate::{cli, sandbox, show, sys, writer};

/// No password is longer, not even a token.
const MAX_PASSWORD: u64 = 64 << 10;

/// Asks for name and password, sees whether the registry takes them, and keeps them.
pub(crate) fn log_in(config: &Config, identity: &Identity, args: &cli::Login) -> Result<()> {
    let asked = asked(args.registry.as_deref(), config)?;
    let host = host_of(&asked);
    let endpoint = Endpoint::at(config, host).through_proxy(config, &identity.environment)?;
    be_user(identity)?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None if args.password_stdin => {
            return Err(Error::user("--password-stdin needs to know whose password it is")
                .hint("add --username NAME"));
        }
        None => ask_name()?,
    };
    let password = match args.password_stdin {
        true => password_from(std::io::stdin().lock())?,
        false => ask_password()?,
    };
    if user.contains(':') {
        return Err(Error::user("a name with a colon is none").hint("leave the password out of it"));
    }
    let login = Credentials::password(user, password).ok_or_else(|| {
        Error::user("nobody has no name").hint("type one, or add --username NAME")
    })?;
    check(identity, endpoint, &login)?;
    let logins = Logins::of(&identity.environment);
    let kept = logins.keep(&asked, &login)?;
    show::print(&format!("logged in to {asked} as {}, kept in {kept}", login.user()))?;
    let elsewhere = config.registry.iter().find(|rule| {
        rule.prefix.trim_end_matches('/') == host && rule.mirror.is_some() && !rule.fallback
    });
    if let Some(mirror) = elsewhere.and_then(|rule| rule.mirror.as_deref()) {
        let line =
            format!("note: here images of {host} come from {mirror}, which has logins of its own");
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    Ok(())
}

/// Forgets a login.
pub(crate) fn log_out(config: &Config, identity: &Identity, args: &cli::Logout) -> Result<()> {
    let asked = asked(args.registry.as_deref(), config)?;
    be_user(identity)?;
    let logins = Logins::of(&identity.environment);
    let places = logins.forget(&asked)?;
    if let Some(path) = logins.left_to_docker(&asked) {
        return Err(Error::user(format!("docker keeps a login to {asked}, in {}", path.display()))
            .hint(format!("docker logout {asked}")));
    }
    if places.is_empty() {
        return Err(Error::user(format!("you are not logged in to {asked}"))
            .hint("name the registry as you did when you logged in"));
    }
    show::print(&format!("logged out of {asked}, forgotten in {}", places.join(", ")))
}

/// Root's files are root's.
fn be_user(identity: &Identity) -> Result<()> {
    if identity.uid == 0 { Ok(()) } else { identity.become_user() }
}

/// The registry that was typed, or the part of it, as images' names have it.
fn asked(typed: Option<&str>, config: &Config) -> Result<String> {
    let Some(typed) = typed else { return Ok(config.images.default_registry.clone()) };
    let asked = place(typed);
    let image = ImageRef::parse(&format!("{asked}/x:1"), &config.names());
    match image {
        Ok(ImageRef::Docker(image)) if image.registry() == host_of(asked) => Ok(asked.to_owned()),
        _ => Err(Error::user(format!("{typed}: not a registry's name"))
            .hint("a registry is HOST[:PORT], with a dot or a port; /PATH may follow")),
    }
}

/// Has a process without rights to anything ask the registry.
fn check(identity: &Identity, endpoint: Endpoint, login: &Credentials) -> Result<()> {
    let (mut ours, mut theirs) =
        UnixStream::pair().map_err(|e| Error::admin("cannot make a socket").because(e))?;
    let child = match sys::split()? {
        sys::Side::Parent(child) => child,
        sys::Side::Child => {
            drop(ours);
            let found = Found { credentials: Some(login.clone()), trouble: None };
            let checked = identity.become_user().and_then(|()| {
                let registry = Registry::new(endpoint, found, Progress::new(false))?;
                sandbox::reader(None)?;
                registry.check_login()
            });
            let answer = checked.map_or_else(|error| writer::told(&error), |()| ToReader::Go);
            // If nobody is left to be told, nobody needs it.
            let _ = answer.send(&mut theirs);
            sys::end()
        }
    };
    drop(theirs);
    let answer = ToReader::receive(&mut ours);
    let _ = nix::sys::wait::waitpid(child, None);
    match answer {
        Ok(ToReader::Go) => Ok(()),
        Ok(ToReader::Failed { blame, what, hint }) => Err(writer::failure(&blame, what, hint)),
        Ok(_) => Err(Error::bug("the process that asked the registry gave an odd answer")),
        Err(error) => Err(Error::bug("the process that asked the registry is gone").because(error)),
    }
}

fn ask_name() -> Result<String> {
    terminal()?;
    let _ = write!(std::io::stderr(), "Username: ");
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line);
    read.map_err(|e| Error::user("cannot read the name").because(e))?;
    Ok(line.trim().to_owned())
}

fn ask_password() -> Result<String> {
    terminal()?;
    let asked = rpassword::prompt_password("Password: ");
    asked.map_err(|e| Error::user("cannot ask for the password").because(e).hint(FROM_STDIN))
}

const FROM_STDIN: &str = "give it on standard input, with --username NAME --password-stdin";

fn terminal() -> Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::user("there is no terminal to ask for name and password").hint(FROM_STDIN))
}

/// All that comes, but for the end of its line.
fn password_from(from: impl Read) -> Result<String> {
    let mut text = String::new();
    let read = from.take(MAX_PASSWORD + 1).read_to_string(&mut text);
    read.map_err(|e| Error::user("cannot read the password").because(e))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() || password.len() as u64 > MAX_PASSWORD || password.contains('\n') {
        return Err(Error::user("there is no password on standard input").hint(
            "one line is taken, as in: shifterimg login --username NAME --password-stdin <file",
        ));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_line() {
        for good in ["pass word", "pass word\n", "pass word\r\n"] {
            assert_eq!(password_from(good.as_bytes()).unwrap(), "pass word");
        }
        for bad in [&b""[..], b"\n", b"a\nb\n", &[b'x'; 100_000], b"\xff\n"] {
            assert!(password_from(bad).is_err());
        }
    }

    #[test]
    fn a_registry_is_named_as_in_an_images_name() {
        let config = Config::parse("[store]\npath = \"/x\"\n", std::path::Path::new("x")).unwrap();
        let host = |typed| asked(typed, &config).map_err(|error| error.what());
        assert_eq!(host(None).unwrap(), "docker.io");
        for hub in ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
            assert_eq!(host(Some(hub)).unwrap(), "docker.io");
        }
        assert_eq!(host(Some("https://r.io:5000/")).unwrap(), "r.io:5000");
        for part in ["r.io/group", "r.io:5000/group/app", "docker.io/library"] {
            assert_eq!(host(Some(part)).unwrap(), part);
        }
        for bad in [
            "alice",
            "alice/app",
            "",
            "r.io/Group",
            "r.io//a",
            "r.io/a:1",
            "R.io",
            "r.io:x",
            "a b",
            "http://",
            "r.io@x",
        ] {
            assert_eq!(host(Some(bad)).unwrap_err(), format!("{bad}: not a registry's name"));
        }
    }
}
