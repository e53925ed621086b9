//! Root file systems: trees that come file by file, and not in layers.

use std::fs::File;

use squashfs::Meta;
use udi::{Error, ImageInfo, Result};
use udi_store::Unreadable;

use super::digest;
use super::typed::Typed;
use crate::delivery::{Writer, read_whole, send_tree};
use crate::layer::archive::Contents;
use crate::layer::extras::Extras;
use crate::layer::merge::Image;
use crate::layer::record::{Item, Layer, What};
use crate::progress::Progress;
use crate::source::manifest::sha256;
use crate::source::stream::Stream;

/// A tree on its way to the writer.
pub(super) struct Tree<'a> {
    writer: &'a mut Writer,
    progress: &'a Progress,
    typed: &'a Typed,
    /// Whose files become root's, unless it is root.
    uid: u32,
    layer: Layer,
    pub(super) extras: Extras,
    /// The digests of the contents that were sent, in their order.
    contents: Vec<[u8; 32]>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(
        writer: &'a mut Writer,
        progress: &'a Progress,
        typed: &'a Typed,
        uid: u32,
        extras: Extras,
    ) -> Self {
        let (layer, contents) = (Layer::default(), Vec::new());
        Self { writer, progress, typed, uid, layer, extras, contents }
    }

    /// One more entry; it stands in the order in which an archive would have it.
    pub(super) fn add(
        &mut self,
        item: Item<'_>,
        contents: Option<&mut Contents<'_>>,
    ) -> Result<()> {
        let what = match (item.what, contents) {
            (What::File(_), Some(contents)) => {
                let mut digest = digest::Contents::default();
                let number = self.writer.contents_seen(contents, |piece| digest.see(piece))?;
                // All empty files have the same one.
                if number as usize == self.contents.len() {
                    self.contents.push(digest.end());
                }
                What::File(Some(number))
            }
            (what, _) => what,
        };
        self.layer.push(Item { what, meta: self.owned(item.meta), ..item })
    }

    /// Whoever makes a tree without being root means root where it says its own name.
    fn owned(&self, meta: Meta) -> Meta {
        if self.uid != 0 && meta.uid == self.uid {
            return Meta { uid: 0, gid: 0, ..meta };
        }
        meta
    }

    /// Adds what is in an archive, compressed or not.
    pub(super) fn archive(&mut self, file: File) -> Result<()> {
        let size = file.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
        let path = self.typed.path();
        let name = if path == "-" { "standard input".to_owned() } else { path };
        // Of a pipe nobody knows how much will come: then there is nothing to show.
        let bar = size.map(|size| self.progress.layer(1, 1, &name, size));
        let stream = Stream::of(file, name.clone(), move |bytes| {
            if let Some(bar) = &bar {
                bar.add(bytes);
            }
        })?;
        let stream = stream.unless(self.writer.watch()?);
        let mut extras = std::mem::take(&mut self.extras);
        let visit = |item: Item<'_>, contents: Option<&mut Contents<'_>>| self.add(item, contents);
        let read = read_whole(&name, stream, &mut extras, visit);
        self.extras = extras;
        read
    }

    /// Sends the tree of an image that says `said` of itself; gives all that can be said of it,
    /// and what users cannot read.
    pub(super) fn send(self, said: ImageInfo, readable: bool) -> Result<(ImageInfo, Unreadable)> {
        let path = self.typed.path();
        let mut image = Image::of([self.layer], |_| path.clone())?;
        image.drop_description();
        let mut names = digest::Names::default();
        let (count, _) = image.send(&self.extras, |message| names.see(&message, &self.contents))?;
        if count == 0 {
            return Err(Error::user(format!("{}: there is nothing in it", self.typed.typed)));
        }
        let nothing = ImageInfo { platform: said.platform.clone(), ..ImageInfo::default() };
        let configuration = match said == nothing {
            true => None,
            false => Some(sha256(
                &serde_json::to_vec(&said)
                    .map_err(|e| Error::bug("cannot describe the image").because(e))?,
            )),
        };
        let digest = names.end(&said.platform, configuration.as_ref());
        let info = ImageInfo { digest: Some(digest), ..said };
        let unreadable =
            send_tree(image, &self.extras, &info, readable, self.writer, self.progress)?;
        Ok((info, unreadable))
    }
}
