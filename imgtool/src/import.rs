//! Importing: images from files and directories, read with the caller's rights.

mod announced;
mod archive;
mod daemon;
mod digest;
mod directory;
mod docker;
mod gzip;
mod layout;
mod parts;
mod receive;
mod sif;
pub(crate) mod squashfs;
mod tree;
mod typed;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use udi::{Config, Error, ImageInfo, ImagesConfig, Result};

use crate::cli;
use crate::delivery::{Delivered, Layers, deliver};
use crate::identity::Identity;
use crate::layer::extras::Extras;
use crate::progress::{Progress, size};
use crate::sandbox;
use crate::source::Source;
use crate::source::manifest::{Picked, pick};
use crate::wire::Job;
pub(crate) use announced::Announced;
use archive::Archive;
use parts::Parts;
pub(crate) use receive::receive;
pub(crate) use typed::Request;
use typed::{Kind, Typed};

/// Imports as the user, who hands to `channel` what the files say.
pub(crate) fn run(
    config: &Config,
    identity: &Identity,
    args: &cli::Import,
    request: &Request,
    channel: UnixStream,
) -> Result<Delivered> {
    let progress = Progress::new(args.options.quiet);
    let typed = &request.source;
    let opened = open(typed, identity)?;
    let opened = match opened {
        Opened::Daemons(daemons) => {
            let mut file = daemon::scratch(&args.tmpdir)?;
            sandbox::reader_of_files(None)?;
            daemon::save(daemons, &daemon::name(&typed.path())?, &mut file, &progress)?;
            Opened::File(file)
        }
        opened => {
            sandbox::reader_of_files(opened.directory())?;
            opened
        }
    };
    let job = Job {
        image: request.image.to_string(),
        platform: args.options.platform(config)?.to_owned(),
        digest: None,
        // What only the caller's rights could read is the caller's alone, as with pull.
        private: request.is_private,
        from: typed.kind.name().to_owned(),
        readable: args.options.is_readable(config),
    };
    let again = format!("shifterimg import --readable {}", again(args, &job.platform));
    let images = &config.images;
    let work = Work { channel, job, again: &again, progress: &progress, request, images };
    match (typed.kind, opened) {
        (Kind::DockerArchive | Kind::DockerDaemon, Opened::File(file)) => {
            let archive = Archive::open(file, &typed.path())?;
            let image = docker::Image::open(archive, typed.path(), typed.reference.as_deref())?;
            let reference = image.digest().to_string();
            work.layers(Arc::new(image), &reference)
        }
        (Kind::OciArchive, Opened::File(file)) => {
            work.layout(Box::new(Archive::open(file, &typed.path())?))
        }
        (Kind::Oci, Opened::Directory(directory)) => {
            work.layout(Box::new(parts::Directory::of(directory)))
        }
        (Kind::Dir, Opened::Directory(directory)) => {
            work.tree(identity, |tree| directory::read(&directory, tree))
        }
        (Kind::Tar, Opened::File(file)) => work.tree(identity, |tree| tree.archive(file)),
        (Kind::Squashfs, Opened::File(file)) => work.tree(identity, |tree| {
            let devices = tree.extras.has_devices();
            squashfs::read(file, &typed.path(), devices, &mut |item, contents| {
                tree.add(item, contents)
            })
        }),
        _ => Err(Error::bug("a directory was opened as a file")),
    }
}

/// What was opened while we could.
#[derive(Debug)]
enum Opened {
    File(std::fs::File),
    Directory(OwnedFd),
    Daemons(Vec<daemon::Daemon>),
}

impl Opened {
    fn directory(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self {
            Self::File(_) | Self::Daemons(_) => None,
            Self::Directory(directory) => Some(directory.as_fd()),
        }
    }
}

/// Gives up all rights but the caller's, and opens what was typed with those; what is root's
/// own only root can open.
fn open(typed: &Typed, identity: &Identity) -> Result<Opened> {
    let give_up = || match typed.kind.is_directory() {
        true => identity.become_user_who_reads(),
        false => identity.become_user(),
    };
    if identity.uid == 0 {
        let opened = typed.open(&identity.environment)?;
        give_up()?;
        return Ok(opened);
    }
    give_up()?;
    typed.open(&identity.environment)
}

/// What was typed, to be typed once more.
fn again(args: &cli::Import, platform: &str) -> String {
    format!("{}{} {}", args.options.again(platform), args.source, args.name)
}

/// An import under way.
struct Work<'a> {
    channel: UnixStream,
    job: Job,
    again: &'a str,
    progress: &'a Progress,
    request: &'a Request,
    images: &'a ImagesConfig,
}

impl Work<'_> {
    /// An OCI layout.
    fn layout(self, parts: Box<dyn Parts>) -> Result<Delivered> {
        let typed = &self.request.source;
        let layout = layout::Layout::open(parts, typed.path());
        let digest = layout.find(typed.reference.as_deref(), &self.job.platform)?;
        self.layers(Arc::new(layout), digest.as_str())
    }

    /// An image in layers.
    fn layers(self, source: Arc<dyn Source>, reference: &str) -> Result<Delivered> {
        let Self { channel, job, again, progress, request, images } = self;
        let about = |error: Error| match error.next_steps().is_empty() {
            true => error.hint(source.repair()),
            false => error,
        };
        let picked = pick(&*source, reference, &job.platform)
            .map_err(|e| about(e.about(format!("{}: ", request.source.path()))))?;
        say(progress, request, &picked, &job.platform);
        let readable = job.readable;
        let job = Job { digest: Some(picked.digest.clone()), ..job };
        let delivered = deliver(channel, job, again, progress, |writer| {
            let (source, picked) = (&source, &picked);
            let extras = Extras::of(images);
            Layers { source, picked, writer, progress, readable, extras }.send()
        })?;
        Ok(Delivered { platform: picked.info.platform, ..delivered })
    }

    /// The files of a root file system.
    fn tree(
        self,
        identity: &Identity,
        read: impl FnOnce(&mut tree::Tree<'_>) -> Result<()>,
    ) -> Result<Delivered> {
        let Self { channel, job, again, progress, request, images } = self;
        let (platform, readable) = (job.platform.clone(), job.readable);
        progress.say(&format!("{}: {}, for {platform}", request.image, request.source.typed));
        let said = ImageInfo { platform, ..ImageInfo::default() };
        deliver(channel, job, again, progress, |writer| {
            let mut tree = tree::Tree::new(
                writer,
                progress,
                &request.source,
                identity.uid,
                Extras::of(images),
            );
            let sent = read(&mut tree).and_then(|()| tree.send(said, readable));
            sent.map_err(|error| match error.next_steps().is_empty() {
                true => error.hint(request.source.kind.takes()),
                false => error,
            })
        })
    }
}

fn say(progress: &Progress, request: &Request, picked: &Picked, platform: &str) {
    let bytes: u64 = picked.layers.iter().map(|l| l.size).sum();
    let layers = match picked.layers.len() {
        1 => "1 layer".to_owned(),
        n => format!("{n} layers"),
    };
    let (image, digest, typed) = (&request.image, picked.digest.short(), &request.source.typed);
    progress
        .say(&format!("{image}: {digest} for {platform}, {layers}, {} from {typed}", size(bytes)));
}
