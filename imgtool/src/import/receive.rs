//! What `shifterimg copy` at another site sends.
//!
//! It arrives on standard input, by the sender's own ssh, as the user that the sender is here. A
//! user's file is nobody's to trust: when all of it is there and has the digest that was
//! announced, it is imported like any squashfs file. What is here of it stays, as the user's,
//! until then: the next copy goes on from there.

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use udi::{Config, Digest, Error, ImageInfo, Modes, Result};

use super::announced::Announced;
use super::{Request, squashfs, tree};
use crate::cli;
use crate::delivery::{Delivered, deliver};
use crate::identity::Identity;
use crate::layer::extras::Extras;
use crate::progress::{Progress, size};
use crate::sandbox;
use crate::show;
use crate::wire::Job;

/// Receives an image as the user, who hands to `channel` what is in it.
pub(crate) fn receive(
    config: &Config,
    identity: &Identity,
    args: &cli::Receive,
    request: &Request,
    channel: UnixStream,
) -> Result<Delivered> {
    if identity.uid == 0 {
        return Err(Error::user("copies are taken by users, not by root")
            .hint("copy to a login of yours there: LOGIN@HOST"));
    }
    identity.become_user()?;
    let progress = Progress::new(args.quiet);
    let mut stdin = std::io::stdin().lock();
    let announced = Announced::next(&mut stdin);
    let Ok(Some(Announced::File { digest, size, info })) = announced else {
        return Err(Error::user("this is what shifterimg copy runs at the other side")
            .hint("shifterimg copy IMAGE HOST, or shifterimg import squashfs:FILE NAME"));
    };
    let mut partial = Partial::open(&digest)?;
    partial.fetch(&mut stdin, size)?;
    partial.check(&digest)?;
    sandbox::receiver(partial.directory.as_fd())?;
    let platform = args.platform.as_ref().unwrap_or(&config.images.platform).clone();
    let job = Job {
        image: request.image.to_string(),
        platform: platform.clone(),
        digest: None,
        private: request.is_private,
        from: "copy".to_owned(),
        readable: config.images.modes == Modes::Readable,
    };
    // Digest and layers are those of an image that this is not any more: who gets a tree cannot
    // tell whether it is what the layers make.
    let said = ImageInfo { digest: None, layers: Vec::new(), platform, ..info };
    let readable = job.readable;
    let file = partial.file.try_clone().map_err(|e| Error::bug("no second file").because(e))?;
    let delivered = deliver(channel, job, READABLE, &progress, |writer| {
        // Owners are the image's: of whom here has such a number nobody has thought.
        let mut tree =
            tree::Tree::new(writer, &progress, &request.source, 0, Extras::of(&config.images));
        let devices = tree.extras.has_devices();
        squashfs::read(file, &request.source.path(), devices, &mut |item, contents| {
            tree.add(item, contents)
        })
        .and_then(|()| tree.send(said, readable))
    })?;
    partial.remove();
    Ok(delivered)
}

/// What is here of a file.
#[derive(Debug)]
struct Partial {
    directory: OwnedFd,
    name: String,
    file: File,
}

impl Partial {
    /// Opens it with the user's rights, in the user's home.
    fn open(digest: &Digest) -> Result<Self> {
        let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/'));
        let home = home.ok_or_else(|| Error::user("HOME is not set"))?;
        let path = Path::new(&home).join(".cache/shifterimg");
        Self::open_in(&path, digest)
    }

    fn open_in(path: &Path, digest: &Digest) -> Result<Self> {
        let cannot = |e: io::Error| {
            Error::user(format!("{} cannot be used for what is sent", path.display()))
                .because(e)
                .hint("it may be a link to a directory of yours with more room")
        };
        std::fs::create_dir_all(path).map_err(cannot)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty());
        let directory = directory.map_err(|e| cannot(e.into()))?;
        let name = format!("{}.partial", digest.hex());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&directory, &name, flags | OFlags::CLOEXEC, mode);
        let file = File::from(file.map_err(|e| cannot(e.into()))?);
        let meta = file.metadata().map_err(cannot)?;
        if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(Error::user(format!("{}/{name} is not yours", path.display()))
                .hint(format!("remove it: rm -f {}/{name}", path.display())));
        }
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::user("the same image is being copied here already")
                .hint("wait for that copy, or end it"));
        }
        Ok(Self { directory, name, file })
    }

    /// Says how much there is, and takes the rest of `size` bytes.
    fn fetch(&mut self, from: &mut impl Read, size: u64) -> Result<()> {
        let cannot = |e| Error::user("what is sent cannot be kept").because(e).hint(ROOM);
        let mut have = self.file.metadata().map_err(cannot)?.len();
        if have > size {
            self.file.set_len(0).map_err(cannot)?;
            have = 0;
        }
        self.file.seek(SeekFrom::Start(have)).map_err(cannot)?;
        show::print(&Announced::Have(have).line()?)?;
        io::stdout().flush().map_err(|e| Error::user("nobody listens").because(e))?;
        let mut buffer = vec![0; 1 << 20];
        while have < size {
            let left = usize::try_from(size - have).map_or(buffer.len(), |l| l.min(buffer.len()));
            let n = match from.read(&mut buffer[..left]) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            if n == 0 {
                return Err(Error::user(format!(
                    "the connection broke off after {} of {}",
                    crate::progress::size(have),
                    crate::progress::size(size)
                ))
                .hint("copy once more: it goes on from there"));
            }
            self.file.write_all(&buffer[..n]).map_err(cannot)?;
            have += n as u64;
        }
        Ok(())
    }

    /// Whether all of it is what was announced; if not, it is worth nothing.
    fn check(&mut self, expected: &Digest) -> Result<()> {
        let cannot = |e| Error::user("what was sent cannot be read again").because(e);
        self.file.rewind().map_err(cannot)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match self.file.read(&mut buffer).map_err(cannot)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        if Digest::from_bytes(&hash.finalize().into()) == *expected {
            return Ok(());
        }
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        self.remove();
        Err(Error::user(format!(
            "the {} that arrived are not the image that was announced",
            size(length)
        ))
        .hint("copy once more: it begins anew"))
    }

    fn remove(&self) {
        let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

const READABLE: &str = "pulling it with --readable before it is copied";
const ROOM: &str = "make room below ~/.cache/shifterimg, or make it a link to where there is";

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> Digest {
        Digest::from_bytes(&Sha256::digest(bytes).into())
    }

    #[test]
    fn a_copy_that_broke_off_goes_on_where_it_ended_and_is_checked_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = b"all of the image".to_vec();
        let digest = digest(&bytes);
        let open = || Partial::open_in(dir.path(), &digest);
        let error = open().unwrap().fetch(&mut &bytes[..5], 16).unwrap_err().to_string();
        assert!(error.contains("broke off after 5 B of 16 B"), "{error}");
        let mut second = open().unwrap();
        assert!(open().unwrap_err().what().contains("is being copied here already"));
        second.fetch(&mut &bytes[5..], 16).unwrap();
        second.check(&digest).unwrap();
        drop(second);
        // What is longer than it may be is begun anew; what is something else goes.
        let mut third = open().unwrap();
        third.fetch(&mut &bytes[..], 15).unwrap();
        assert!(third.check(&digest).unwrap_err().what().contains("are not the image"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
