//! What a UDI is made of besides the host's directories: images, opened with the user's rights.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use udi::{Base, Config, Digest, Plan, Result, Source};
use udi_store::Store;

use crate::image::ImageFile;
use crate::open::open_image;
use crate::{fault, local};

/// The images of a plan, all of which its user may read.
#[derive(Debug)]
pub struct Opened {
    /// What everything else lies over.
    pub base: BaseFile,
    /// The data images among the volumes.
    pub data: BTreeMap<Digest, ImageFile>,
}

/// What a UDI lies over.
#[derive(Debug)]
pub enum BaseFile {
    /// A file with a file system in it.
    Image(ImageFile),
    /// A directory of the node's that only root can write (`O_PATH`).
    Directory(OwnedFd),
}

impl Opened {
    /// Opens all images that the plan names. The store is looked at only if one is in it.
    pub fn of(plan: &Plan, site: &Config) -> Result<Self> {
        let mut found = None;
        let mut open = |digest: &Digest| {
            let store = match &found {
                Some(store) => store,
                None => found.insert(Store::open(&site.store)?),
            };
            open_image(store, digest, &plan.user)
        };
        let base = match &plan.image {
            Base::Store(digest) => BaseFile::Image(open(digest)?),
            Base::Local(path) => local::open(path, site, &plan.user)?,
        };
        let mut data = BTreeMap::new();
        for mount in &plan.mounts {
            if let Source::Image(digest) = &mount.source
                && !data.contains_key(digest)
            {
                let file = open(digest).map_err(|error| fault::of_volume(mount, error))?;
                data.insert(digest.clone(), file);
            }
        }
        Ok(Self { base, data })
    }

    /// The names of the image mounts that it needs on the node.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let base = match &self.base {
            BaseFile::Image(file) => Some(file),
            BaseFile::Directory(_) => None,
        };
        base.into_iter().chain(self.data.values()).map(|file| file.name.as_str())
    }
}

impl From<ImageFile> for Opened {
    /// One image and no data.
    fn from(file: ImageFile) -> Self {
        Self { base: BaseFile::Image(file), data: BTreeMap::new() }
    }
}
