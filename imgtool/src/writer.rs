//! The writer: the store's owner, who believes nothing it is told.
//!
//! It has no network, parses no foreign format and, unless somebody asks for another file system
//! than squashfs ([`convert`]), runs no program. What it gets are plain
//! contents and a tree; names, order, depth, counts and sizes are checked here and in
//! `squashfs`.

mod bounds;
mod layers;
mod pack;

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::time::{SystemTime, UNIX_EPOCH};

use udi::{Blame, Config, Digest, Error, ImageFormat, ImageRef, Modes, Result};
use udi_store::publish::{Claim, Keeper, Lease, Name, Temp};
use udi_store::{Entry, Packed, Store};

use crate::convert;
use crate::identity::Identity;
use crate::sandbox;
use crate::wire::{Described, Job, ToReader, ToWriter};
use layers::Keeping;
use pack::pack;

/// How often we ask whether somebody else's pull has ended.
const POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// What the caller typed, as the writer itself saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A registry says what its names mean.
    Pull,
    /// The caller says it: of names below the caller's own, or as an administrator.
    Import,
}

/// Runs the writer's side of `channel` to the end; what goes wrong is told to the reader.
pub(crate) fn run(
    config: &Config,
    identity: &Identity,
    purpose: Purpose,
    format: ImageFormat,
    channel: UnixStream,
) {
    let mut answers = match channel.try_clone() {
        Ok(answers) => answers,
        Err(_) => return,
    };
    // Ctrl-C reaches both processes. The reader ends of it; we then find its end of the channel
    // closed, remove what we began, give up the lease, and end too.
    let mut ours = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP] {
        ours.add(signal);
    }
    let result = match ours.thread_block() {
        Ok(()) => serve(config, identity, (purpose, format), channel, &mut answers),
        Err(error) => Err(Error::bug("cannot wait with signals").because(error)),
    };
    let answer = result.unwrap_or_else(|error| told(&error));
    // If the reader is gone nobody is left to be told.
    let _ = answer.send(&mut answers);
}

/// An error, as it is told to the other process.
pub(crate) fn told(error: &Error) -> ToReader {
    let steps = error.next_steps();
    let hint = steps.first().and_then(|hint| hint.strip_prefix("hint: ").map(str::to_owned));
    ToReader::Failed { blame: format!("{:?}", error.blame()), what: error.what(), hint }
}

