//! Pulling: the reader's side.

mod channel;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use udi::{Config, DockerRef, Error, ImageRef, Modes, Result};
use udi_store::Unreadable;

use crate::cli;
use crate::identity::Identity;
use crate::layer::archive::{self, Contents};
use crate::layer::filter::Filter;
use crate::layer::merge::{Image, Origin};
use crate::layer::record::{Item, Layer, What};
use crate::progress::{Progress, size};
use crate::registry::{Endpoint, Files, Picked, Registry, Stream, pick};
use crate::sandbox;
use crate::show::some_files;
use crate::wire::{Described, Job, ToWriter};
use channel::Writer;

/// Layers under way at once.
const AHEAD: usize = 3;

/// What a pull did.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) image: String,
    pub(crate) picked: Picked,
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

/// Pulls as the user, who hands to `channel` what came.
pub(crate) fn run(
    config: &Config,
    identity: &Identity,
    args: &cli::Pull,
    channel: UnixStream,
) -> Result<Pulled> {
    let asked = cli::image(&args.image, config)?;
    let docker = registry_name(&asked)?;
    let files = confine(identity)?;
    let progress = Progress::new(args.quiet);
    let start = Instant::now();

    let endpoint = Endpoint::of(config, docker);
    let credentials = files.find(&endpoint.host, &endpoint.repository);
    let registry = Arc::new(Registry::new(endpoint, credentials)?);
    sandbox::reader(&[])?;
    let platform = args.platform.as_deref().unwrap_or(&config.images.platform);
    let reference = match (docker.digest(), docker.tag()) {
        (Some(digest), _) => digest.as_str(),
        (None, tag) => tag.unwrap_or(&config.images.default_tag),
    };
    let picked = pick(&registry, reference, platform)?;
    let bytes: u64 = picked.layers.iter().map(|l| l.size).sum();
    let private = args.private || (registry.is_personal() && !args.public);
    progress.say(&format!(
        "{asked}: {} for {platform}, {}, {} from {}",
        picked.digest.short(),
        match picked.layers.len() {
            1 => "1 layer".to_owned(),
            n => format!("{n} layers"),
        },
        size(bytes),
        registry.endpoint().name()
    ));
    if private && !args.private {
        progress.say("the registry answered only with your login: the image will be yours alone (--public shares it)");
    }

    let mut writer = Writer::new(channel)?;
    let readable = args.readable || config.images.modes == Modes::Readable;
    let job = Job {
        image: asked.to_string(),
        platform: platform.to_owned(),
        digest: picked.digest.clone(),
        private,
        from: registry.endpoint().name(),
        readable,
    };
    let there = writer.open(job, &progress)?;
    let new = there.is_none();
    let (size_of_file, readable, unreadable) = match there {
        Some(there) => there,
        None => {
            let reading = Reading {
                registry: &registry,
                picked: &picked,
                writer: &mut writer,
                progress: &progress,
                readable,
            };
            let damaged = |error: Error| match error.next_steps().is_empty() {
                true => error.hint("the image is damaged: build and push it again"),
                false => error,
            };
            let result = reading.run().map_err(damaged);
            let unreadable = result.map_err(|error| writer.last_words().unwrap_or(error))?;
            (writer.done()?, readable, unreadable)
        }
    };
    progress.say(&match new {
        true => format!("{} in {:.1} s", size(size_of_file), start.elapsed().as_secs_f64()),
        false => "it is in the store already".to_owned(),
    });
    if unreadable.files > 0 {
        progress.say(&format!(
            "{} cannot be read by ordinary users; shifterimg pull --readable {} makes {} readable",
            some_files(&unreadable),
            again(args),
            if unreadable.files == 1 { "it" } else { "them" }
        ));
    }
    let image = asked.name();
    Ok(Pulled { image, picked, private, size: size_of_file, new, readable, unreadable })
}

/// What was typed, but for how to print: it must mean the same once more.
fn again(args: &cli::Pull) -> String {
    let flags = [(args.private, "--private "), (args.public, "--public ")];
    let mut words: String =
        flags.iter().filter(|(given, _)| *given).map(|(_, flag)| *flag).collect();
    if let Some(platform) = &args.platform {
        words.push_str(&format!("--platform {platform} "));
    }
    words + &args.image
}

fn registry_name(image: &ImageRef) -> Result<&DockerRef> {
    match image {
        ImageRef::Docker(docker) => Ok(docker),
        other => Err(Error::user(format!("{other}: only images of a registry can be pulled"))
            .hint("give a name like ubuntu:24.04 or registry.example.org/group/image:tag")),
    }
}

