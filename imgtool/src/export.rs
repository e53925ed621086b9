//! Exporting: an image of the store as a file of the caller's.

mod layer;
mod oci;
mod target;

use serde_json::json;
use std::fs::{File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use udi::{Config, Digest, Error, ImageInfo, Result};

use crate::cli;
use crate::identity::Identity;
use crate::progress::{Progress, size};
use crate::sandbox;
use crate::show::{self, find};
use target::{Kind, Target};

/// An image, open with the caller's rights.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: File,
    /// The sha256 of the file.
    pub(crate) id: Digest,
    pub(crate) info: ImageInfo,
    /// Whether everybody may read it.
    pub(crate) is_public: bool,
}

/// Gives up all rights but the caller's, and opens what `image` means to the caller.
pub(crate) fn open(
    config: &Config,
    identity: &Identity,
    image: &str,
    platform: Option<&str>,
) -> Result<Opened> {
    let (store, digest) = find(config, identity, image, platform)?;
    let gone = || Error::user(format!("{image} was just removed"));
    let record = store.manifest(&digest)?.ok_or_else(gone)?;
    let (file, located) = store.open_squashfs(&digest)?;
    let file = File::from(file);
    let meta = file.metadata().map_err(|e| Error::admin("cannot look at the image").because(e))?;
    Ok(Opened {
        id: located.file_id,
        info: record.info,
        is_public: meta.permissions().mode() & 0o004 != 0,
        file,
    })
}

/// `shifterimg export`
pub(crate) fn run(config: &Config, identity: &Identity, args: &cli::Export) -> Result<()> {
    let target = Target::parse(&args.target)?;
    let image = open(config, identity, &args.image, args.platform.as_deref())?;
    let progress = Progress::new(args.quiet);
    let tag = target.tag.clone().or_else(|| tag(&args.image, config));
    let work = |out: &mut dyn Out| -> Result<Digest> {
        match target.kind {
            Kind::Squashfs => copy(&image, out),
            Kind::OciArchive => oci::write(&image, tag.as_deref(), out, &progress),
        }
    };
    let (digest, bytes) = match &target.path {
        None => {
            if io::stdout().is_terminal() {
                return Err(Error::user("an image is nothing for a terminal")
                    .hint(format!("{}:- writes to a pipe or a file", target.kind.name())));
            }
            sandbox::exporter(None)?;
            let mut out = Pipe(io::stdout().lock(), 0);
            let digest = work(&mut out)?;
            out.0.flush().map_err(cannot)?;
            (digest, out.1)
        }
        Some(path) => file(path, args.force, image.is_public, work)?,
    };
    progress.say(&format!("{}: {}", args.target, size(bytes)));
    if target.path.is_none() {
        // What is written there is the image.
        return Ok(());
    }
    if args.json {
        let done = json!({ "target": args.target, "digest": digest, "size": bytes });
        return show::print(&show::pretty(&done)?);
    }
    match args.quiet {
        true => show::print(digest.as_str()),
        false => show::print(&format!("{}@{digest}", args.target)),
    }
}

/// Has `work` write the file `path`, which appears when it is whole.
fn file(
    path: &Path,
    force: bool,
    is_public: bool,
    work: impl FnOnce(&mut dyn Out) -> Result<Digest>,
) -> Result<(Digest, u64)> {
    let shown = path.display();
    if !force && path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let no_place = |e| Error::user(format!("{shown} cannot be written")).because(e);
    let place = File::open(directory).map_err(no_place)?;
    let mut temp =
        tempfile::Builder::new().prefix(".shifterimg-").tempfile_in(directory).map_err(no_place)?;
    sandbox::exporter(Some(place.as_fd()))?;
    let digest = work(temp.as_file_mut())?;
    let file = temp.as_file();
    // Who may use the image may read the file; what is one user's alone stays so.
    let mode = if is_public { 0o644 } else { 0o600 };
    file.set_permissions(Permissions::from_mode(mode)).map_err(cannot)?;
    let bytes = file.metadata().map_err(cannot)?.len();
    match force {
        true => temp.persist(path).map_err(|e| no_place(e.error))?,
        false => temp.persist_noclobber(path).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => no_place(e.error),
        })?,
    };
    Ok((digest, bytes))
}

fn exists(path: &Path) -> Error {
    Error::user(format!("{} is there already", path.display()))
        .hint("remove it, choose another name, or say --force to replace it")
}

/// A file as it is.
fn copy(image: &Opened, out: &mut dyn Out) -> Result<Digest> {
    out.copy(&image.file).map_err(cannot)?;
    Ok(image.id.clone())
}

/// The tag that a name has, if it has one.
fn tag(image: &str, config: &Config) -> Option<String> {
    match cli::image(image, config).ok()? {
        udi::ImageRef::Docker(docker) => docker.tag().map(str::to_owned),
        other => {
            let name = other.name();
            let last = name.rsplit('/').next()?;
            last.split_once(':').map(|(_, tag)| tag.to_owned())
        }
    }
}

fn cannot(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => {
            let full =
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let error = Error::user("the image cannot be written").because(error);
            if full { error.hint("make room there, or write it somewhere else") } else { error }
        }
    }
}

/// Where an image is written to.
trait Out: Write {
    /// Goes back to the start, where that can be; nothing was written behind then.
    fn rewind(&mut self) -> io::Result<bool>;
    /// All of a file.
    fn copy(&mut self, from: &File) -> io::Result<()>;
}

impl Out for File {
    fn rewind(&mut self) -> io::Result<bool> {
        io::Seek::rewind(self).map(|()| true)
    }

    fn copy(&mut self, mut from: &File) -> io::Result<()> {
        // Between files the kernel does it, and on some file systems without copying.
        io::copy(&mut from, self).map(drop)
    }
}

struct Pipe(io::StdoutLock<'static>, u64);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.0.write(bytes)?;
        self.1 += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Out for Pipe {
    fn rewind(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn copy(&mut self, mut from: &File) -> io::Result<()> {
        io::copy(&mut from, self).map(drop)
    }
}
