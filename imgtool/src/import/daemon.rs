//! Docker's and Podman's own daemon, asked for an image as `docker save` asks it.
//!
//! The socket is opened with the caller's rights alone: whoever the daemon does not talk to, gets
//! nothing by way of us. What it sends is an archive whose list of layers comes last, and asking
//! once more for each layer would have it pack all of them each time. So the archive is kept, in
//! a file of the caller's that has no name and is gone with the process.

mod answer;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use udi::{Error, Result};

use crate::identity::Environment;
use crate::progress::{Progress, size};
use answer::{head, message};

/// What the daemon has to say about its failing.
const MAX_MESSAGE: u64 = 4 << 10;
/// What helps where no daemon does.
const INSTEAD: &str = "where the image is: docker save NAME >FILE; here: docker-archive:FILE";

/// A daemon that takes our questions.
#[derive(Debug)]
pub(super) struct Daemon {
    socket: String,
    stream: UnixStream,
}

/// Where daemons are, in the order in which they are asked.
fn sockets(host: Option<String>, runtime: Option<String>) -> Result<Vec<String>> {
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        return match host.strip_prefix("unix://") {
            Some(path) => Ok(vec![path.to_owned()]),
            None => Err(Error::user(format!(
                "DOCKER_HOST is {host}: only a daemon of this machine is asked, over its socket"
            ))
            .hint(INSTEAD)),
        };
    }
    let mut all = vec!["/var/run/docker.sock".to_owned()];
    if let Some(runtime) = runtime.filter(|runtime| runtime.starts_with('/')) {
        all.push(format!("{runtime}/docker.sock"));
        all.push(format!("{runtime}/podman/podman.sock"));
    }
    all.push("/run/podman/podman.sock".to_owned());
    Ok(all)
}

/// Connects to all daemons that there are, with the rights that we have now.
pub(super) fn connect(environment: &Environment) -> Result<Vec<Daemon>> {
    let variable = |name| environment.get(name)?.to_str().map(str::to_owned);
    connect_to(sockets(variable("DOCKER_HOST"), variable("XDG_RUNTIME_DIR"))?)
}

fn connect_to(sockets: Vec<String>) -> Result<Vec<Daemon>> {
    let mut found = Vec::new();
    let mut refused = None;
    let asked = sockets.join(", ");
    for socket in sockets {
        match UnixStream::connect(&socket) {
            Ok(stream) => found.push(Daemon { socket, stream }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                refused = refused.or(Some(socket));
            }
            // A socket that nobody listens at is as good as none.
            Err(_) => {}
        }
    }
    match (found.is_empty(), refused) {
        (false, _) => Ok(found),
        (true, Some(socket)) => Err(Error::user(format!(
            "you may not talk to the daemon behind {socket}: whoever may is as good as root there"
        ))
        .hint(INSTEAD)),
        (true, None) => {
            Err(Error::user(format!("no daemon of docker or podman answers here (asked: {asked})"))
                .hint(format!("podman's: systemctl --user start podman.socket; or {INSTEAD}")))
        }
    }
}

/// The name of one image, as daemons have it. Without a tag they would give all that there are.
pub(super) fn name(typed: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let parts_are_good =
        typed.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !typed.chars().all(plain) || !parts_are_good {
        return Err(Error::user(format!("{typed}: no daemon has an image of such a name"))
            .hint("docker image ls (podman image ls) shows the names: docker-daemon:NAME:TAG"));
    }
    let last = typed.rsplit('/').next().unwrap_or(typed);
    let is_whole = typed.contains('@') || last.contains(':');
    Ok(if is_whole { typed.to_owned() } else { format!("{typed}:latest") })
}

/// An empty file of the caller's that has no name, in `directory`.
pub(super) fn scratch(directory: &Path) -> Result<File> {
    tempfile::tempfile_in(directory).map_err(|e| {
        Error::user(format!("{}: cannot keep there what the daemon sends", directory.display()))
            .because(e)
            .hint("name a directory of yours: --tmpdir DIRECTORY")
    })
}

