//! Handing an image to the writer, wherever it comes from.

mod channel;
mod layers;

use std::os::unix::net::UnixStream;
use std::time::Instant;

use udi::{Digest, Error, ImageInfo, Result};
use udi_store::Unreadable;

use crate::layer::extras::Extras;
use crate::layer::merge::Image;
use crate::progress::{Progress, size};
use crate::show::some_files;
use crate::wire::{Described, Job, ToWriter};
pub(crate) use channel::Writer;
pub(crate) use layers::{Layers, read_whole};

/// What was done.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) image: String,
    pub(crate) digest: Digest,
    pub(crate) platform: String,
    pub(crate) private: bool,
    /// Bytes of the image's file.
    pub(crate) size: u64,
    /// Whether there was anything to do.
    pub(crate) new: bool,
    /// Whether its files were made readable.
    pub(crate) readable: bool,
    /// What ordinary users cannot read in it.
    pub(crate) unreadable: Unreadable,
}

/// What the store said of the image.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) digest: Option<Digest>,
    pub(crate) size: u64,
    pub(crate) new: bool,
    pub(crate) readable: bool,
    pub(crate) unreadable: Unreadable,
}

/// Has the writer do `job`. Unless the image is in the store already, `send` sends it, and
/// gives what the image says of itself and what users cannot read in it. `again` is the
/// command that would make it readable.
pub(crate) fn deliver(
    channel: UnixStream,
    job: Job,
    again: &str,
    progress: &Progress,
    send: impl FnOnce(&mut Writer) -> Result<(ImageInfo, Unreadable)>,
) -> Result<Delivered> {
    let start = Instant::now();
    let mut writer = Writer::new(channel)?;
    let (image, platform, private) = (job.image.clone(), job.platform.clone(), job.private);
    let (asked, readable) = (job.digest.clone(), job.readable);
    let stored = match writer.open(job, progress)? {
        Some(stored) => stored,
        None => {
            let sent = send(&mut writer).and_then(|(info, unreadable)| {
                let described = Described { info: info.clone(), unreadable: unreadable.clone() };
                writer.send(&ToWriter::Finish(Box::new(described)))?;
                Ok((info.digest, unreadable))
            });
            let (digest, unreadable) =
                sent.map_err(|error| writer.last_words().unwrap_or(error))?;
            writer.done(Stored { digest, size: 0, new: true, readable, unreadable }, progress)?
        }
    };
    progress.say(&match stored.new {
        true => format!("{} in {:.1} s", size(stored.size), start.elapsed().as_secs_f64()),
        false => "it is in the store already".to_owned(),
    });
    let Stored { digest, size, new, readable, unreadable } = stored;
    if unreadable.files > 0 {
        progress.say(&format!(
            "{} cannot be read by ordinary users; {again} makes {} readable",
            some_files(&unreadable),
            if unreadable.files == 1 { "it" } else { "them" }
        ));
    }
    let digest = digest.or(asked).ok_or_else(|| Error::bug("an image without a digest"))?;
    Ok(Delivered { image, digest, platform, private, size, new, readable, unreadable })
}

/// Sends the tree, whose contents were sent before; gives what users cannot read in it.
pub(crate) fn send_tree(
    mut image: Image,
    extras: &Extras,
    info: &ImageInfo,
    readable: bool,
    writer: &mut Writer,
    progress: &Progress,
) -> Result<Unreadable> {
    let mut unreadable = image.unreadable();
    if readable {
        image.make_readable();
        if unreadable.files > 0 {
            progress.say(&format!("made readable: {}", some_files(&unreadable)));
        }
        unreadable = image.unreadable();
    }
    if extras.has_only_root() {
        image.give_to_root();
    }
    image.describe(description(info, writer)?)?;
    writer.send(&ToWriter::Tree)?;
    let (_, devices) = image.send(extras, |message| writer.send(&message))?;
    if devices > 0 {
        let nodes = if devices == 1 { "node" } else { "nodes" };
        progress.say(&format!("left out {devices} device {nodes}: /dev is the host's"));
    }
    Ok(unreadable)
}

/// `/.shifter/image.json`
fn description(info: &ImageInfo, writer: &mut Writer) -> Result<u32> {
    let mut json = serde_json::to_vec_pretty(info)
        .map_err(|e| Error::bug("cannot describe the image").because(e))?;
    json.push(b'\n');
    writer.send(&ToWriter::Begin)?;
    writer.bytes(&json)?;
    writer.end()
}
