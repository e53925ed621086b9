//! Errors of system calls, with what was tried and whose it is.

use std::fmt::Display;

use rustix::fd::AsFd;
use rustix::io::Errno;
use udi::{Blame, Error, Mount, Origin};

/// The node or the site's set-up is at fault.
pub(crate) fn site(what: impl Display) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::admin(what.to_string()).because(std::io::Error::from(errno))
}

/// We are at fault: this call cannot fail on a sound node.
pub(crate) fn bug(what: impl Display) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::bug(what.to_string()).because(std::io::Error::from(errno))
}

/// The user is at fault.
pub(crate) fn user(what: impl Display) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::user(what.to_string()).because(std::io::Error::from(errno))
}

/// As [`site`], with what the kernel says on the file-system context `context`
/// (mount_setup in fsopen(2): messages are read from the descriptor).
pub(crate) fn mounting(what: &str, context: impl AsFd) -> impl FnOnce(Errno) -> Error {
    move |errno| {
        let mut said = String::new();
        let mut line = [0u8; 512];
        while let Ok(length @ 1..) = rustix::io::read(&context, &mut line) {
            let text = String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into_owned();
            said = format!("{said} ({})", text.trim());
        }
        let error = std::io::Error::from(errno);
        Error::admin(format!("cannot mount {what}{said}")).because(error)
    }
}

/// An error of the user's, with the volume that they typed before it.
pub(crate) fn of_volume(mount: &Mount, error: Error) -> Error {
    match &mount.origin {
        Origin::Volume(typed) if error.blame() == Blame::User => {
            error.about(format!("--volume={typed}: "))
        }
        _ => error,
    }
}

/// What went wrong with a user's mount is the user's to mend; with another, where the image is to
/// blame, only another image helps.
pub(crate) fn of_mount(mount: &Mount, error: Error) -> Error {
    match &mount.origin {
        Origin::Volume(typed) => Error::user(format!("--volume={typed}: {}", error.what()))
            .hint("mount it somewhere else, for example under /mnt"),
        _ if error.blame() == Blame::User => unusable(error.what()),
        _ => error,
    }
}

/// Only a file can be mounted on a file, and only a directory on a directory.
pub(crate) fn clash(mount: &Mount) -> Error {
    let clash = "one is a directory and the other is not: what is mounted, and the place";
    of_mount(mount, Error::user(format!("{}: {clash}", mount.target)))
}

/// The image is not made as any image must be.
pub(crate) fn unusable(why: String) -> Error {
    Error::user(format!("this image cannot be used: {why}"))
        .hint("mend the image, or use another one")
}
