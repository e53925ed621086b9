//! Packing an image of the store once more, as another file system than squashfs.
//!
//! The writer does it, as the store's owner, from the squashfs file that it or its like wrote:
//! what the kernel mounts never comes from anybody else. The programs that make file systems
//! take a tree and what lstat(2) says of it. The owner of the store can give its files to nobody,
//! so `fakeroot` answers for lstat what the image has.

mod scratch;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use udi::{Config, Digest, Error, ImageFormat, Result};
use udi_store::publish::{Keeper, Lease, Name, Temp};
use udi_store::{Packed, Store};

use scratch::Unpacked;

/// Where the programs may be.
const PATHS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const BLOCK: u64 = 4096;
/// How often an estimate of the room that ext4 needs may be too small.
const TRIES: u32 = 4;
/// How often we look whether a program has ended.
const POLL: Duration = Duration::from_millis(20);

/// Whether the site wants it, and can do it: told before anything is fetched.
pub(crate) fn check(config: &Config, format: ImageFormat) -> Result<()> {
    if !config.images.formats.contains(&format) && format != ImageFormat::Squashfs {
        let mut formats: Vec<&str> = vec![ImageFormat::Squashfs.name()];
        formats.extend(config.images.formats.iter().map(|f| f.name()).filter(|f| *f != "squashfs"));
        return Err(Error::user(format!(
            "--format={}: this site packs no images so",
            format.name()
        ))
        .hint(format!("here there is: {}", formats.join(", "))));
    }
    needs(format).iter().try_for_each(|(program, package)| find(program, package).map(drop))
}

/// Programs, and the packages that have them.
fn needs(format: ImageFormat) -> &'static [(&'static str, &'static str)] {
    match format {
        ImageFormat::Squashfs => &[],
        ImageFormat::Ext4 => {
            &[("fakeroot", "fakeroot"), ("mke2fs", "e2fsprogs"), ("debugfs", "e2fsprogs")]
        }
        ImageFormat::Erofs => &[("fakeroot", "fakeroot"), ("mkfs.erofs", "erofs-utils")],
    }
}

fn find(program: &str, package: &str) -> Result<PathBuf> {
    let all = PATHS.iter().map(|path| Path::new(path).join(program));
    all.into_iter().find(|path| path.exists()).ok_or_else(|| {
        Error::admin(format!("there is no {program} on this machine"))
            .hint(format!("install {package}, or take the format out of images.formats"))
    })
}

/// An image to be packed once more.
pub(crate) struct Work<'a> {
    pub(crate) config: &'a Config,
    pub(crate) store: &'a Store,
    pub(crate) keeper: &'a Keeper<'a>,
    pub(crate) name: &'a Name,
    pub(crate) format: ImageFormat,
    /// Whether whoever asked has gone away.
    pub(crate) given_up: &'a dyn Fn() -> bool,
}

