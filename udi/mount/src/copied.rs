//! Files of the site layer: what they say, read on the host before anything of it is gone.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use udi::{Error, Origin, Permissions, Result, SiteFile};

/// What one file may be long, and all of a UDI's together: they are kept in memory.
const LONGEST: u64 = 16 << 20;
const ALL: u64 = 48 << 20;

/// A file that is put over the image.
#[derive(Debug)]
pub(crate) struct Copied<'a> {
    pub(crate) content: Cow<'a, [u8]>,
    pub(crate) mode: u32,
}

impl Default for Copied<'_> {
    /// An empty one, to mount something on.
    fn default() -> Self {
        Self { content: Cow::Borrowed(&[]), mode: Permissions::PLAIN.bits() }
    }
}

/// What the files say, in order; nothing for an optional one that the host does not have.
pub(crate) fn all(files: &[SiteFile]) -> Result<Vec<Option<Copied<'_>>>> {
    let mut room = ALL;
    files.iter().map(|file| one(file, &mut room)).collect()
}

fn one<'a>(file: &'a SiteFile, room: &mut u64) -> Result<Option<Copied<'a>>> {
    let (from, optional, mode, origin) = match file {
        SiteFile::Made { content, .. } => {
            let content = Cow::Borrowed(content.as_bytes());
            return Ok(Some(Copied { content, ..Copied::default() }));
        }
        // What it says is where it leads.
        SiteFile::Link { target, .. } => {
            let content = Cow::Borrowed(target.as_bytes());
            return Ok(Some(Copied { content, ..Copied::default() }));
        }
        SiteFile::Copied { from, optional, mode, origin, .. } => (from, *optional, mode, origin),
    };
    let key = match origin {
        Origin::Module(name) => format!("modules.{name}.copy"),
        _ => "etc.replace".to_owned(),
    };
    let failed = |why: &str| Error::admin(format!("{key}: {} {why}", from.display()));
    let cannot = |error| failed("cannot be read").because(error);
    let (mut file, its_mode) = match open(from) {
        Ok(Some(found)) => found,
        Ok(None) if optional => return Ok(None),
        Ok(None) => return Err(failed("is not a file")),
        Err(_) if optional && matches!(origin, Origin::Builtin) => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    let mut content = Vec::new();
    let most = LONGEST.min(*room);
    let length = (&mut file).take(most + 1).read_to_end(&mut content).map_err(cannot)? as u64;
    if length > most {
        return Err(failed("is too long to be copied: a file may have 16 MiB, all together 48")
            .hint("mount it instead"));
    }
    *room -= length;
    let mode = mode.map_or(its_mode & 0o755, Permissions::bits);
    Ok(Some(Copied { content: content.into(), mode }))
}

/// The file and its mode; nothing where there is none.
fn open(path: &Path) -> std::io::Result<Option<(File, u32)>> {
    // A FIFO cannot stop us.
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let meta = file.metadata()?;
    Ok(meta.is_file().then(|| (file, meta.mode())))
}
