//! Looks images up for slurmctld, as SlurmUser: may this user have them, and which are they?
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
    let answer = look_up(&question).unwrap_or_else(|(at, error)| no(at, &error));
    match std::io::stdout().write_all(answer.to_text().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(70),
    }
}

/// The answer, or which image it fails for.
fn look_up(question: &Question) -> std::result::Result<Answer, (usize, Error)> {
    let open = || {
        let site = udi_store::site::load(Path::new(Config::PATH))?;
        let store = Store::open(&site.store)?;
        Ok((site, store))
    };
    let (site, store) = open().map_err(|error| (0, error))?;
    let groups = groups(question);
    let one = |(at, typed): (usize, &String)| {
        look_up_one(typed, &site, &store, question.uid, &groups).map_err(|error| (at, error))
    };
    let digests =
        question.images.iter().enumerate().map(one).collect::<std::result::Result<_, _>>();
    digests.map(Answer::Digests)
}

fn look_up_one(
    typed: &str,
    site: &Config,
    store: &Store,
    uid: u32,
    groups: &[u32],
) -> Result<Digest> {
    let image = ImageRef::parse(typed, &site.names())?;
    let may_read = |digest: &Digest| store.may_read(digest, uid, groups);
    // Its record may be readable by the user only; its rights are there for everybody.
    if let Some(digest) = image.digest()
        && may_read(digest)?
    {
        return Ok(digest.clone());
    }
    let digest = store.resolve_as(typed, &image, &site.images.platform, uid)?;
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

fn no(at: usize, error: &Error) -> Answer {
    let steps = error.next_steps();
    let hint = steps.iter().find_map(|step| step.strip_prefix("hint: "));
    Answer::No { at, blame: error.blame(), what: error.what(), hint: hint.map(str::to_owned) }
}