/// Gives up all rights but the user's; gives the user's logins.
fn confine(identity: &Identity) -> Result<Files> {
    // Root's own logins can only be read as root, and nobody else can have written them.
    let of_root = (identity.uid == 0).then(Files::read);
    identity.become_user()?;
    Ok(of_root.unwrap_or_else(Files::read))
}

/// The layers on their way into the image.
struct Reading<'a> {
    registry: &'a Arc<Registry>,
    picked: &'a Picked,
    writer: &'a mut Writer,
    progress: &'a Progress,
    /// Whether what users cannot read is made readable.
    readable: bool,
}

impl Reading<'_> {
    /// Gives what users cannot read.
    fn run(mut self) -> Result<Unreadable> {
        let mut layers = self.read_all()?;
        let named = |number: usize| self.picked.layers[number].digest.short().to_owned();
        let mut image = Image::of(&layers, named)?;
        let missing = image.missing();
        if !missing.is_empty() {
            self.read_again(&mut layers, &missing)?;
            image = Image::of(&layers, named)?;
        }
        drop(layers);
        let mut unreadable = image.unreadable();
        if self.readable {
            image.make_readable();
            if unreadable.files > 0 {
                self.progress.say(&format!("made readable: {}", some_files(&unreadable)));
            }
            unreadable = image.unreadable();
        }
        image.describe(self.description()?)?;
        self.writer.send(&ToWriter::Tree)?;
        let (_, devices) = image.send(|message| self.writer.send(&message))?;
        if devices > 0 {
            let nodes = if devices == 1 { "node" } else { "nodes" };
            self.progress.say(&format!("left out {devices} device {nodes}: /dev is the host's"));
        }
        let described =
            Described { info: self.picked.info.clone(), unreadable: unreadable.clone() };
        self.writer.send(&ToWriter::Finish(Box::new(described)))?;
        Ok(unreadable)
    }

    /// All layers, from the top down; what upper layers hide is not sent.
    fn read_all(&mut self) -> Result<Vec<Layer>> {
        let count = self.picked.layers.len();
        let mut ahead = std::collections::VecDeque::new();
        let mut next = count;
        let mut layers = Vec::new();
        let mut filter = Filter::default();
        for number in (0..count).rev() {
            while next > 0 && ahead.len() < AHEAD {
                next -= 1;
                let layer = &self.picked.layers[next];
                let bar = self.progress.layer(next + 1, count, layer.digest.short(), layer.size);
                let stream = Stream::open(self.registry, layer, move |bytes| bar.add(bytes))?;
                ahead.push_back(stream.unless(self.writer.watch()?));
            }
            let stream = ahead.pop_front().ok_or_else(|| Error::bug("a layer was not opened"))?;
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
    fn read_again(&mut self, layers: &mut [Layer], missing: &[Origin]) -> Result<()> {
        for (number, layer) in layers.iter_mut().enumerate() {
            let mut wanted: Vec<u32> = missing
                .iter()
                .filter(|o| usize::from(o.layer) == number)
                .map(|o| o.record)
                .collect();
            if wanted.is_empty() {
                continue;
            }
            wanted.sort_unstable();
            let stream = Stream::open(self.registry, &self.picked.layers[number], |_| {})?;
            let stream = stream.unless(self.writer.watch()?);
            let mut record = 0;
            self.read(number, stream, |writer, _, contents| {
                if let Some(contents) = contents
                    && wanted.binary_search(&record).is_ok()
                {
                    layer.set_contents(record, writer.contents(contents)?);
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
        mut stream: Stream,
        mut see: impl FnMut(&mut Writer, Item<'_>, Option<&mut Contents<'_>>) -> Result<()>,
    ) -> Result<()> {
        let layer = self.picked.layers[number].digest.short();
        let writer = &mut *self.writer;
        let read = archive::read(&mut stream, |item, contents| see(writer, item, contents));
        // A broken archive mostly is not the one that the digest names.
        let broken = read.as_ref().is_err_and(|error| error.next_steps().is_empty());
        if broken || read.is_ok() {
            stream.drain()?;
        }
        if read.is_ok() && !stream.is_whole() {
            return Err(Error::bug(format!("layer {layer}: an error was passed over")));
        }
        read.map_err(|error| if broken { error.about(format!("layer {layer}: ")) } else { error })
    }

    /// `/.shifter/image.json`
    fn description(&mut self) -> Result<u32> {
        let mut json = serde_json::to_vec_pretty(&self.picked.info)
            .map_err(|e| Error::bug("cannot describe the image").because(e))?;
        json.push(b'\n');
        self.writer.send(&ToWriter::Begin)?;
        self.writer.bytes(&json)?;
        self.writer.end()
    }
}