impl Work<'_> {
    /// Packs the image as `format`, if it is not yet; gives the bytes of the file.
    pub(crate) fn run(&self, lease: &mut Lease) -> Result<u64> {
        let digest = &self.name.entry.digest;
        let gone = || Error::user(format!("{digest} was just removed")).hint("try again");
        let record = self.store.manifest(digest)?.ok_or_else(gone)?;
        if let Some(packed) = self.keeper.has_as(&record, self.format) {
            return Ok(packed.size);
        }
        let modes = record.modes();
        let unreadable =
            record.packed(modes).map(|packed| packed.unreadable.clone()).ok_or_else(gone)?;
        let (image, _) = self.store.open_squashfs(digest)?;
        let directory = &self.config.images.scratch;
        let unpacked = Unpacked::of(File::from(image), directory, || lease.renew())?;
        let made = self.make(&unpacked, lease)?;
        let temp = self.keeper.temp(lease)?;
        let (id, size) = copy(&made, &temp, lease)?;
        let packed = Packed { id, format: self.format.name().to_owned(), size, unreadable };
        self.keeper.publish(lease, temp, packed, modes, record.info, self.name)?;
        Ok(size)
    }

    /// The file system, in the scratch directory.
    fn make(&self, unpacked: &Unpacked, lease: &mut Lease) -> Result<File> {
        let path = unpacked.path().join("image");
        let cannot = |e| Error::admin(format!("cannot use {}", path.display())).because(e);
        match self.format {
            ImageFormat::Erofs => {
                let uuid = uuid(&self.name.entry.digest);
                let words = ["--quiet", "-zlz4hc", "-x-1", "-U", &uuid];
                self.fakeroot(unpacked, "mkfs.erofs", &words, &["image", "tree"], lease)?;
            }
            ImageFormat::Ext4 => self.ext4(unpacked, &path, lease)?,
            ImageFormat::Squashfs => return Err(Error::bug("squashfs is made otherwise")),
        }
        File::open(&path).map_err(cannot)
    }

    fn ext4(&self, unpacked: &Unpacked, path: &Path, lease: &mut Lease) -> Result<()> {
        let cannot = |e| Error::admin(format!("cannot use {}", path.display())).because(e);
        let uuid = uuid(&self.name.entry.digest);
        let extended = format!("nodiscard,lazy_itable_init=1,hash_seed={uuid}");
        let inodes = (unpacked.entries + 64).to_string();
        let mut size = unpacked.ext4_size();
        for left in (0..TRIES).rev() {
            let file = File::create(path).map_err(cannot)?;
            file.set_len(size).map_err(cannot)?;
            let words = [
                "-q",
                "-F",
                "-t",
                "ext4",
                "-m",
                "0",
                "-b",
                "4096",
                "-I",
                "256",
                "-N",
                &inodes,
                "-O",
                "^has_journal,^resize_inode",
                "-E",
                &extended,
                "-U",
                &uuid,
                "-d",
                "tree",
            ];
            match self.fakeroot(unpacked, "mke2fs", &words, &["image"], lease) {
                Ok(()) => break,
                // Free blocks of the file take no room: too many do no harm.
                Err(error) if left > 0 && error.to_string().contains("ould not allocate") => {
                    size = (size / 2 * 3).next_multiple_of(BLOCK);
                }
                Err(error) => return Err(error),
            }
        }
        // mke2fs makes the root its own, and a directory in it for what fsck finds.
        let meta = unpacked.root;
        let mut script = format!(
            "sif <2> mode 04{:04o}\nsif <2> uid {}\nsif <2> gid {}\nsif <2> mtime @{}\n",
            meta.mode & 0o7777,
            meta.uid & 0xffff,
            meta.gid & 0xffff,
            meta.mtime
        );
        script +=
            &format!("sif <2> uid_high {}\nsif <2> gid_high {}\n", meta.uid >> 16, meta.gid >> 16);
        if !unpacked.has_lost_and_found {
            script += "rmdir lost+found\n";
        }
        std::fs::write(unpacked.path().join("script"), script).map_err(cannot)?;
        let debugfs = find("debugfs", "e2fsprogs")?;
        self.command(Command::new(debugfs).args(["-w", "-f", "script", "image"]), unpacked, lease)
    }

    fn fakeroot(
        &self,
        unpacked: &Unpacked,
        program: &str,
        words: &[&str],
        files: &[&str],
        lease: &mut Lease,
    ) -> Result<()> {
        let package = |name| needs(self.format).iter().find(|n| n.0 == name).map_or("", |n| n.1);
        let program = find(program, package(program))?;
        let mut command = Command::new(find("fakeroot", "fakeroot")?);
        command.args(["-i", "state", "--"]).arg(program).args(words).args(files);
        self.command(&mut command, unpacked, lease)
    }

    /// Runs a program in the scratch directory, to its end or the end of whoever wants it.
    fn command(&self, command: &mut Command, unpacked: &Unpacked, lease: &mut Lease) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = |e| Error::admin(format!("cannot run {name}")).because(e);
        let said = unpacked.path().join("said");
        let output = File::create(&said).map_err(failed)?;
        let mut child = command
            .env_clear()
            .env("PATH", PATHS.join(":"))
            .env("LC_ALL", "C")
            // Whenever it is done, the bytes are the same; files' own times are earlier and stay.
            .env("SOURCE_DATE_EPOCH", u32::MAX.to_string())
            .env("E2FSPROGS_FAKE_TIME", "1")
            .current_dir(unpacked.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            lease.renew();
            if (self.given_up)() {
                let group = i32::try_from(child.id()).map(Pid::from_raw);
                let _ = group.map(|group| killpg(group, Signal::SIGKILL));
                let _ = child.wait();
                return Err(Error::bug("the reader is gone"));
            }
            std::thread::sleep(POLL);
        };
        if status.success() {
            return Ok(());
        }
        let mut text = Vec::new();
        let _ = File::open(&said).and_then(|file| file.take(1024).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        Err(Error::admin(format!(
            "the image cannot be packed as {}: {status} ({})",
            self.format.name(),
            lines.join(", ")
        ))
        .hint(format!(
            "is there room in {}? Without --format it is squashfs",
            self.config.images.scratch.display()
        )))
    }
}

/// The same for the same image.
fn uuid(digest: &Digest) -> String {
    let hex = digest.hex();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32))
}

/// Copies what was made into the store, leaving out what is only zeros.
fn copy(made: &File, temp: &Temp, lease: &mut Lease) -> Result<(Digest, u64)> {
    let cannot = |e: io::Error| Error::admin("cannot write the image").because(e);
    let mut from = made;
    from.seek(SeekFrom::Start(0)).map_err(cannot)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0u64;
    loop {
        lease.renew();
        let n = from.read(&mut buffer).map_err(cannot)?;
        if n == 0 {
            break;
        }
        let piece = &buffer[..n];
        hash.update(piece);
        for (number, block) in piece.chunks(BLOCK as usize).enumerate() {
            if block.iter().any(|&byte| byte != 0) {
                temp.file.write_all_at(block, at + number as u64 * BLOCK).map_err(cannot)?;
            }
        }
        at += n as u64;
    }
    temp.file.set_len(at).map_err(cannot)?;
    (&temp.file).flush().map_err(cannot)?;
    Ok((Digest::from_bytes(&hash.finalize().into()), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_the_site_does_not_want_is_refused_with_those_it_does() {
        let parse = |more: &str| {
            let text = format!("[store]\npath = \"/x\"\n{more}");
            Config::parse(&text, Path::new("x")).unwrap()
        };
        let error = check(&parse(""), ImageFormat::Ext4).unwrap_err().to_string();
        assert!(
            error.contains("--format=ext4") && error.contains("here there is: squashfs"),
            "{error}"
        );
        check(&parse(""), ImageFormat::Squashfs).unwrap();
        let error = check(&parse("[images]\nformats = [\"erofs\"]\n"), ImageFormat::Ext4);
        assert!(error.unwrap_err().to_string().contains("squashfs, erofs"));
    }

    #[test]
    fn a_file_systems_id_is_its_images() {
        let digest = Digest::from_bytes(&[0xab; 32]);
        assert_eq!(uuid(&digest), "abababab-abab-4bab-8bab-abababababab");
    }
}