/// Writes the archive of `image` to `to`, from the first daemon that has it.
pub(super) fn save(
    daemons: Vec<Daemon>,
    image: &str,
    to: &mut File,
    progress: &Progress,
) -> Result<()> {
    let mut asked = Vec::new();
    for Daemon { socket, mut stream } in daemons {
        progress.say(&format!("{image}: asking the daemon behind {socket}"));
        let broken = |e: io::Error| match e.downcast::<Error>() {
            Ok(error) => error,
            Err(e) => Error::user(format!("the daemon behind {socket} broke off"))
                .because(e)
                .hint("is it running? docker info (podman info) tells"),
        };
        // Of this version an answer has no length and ends when the daemon closes; whether it is
        // whole the image's digests tell.
        let question = format!("GET /images/{image}/get HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(question.as_bytes()).map_err(broken)?;
        match head(&mut stream).map_err(broken)? {
            200 => {
                let bytes = copy(&mut stream, to).map_err(broken)?;
                progress.say(&format!("{image}: {} from {socket}", size(bytes)));
                return Ok(());
            }
            404 => asked.push(socket),
            status => {
                let mut said = Vec::new();
                let _ = stream.take(MAX_MESSAGE).read_to_end(&mut said);
                return Err(Error::user(format!(
                    "the daemon behind {socket} does not give {image}: {status} {}",
                    message(&said)
                ))
                .hint("does docker save (podman save) do better? docker-archive: takes its file"));
            }
        }
    }
    Err(Error::user(format!("{image}: no such image (asked: {})", asked.join(", ")))
        .hint("docker image ls (podman image ls) shows the names; shifterimg pull asks registries"))
}

fn copy(from: &mut impl Read, to: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        to.write_all(&buffer[..n]).map_err(|e| {
            let error = Error::user("what the daemon sends cannot be kept").because(e);
            io::Error::other(error.hint("name a directory with more room: --tmpdir DIRECTORY"))
        })?;
        bytes += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_daemons_of_this_machine_are_asked_and_no_other() {
        let all = sockets(None, Some("/run/user/7".into())).unwrap();
        assert_eq!(all[0], "/var/run/docker.sock");
        assert!(all.contains(&"/run/user/7/podman/podman.sock".to_owned()), "{all:?}");
        assert_eq!(sockets(Some("unix:///x.sock".into()), None).unwrap(), ["/x.sock"]);
        assert_eq!(sockets(Some(String::new()), Some("odd".into())).unwrap().len(), 2);
        let error = sockets(Some("tcp://host:2375".into()), None).unwrap_err().to_string();
        assert!(error.contains("DOCKER_HOST is tcp://host:2375"), "{error}");
        assert!(error.contains("docker save NAME >FILE"), "{error}");
        let error = connect_to(vec!["/nowhere/a".into(), "/nowhere/b".into()]).unwrap_err();
        assert!(error.what().contains("asked: /nowhere/a, /nowhere/b"), "{error}");
    }

    #[test]
    fn a_name_without_a_tag_is_the_latest_and_nothing_but_a_name_is_asked_for() {
        for (typed, asked) in [
            ("app", "app:latest"),
            ("app:1", "app:1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("sha256:00ff", "sha256:00ff"),
            ("app@sha256:00ff", "app@sha256:00ff"),
        ] {
            assert_eq!(name(typed).unwrap(), asked);
        }
        for typed in ["a b", "a/../../info", "/a", "a?x", "a\r\nb", "é", ""] {
            assert!(name(typed).is_err(), "{typed:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_is_a_crash(typed: String) {
            if let Ok(name) = name(&typed) {
                prop_assert!(!name.contains(char::is_whitespace) && !name.contains(".."));
            }
        }
    }
}
