//! Layers on their way into the image.

use std::collections::VecDeque;
use std::sync::Arc;

use udi::{Error, ImageInfo, Result};
use udi_store::Unreadable;

use super::{Writer, send_tree};
use crate::layer::archive::{self, Contents};
use crate::layer::extras::Extras;
use crate::layer::filter::Filter;
use crate::layer::merge::Image;
use crate::layer::record::{Item, Layer, What};
use crate::progress::Progress;
use crate::source::Source;
use crate::source::manifest::Picked;
use crate::source::stream::Stream;

/// Layers under way at once.
const AHEAD: usize = 3;

/// An image in layers, to be sent.
pub(crate) struct Layers<'a> {
    pub(crate) source: &'a Arc<dyn Source>,
    pub(crate) picked: &'a Picked,
    pub(crate) writer: &'a mut Writer,
    pub(crate) progress: &'a Progress,
    /// Whether what users cannot read is made readable.
    pub(crate) readable: bool,
    /// What else is kept.
    pub(crate) extras: Extras,
}

impl Layers<'_> {
    /// Gives what the image says of itself, and what users cannot read.
    pub(crate) fn send(self) -> Result<(ImageInfo, Unreadable)> {
        let (info, repair) = (self.picked.info.clone(), self.source.repair());
        let unreadable = self.run().map_err(|error| match error.next_steps().is_empty() {
            true => error.hint(repair),
            false => error,
        })?;
        Ok((info, unreadable))
    }

    fn run(mut self) -> Result<Unreadable> {
        let layers = self.read_all()?;
        let named = |number: usize| self.picked.layers[number].digest.short().to_owned();
        let mut image = Image::of(layers, named)?;
        self.read_again(&mut image)?;
        let extras = &self.extras;
        send_tree(image, extras, &self.picked.info, self.readable, self.writer, self.progress)
    }

    /// All layers, from the top down; what upper layers hide is not sent.
    fn read_all(&mut self) -> Result<Vec<Layer>> {
        let count = self.picked.layers.len();
        let mut ahead = VecDeque::new();
        let mut next = count;
        let mut layers = Vec::new();
        let mut filter = Filter::default();
        for number in (0..count).rev() {
            while next > 0 && ahead.len() < AHEAD {
                next -= 1;
                let layer = &self.picked.layers[next];
                let bar = self.progress.layer(next + 1, count, layer.digest.short(), layer.size);
                let stream = Stream::open(self.source, layer, move |bytes| bar.add(bytes))?;
                ahead.push_back(stream.unless(self.writer.watch()?));
            }
            let stream = ahead.pop_front().ok_or_else(|| Error::bug("a layer was not opened"))?;
            if number == 0 {
                filter.begin_base();
            }
            let mut layer = Layer::default();
            self.read(number, stream, |writer, item, contents| {
                let needed = filter.see(item.path, &item.what);
                let what = match (item.what, contents) {
                    (What::File(_), Some(contents)) if needed => {
                        What::File(Some(writer.contents(contents)?))
                    }
                    (what, _) => what,
                };
                layer.push(Item { what, ..item })
            })?;
            filter.end_layer();
            layers.push(layer);
        }
        layers.reverse();
        Ok(layers)
    }

    /// Contents that turned out to be needed after all: their layers are read once more.
    fn read_again(&mut self, image: &mut Image) -> Result<()> {
        let missing = image.missing();
        for wanted in missing.chunk_by(|a, b| a.origin.layer == b.origin.layer) {
            let Some(number) = wanted.first().map(|m| usize::from(m.origin.layer)) else {
                continue;
            };
            let stream = Stream::open(self.source, &self.picked.layers[number], |_| {})?;
            let stream = stream.unless(self.writer.watch()?);
            let mut record = 0;
            self.read(number, stream, |writer, _, contents| {
                if let Some(contents) = contents
                    && let Ok(at) = wanted.binary_search_by_key(&record, |m| m.origin.record)
                {
                    image.found(wanted[at], writer.contents(contents)?);
                }
                record += 1;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// One layer, to its end: only then its digests are known to be right.
    fn read(
        &mut self,
        number: usize,
        stream: Stream,
        mut see: impl FnMut(&mut Writer, Item<'_>, Option<&mut Contents<'_>>) -> Result<()>,
    ) -> Result<()> {
        let layer = format!("layer {}", self.picked.layers[number].digest.short());
        let (writer, extras) = (&mut *self.writer, &mut self.extras);
        read_whole(&layer, stream, extras, |item, contents| see(writer, item, contents))
    }
}

/// Reads an archive to the end of its stream, which may have to say that all was wrong.
pub(crate) fn read_whole(
    name: &str,
    mut stream: Stream,
    extras: &mut Extras,
    see: impl FnMut(Item<'_>, Option<&mut Contents<'_>>) -> Result<()>,
) -> Result<()> {
    let read = archive::read(&mut stream, extras, see);
    // A broken archive mostly is not the one that the digest names.
    let broken = read.as_ref().is_err_and(|error| error.next_steps().is_empty());
    if broken || read.is_ok() {
        stream.drain()?;
    }
    if read.is_ok() && !stream.is_whole() {
        return Err(Error::bug(format!("{name}: an error was passed over")));
    }
    read.map_err(|error| if broken { error.about(format!("{name}: ")) } else { error })
}
