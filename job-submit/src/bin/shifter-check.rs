//! Looks an image up for slurmctld, as SlurmUser: may this user have it, and which one is it?
//!
//! The question comes on standard input, the answer goes to standard output (`protocol.rs`). It
//! opens nothing but the store's records: rights are judged from owner, mode and access list.
#![forbid(unsafe_code)]

#[path = "../protocol.rs"]
#[allow(dead_code, reason = "the plugin's half")]
mod protocol;

use std::{
    io::{Read, Write},
    path::Path,
    process::ExitCode,
};

use nix::unistd::{Gid, Uid, User, getgrouplist};
use protocol::{Answer, MAX_BYTES, Question};
use udi::{Config, Digest, Error, ImageRef, Result};
use udi_store::Store;

fn main() -> ExitCode {
    slurm::process::close_inherited_files();
    let mut text = String::new();
    let question = std::io::stdin().take(MAX_BYTES as u64).read_to_string(&mut text);
    let Some(question) = question.ok().and_then(|_| Question::parse(&text)) else {
        return ExitCode::from(70);
    };
    let answer = match look_up(&question) {
        Ok(digest) => Answer::Digest(digest),
        Err(error) => no(&error),
    };
    match std::io::stdout().write_all(answer.to_text().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(70),
    }
}

fn look_up(question: &Question) -> Result<Digest> {
    let site = udi_store::site::load(Path::new(Config::PATH))?;
    let image = ImageRef::parse(&question.image, &site.names())?;
    let store = Store::open(&site.store)?;
    let groups = groups(question);
    let may_read = |digest: &Digest| store.may_read(digest, question.uid, &groups);
    // Its record may be readable by the user only; its rights are there for everybody.
    if let Some(digest) = image.digest()
        && may_read(digest)?
    {
        return Ok(digest.clone());
    }
    let typed = &question.image;
    let digest = store.resolve_as(typed, &image, &site.images.platform, question.uid)?;
    if may_read(&digest)? {
        return Ok(digest);
    }
    Err(Error::user(format!("{typed}: no such image in the store"))
        .hint("shifterimg images lists those that you can use"))
}

/// All groups of the user that accounts on this machine know, the job's own first.
fn groups(question: &Question) -> Vec<u32> {
    let mut groups = vec![question.gid];
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(question.uid)) else { return groups };
    let Ok(name) = std::ffi::CString::new(user.name) else { return groups };
    let more = getgrouplist(&name, Gid::from_raw(question.gid)).unwrap_or_default();
    groups.extend(more.into_iter().map(Gid::as_raw));
    groups
}

fn no(error: &Error) -> Answer {
    let steps = error.next_steps();
    let hint = steps.iter().find_map(|step| step.strip_prefix("hint: "));
    Answer::No { blame: error.blame(), what: error.what(), hint: hint.map(str::to_owned) }
}
