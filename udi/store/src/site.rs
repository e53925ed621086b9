//! Reading the site's configuration, which decides what root does.

use std::fs::{File, Metadata};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use udi::{Config, Error, Result};

use crate::beneath;

/// A larger file is not a configuration.
const MAX_BYTES: u64 = 1 << 20;

/// Reads and parses a `shifter.toml` that nobody but root can have written.
///
/// The file and every directory above it must be root's and closed to other writers, for
/// whoever may write the file decides what is mounted on every node. Errors are the site's.
pub fn load(path: &Path) -> Result<Config> {
    Config::parse(&read(path, 0)?, path)
}

/// The text of another file that decides what root does, judged in the same way.
pub fn text(path: &Path) -> Result<String> {
    read(path, 0)
}

/// Whether nobody but root can have written the file or directory `path`, or put it there.
/// Gives its real place, with which that holds.
///
/// For what root runs or reads on the site's behalf, besides the configuration. Errors are
/// the site's.
pub fn check(path: &Path) -> Result<PathBuf> {
    let cannot = |error| Error::admin(format!("cannot look at {}", path.display())).because(error);
    let real = above(path, 0).map_err(|fault| match fault {
        Fault::Unseen(error) => cannot(error),
        Fault::Open(error) => error,
    })?;
    trusted(&real, &real.symlink_metadata().map_err(cannot)?, 0, false)?;
    Ok(real)
}

/// Why a path is not good enough.
enum Fault {
    Unseen(std::io::Error),
    Open(Error),
}

/// The real place of `path`, if every directory above belongs to root or `owner` and only
/// they can write it.
fn above(path: &Path, owner: u32) -> std::result::Result<PathBuf, Fault> {
    // A link in the path could change between the check and the open: all is judged at its
    // real place, and what is opened is judged again.
    let real = path.canonicalize().map_err(Fault::Unseen)?;
    for (above, dir) in real.ancestors().skip(1).enumerate() {
        let meta = dir.symlink_metadata().map_err(Fault::Unseen)?;
        // What is root's in a sticky directory (/tmp) nobody else can replace. The file's own
        // directory gets no such grace: nobody but root has any business there.
        let sticky = above > 0 && meta.mode() & 0o1000 != 0;
        trusted(dir, &meta, owner, sticky).map_err(Fault::Open)?;
    }
    Ok(real)
}

/// The text of `path`, if it and every parent belong to root or `owner` and only they can
/// write them.
fn read(path: &Path, owner: u32) -> Result<String> {
    let cannot = |error| Error::admin(format!("cannot read {}", path.display())).because(error);
    let real = above(path, owner).map_err(|fault| match fault {
        Fault::Unseen(error) => cannot(error),
        Fault::Open(error) => error,
    })?;
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let flags = i32::from_ne_bytes(flags.to_ne_bytes());
    let file = File::options().read(true).custom_flags(flags).open(&real).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() {
        return Err(Error::admin(format!("{}: not a plain file", path.display())));
    }
    trusted(&real, &meta, owner, false)?;
    let bytes = beneath::content(&file, meta.len(), MAX_BYTES).map_err(cannot)?;
    let bytes =
        bytes.ok_or_else(|| Error::admin(format!("{}: larger than 1 MiB", path.display())))?;
    String::from_utf8(bytes)
        .map_err(|e| Error::admin(format!("cannot read {}", path.display())).because(e))
}

fn trusted(path: &Path, meta: &Metadata, owner: u32, sticky: bool) -> Result<()> {
    let path = path.display();
    if meta.uid() != 0 && meta.uid() != owner {
        return Err(Error::admin(format!("{path}: belongs to uid {}, not to root", meta.uid()))
            .hint(format!("chown root {path}")));
    }
    if meta.mode() & 0o022 != 0 && !sticky {
        return Err(Error::admin(format!("{path}: others than root can write it"))
            .hint(format!("chmod go-w {path}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn us() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[test]
    fn a_configuration_that_others_can_write_is_refused_and_the_command_to_repair_it_named() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("etc");
        fs::create_dir(&inner).unwrap();
        let file = inner.join("shifter.toml");
        fs::write(&file, "[store]\npath = \"/x\"\n").unwrap();
        mode(&file, 0o644);
        mode(&inner, 0o755);
        assert!(read(&file, us()).is_ok());
        for (what, bits) in
            [(&file, 0o664), (&file, 0o646), (&inner, 0o775), (&inner, 0o757), (&inner, 0o1777)]
        {
            let before = fs::metadata(what).unwrap().mode();
            mode(what, bits);
            let error = read(&file, us()).unwrap_err();
            assert_eq!(error.blame(), udi::Blame::Admin);
            assert!(error.to_string().contains("chmod go-w"), "{error}");
            mode(what, before);
        }
        assert!(read(&file, us()).is_ok());
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        if us() != 0 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shifter.toml");
        fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(1), None).unwrap();
        let error = read(&file, 0).unwrap_err();
        assert!(error.to_string().contains("belongs to uid 1"), "{error}");
    }

    #[test]
    fn what_root_runs_for_the_site_is_judged_in_the_same_way() {
        check(Path::new("/bin/sh")).unwrap();
        check(Path::new("/usr/bin")).unwrap();
        if us() != 0 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("hook");
        assert!(check(&program).unwrap_err().what().contains("cannot look at"));
        fs::write(&program, "").unwrap();
        mode(&program, 0o775);
        assert!(check(&program).unwrap_err().to_string().contains("chmod go-w"));
        mode(&program, 0o755);
        check(&program).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(1), None).unwrap();
        assert!(check(&program).unwrap_err().what().contains("belongs to uid 1"));
    }

    #[test]
    fn a_fifo_a_directory_and_a_huge_file_are_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("big");
        fs::write(&big, vec![b'#'; (1 << 20) + 1]).unwrap();
        assert!(read(&big, us()).unwrap_err().what().contains("larger than 1 MiB"));
        assert!(read(dir.path(), us()).is_err());
        assert!(read(&dir.path().join("none"), us()).is_err());
    }
}
