//! The site's configuration, read once and again when it changes.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use udi::{Config, Error, Result};

/// The configuration file and what it said last.
#[derive(Debug)]
pub(crate) struct Site {
    path: PathBuf,
    last: Mutex<Option<(Stamp, Arc<Config>)>>,
}

/// What changes when a file does: file system, inode, size, and times of content and owner.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, u64, u64, (i64, i64), (i64, i64));

impl Default for Site {
    fn default() -> Site {
        Site::at(Config::PATH.into())
    }
}

impl Site {
    fn at(path: PathBuf) -> Site {
        Site { path, last: Mutex::new(None) }
    }

    /// The configuration as it is now. Errors are the site's.
    pub(crate) fn load(&self) -> Result<Arc<Config>> {
        let stamp = fs::metadata(&self.path).map(|meta| Stamp::of(&meta)).map_err(|error| {
            Error::admin(format!("cannot read {}", self.path.display())).because(error)
        })?;
        // A panic cannot have left half of it.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*last
            && *of == stamp
        {
            return Ok(config.clone());
        }
        let config = Arc::new(udi_store::site::load(&self.path)?);
        *last = Some((stamp, config.clone()));
        Ok(config)
    }
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        Stamp(
            meta.dev(),
            meta.ino(),
            meta.size(),
            (meta.mtime(), meta.mtime_nsec()),
            (meta.ctime(), meta.ctime_nsec()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_configuration_is_the_sites_fault() {
        let error = Site::at("/nonexistent/shifter.toml".into()).load().unwrap_err();
        assert_eq!(error.blame(), udi::Blame::Admin);
    }
}