/// The error that a `Failed` stands for.
pub(crate) fn failure(blame: &str, what: String, hint: Option<String>) -> Error {
    let error = match blame {
        _ if blame == format!("{:?}", Blame::User) => Error::user(what),
        _ if blame == format!("{:?}", Blame::Admin) => Error::admin(what),
        _ => Error::bug(what),
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn serve(
    config: &Config,
    identity: &Identity,
    (purpose, format): (Purpose, ImageFormat),
    from: UnixStream,
    answers: &mut UnixStream,
) -> Result<ToReader> {
    let store = Store::open(&config.store)?;
    identity.become_owner(store.owner())?;
    let converts = format != ImageFormat::Squashfs;
    match converts {
        true => sandbox::converter(store.path(), &config.images.scratch)?,
        false => sandbox::writer(store.path())?,
    }
    let keeper = store.keeper()?;
    keeper.tidy();
    let (answer, name) = publish(config, identity, purpose, (&store, &keeper), from, answers)?;
    if !converts {
        return Ok(answer);
    }
    let mut lease = wait(&keeper, name.entry.digest.hex(), None, identity, answers)?;
    let gone = || {
        let mut polled = [PollFd::new(&*answers, PollFlags::empty())];
        let _ = poll(&mut polled, Some(&Timespec::default()));
        polled[0].revents().contains(PollFlags::HUP)
    };
    let (store, keeper, name) = (&store, &keeper, &name);
    let work = convert::Work { config, store, keeper, name, format, given_up: &gone };
    let bytes = work.run(&mut lease)?;
    Ok(match answer {
        ToReader::Done { file, .. } => ToReader::Done { file, size: bytes },
        ToReader::Have { readable, unreadable, .. } => {
            ToReader::Have { size: bytes, readable, unreadable }
        }
        other => other,
    })
}

/// Publishes what the reader sends, as squashfs; gives the name that it has now.
fn publish(
    config: &Config,
    identity: &Identity,
    purpose: Purpose,
    (store, keeper): (&Store, &Keeper<'_>),
    from: UnixStream,
    answers: &mut UnixStream,
) -> Result<(ToReader, Name)> {
    let mut from = std::io::BufReader::with_capacity(512 << 10, from);
    let ToWriter::Job(job) = receive(&mut from)? else { return Err(nonsense("no job")) };
    let modes = if job.readable { Modes::Readable } else { Modes::Keep };
    let image = check(config, identity, purpose, store.owner(), &job)?;
    let private = job.private.then_some(identity.uid);
    keeper.check_name(&image, private, identity.uid)?;
    let named = |digest: &Digest| name(image.clone(), &job, identity, digest.clone());

    let key = match &job.digest {
        Some(digest) => digest.hex().to_owned(),
        None => unknown(),
    };
    let mut lease = wait(keeper, &key, None, identity, answers)?;
    if let Some(digest) = &job.digest
        // A file that names an image is no proof that its owner has the image.
        && (purpose == Purpose::Pull
            || identity.is_admin(store.owner())
            || store.may_read(digest, identity.uid, &[])?)
        && let Some(have) = have(keeper, &lease, &named(digest), modes)?
    {
        return Ok((have, named(digest)));
    }
    tell(answers, &ToReader::Go)?;
    let temp = keeper.temp(&lease)?;
    let keeping = Keeping::new(keeper, config, &job);
    let (temp, size, described) = pack(&mut from, temp, &config.images, keeping, &mut lease)?;
    let file = sha256(&temp, &mut lease)?;
    let Described { info, unreadable } = described;
    if unreadable.examples.len() > 8 || unreadable.examples.iter().any(|e| e.len() > 16 << 10) {
        return Err(nonsense("a long list of files"));
    }
    let digest = info.digest.clone().ok_or_else(|| nonsense("an image without a digest"))?;
    let name = named(&digest);
    let turn = match &job.digest {
        Some(announced) if *announced != digest => {
            return Err(nonsense("another image than announced"));
        }
        Some(_) => None,
        // Somebody may be at work on the same image, or have brought it meanwhile.
        None => {
            let turn = wait(keeper, digest.hex(), Some(&mut lease), identity, answers)?;
            if let Some(have) = have(keeper, &turn, &name, modes)? {
                return Ok((have, name));
            }
            Some(turn)
        }
    };
    let packed = Packed { id: file.clone(), format: "squashfs".into(), size, unreadable };
    keeper.publish(turn.as_ref().unwrap_or(&lease), temp, packed, modes, info, &name)?;
    Ok((ToReader::Done { file, size }, name))
}

/// Gives the name to an image that is in the store.
fn have(keeper: &Keeper<'_>, lease: &Lease, name: &Name, modes: Modes) -> Result<Option<ToReader>> {
    let Some(record) = keeper.has(&name.entry.digest, modes)? else { return Ok(None) };
    let Some(file) = record.preferred() else { return Ok(None) };
    keeper.name(lease, name)?;
    let (size, unreadable) = (file.size, file.unreadable.clone());
    Ok(Some(ToReader::Have { size, readable: record.is_made_readable(), unreadable }))
}

/// Who may write which name: of registries what a pull brings, below `user:LOGIN/` what that
/// user imports. Administrators name images for everybody.
fn check(
    config: &Config,
    identity: &Identity,
    purpose: Purpose,
    owner: u32,
    job: &Job,
) -> Result<ImageRef> {
    let image = ImageRef::parse(&job.image, &config.names())?;
    let may = match (purpose, &image) {
        (Purpose::Pull, ImageRef::Docker(_)) => true,
        (Purpose::Import, ImageRef::User(user)) => {
            user.login() == identity.login && image.digest().is_none()
        }
        (Purpose::Import, ImageRef::Docker(_)) => {
            identity.is_admin(owner) && image.digest().is_none()
        }
        _ => false,
    };
    if !may {
        return Err(nonsense("a name that is somebody else's"));
    }
    if job.digest.is_none() && purpose == Purpose::Pull {
        return Err(nonsense("an image without a digest"));
    }
    let plain = |text: &str| text.len() < 256 && !text.contains(|c: char| c.is_control());
    if !plain(&job.platform) || !plain(&job.from) {
        return Err(nonsense("a platform or an origin that is none"));
    }
    Ok(image)
}

fn name(image: ImageRef, job: &Job, identity: &Identity, digest: Digest) -> Name {
    let when = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (by, uid) = (identity.login.clone(), identity.uid);
    let entry = Entry { digest, when, by, uid, from: job.from.clone() };
    Name { image, platform: job.platform.clone(), private: job.private.then_some(uid), entry }
}

/// A key for work on what has no digest yet: unlike any other.
fn unknown() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("import-{}-{now:x}", std::process::id())
}

/// Waits for the lease of `key`; another that we hold is kept alive meanwhile.
fn wait(
    keeper: &Keeper<'_>,
    key: &str,
    mut other: Option<&mut Lease>,
    identity: &Identity,
    answers: &mut UnixStream,
) -> Result<Lease> {
    let mut told = None;
    loop {
        match keeper.lease(key, &identity.login)? {
            Claim::Mine(lease) => return Ok(lease),
            Claim::Held(holder) => {
                if told.as_ref() != Some(&holder) {
                    let (login, host) = (holder.login.clone(), holder.host.clone());
                    tell(answers, &ToReader::Wait { login, host })?;
                    told = Some(holder);
                }
                // Whoever asked may give up waiting.
                let mut polled = [PollFd::new(&*answers, PollFlags::empty())];
                let _ = poll(&mut polled, Some(&POLL));
                if polled[0].revents().contains(PollFlags::HUP) {
                    return Err(Error::bug("the reader is gone"));
                }
                if let Some(lease) = &mut other {
                    lease.renew();
                }
            }
        }
    }
}

fn sha256(temp: &Temp, lease: &mut Lease) -> Result<Digest> {
    let mut file: &File = &temp.file;
    file.seek(SeekFrom::Start(0)).map_err(full)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        lease.renew();
        match file.read(&mut buffer).map_err(full)? {
            0 => return Ok(Digest::from_bytes(&hash.finalize().into())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn receive(from: &mut impl Read) -> Result<ToWriter> {
    ToWriter::receive(from).map_err(|e| Error::bug("the reader stopped talking").because(e))
}

fn tell(answers: &mut UnixStream, answer: &ToReader) -> Result<()> {
    answer.send(answers).map_err(|e| Error::bug("the reader is gone").because(e))
}

/// Only writing can fail for the site's reasons; the rest is the reader's nonsense.
fn full(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::InvalidInput {
        return nonsense(&error.to_string());
    }
    let hint =
        matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let error = Error::admin("cannot write the image").because(error);
    if hint { error.hint("the image store is full: make room, or raise the quota") } else { error }
}

fn nonsense(what: &str) -> Error {
    Error::bug(format!("the writer was sent nonsense: {what}"))
}
