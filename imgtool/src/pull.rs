//! Pulling: the reader's side.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use udi::{Config, DockerRef, Error, ImageRef, Modes, Result};
use udi_store::Store;

use crate::cli;
use crate::delivery::{Delivered, Layers, deliver};
use crate::identity::Identity;
use crate::progress::{Progress, size};
use crate::registry::{Endpoint, Files, Registry};
use crate::sandbox;
use crate::source::manifest::pick;
use crate::source::{Kept, Source};
use crate::wire::Job;

/// Pulls as the user, who hands to `channel` what came.
pub(crate) fn run(
    config: &Config,
    identity: &Identity,
    args: &cli::Pull,
    channel: UnixStream,
) -> Result<Delivered> {
    let asked = cli::image(&args.image, config)?;
    let docker = registry_name(&asked)?;
    let files = confine(identity)?;
    let progress = Progress::new(args.quiet);

    let endpoint = Endpoint::of(config, docker);
    let credentials = files.find(&endpoint.host, &endpoint.repository);
    let registry = Arc::new(Registry::new(endpoint, credentials)?);
    let layers = match config.images.layer_cache {
        Some(_) => Store::open(&config.store)?.layers(),
        None => None,
    };
    sandbox::reader(layers.as_ref().map(AsFd::as_fd))?;
    let platform = args.platform.as_deref().unwrap_or(&config.images.platform);
    let reference = match (docker.digest(), docker.tag()) {
        (Some(digest), _) => digest.as_str(),
        (None, tag) => tag.unwrap_or(&config.images.default_tag),
    };
    let picked = pick(&*registry, reference, platform)?;
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

    let readable = args.readable || config.images.modes == Modes::Readable;
    let job = Job {
        image: asked.to_string(),
        platform: platform.to_owned(),
        digest: Some(picked.digest.clone()),
        private,
        from: registry.endpoint().name(),
        readable,
    };
    let again = format!("shifterimg pull --readable {}", again(args));
    let source: Arc<dyn Source> = registry;
    let keeps = config.images.layer_cache.is_some() && !private;
    let delivered = deliver(channel, job, &again, &progress, |writer| {
        let source: Arc<dyn Source> = match keeps {
            true => Arc::new(Kept { source, layers, keep: writer.keeping() }),
            false => source,
        };
        let (source, picked, progress) = (&source, &picked, &progress);
        Layers { source, picked, writer, progress, readable }.send()
    })?;
    // The digest that was typed is told after the name, not in it.
    Ok(Delivered { image: asked.name(), platform: picked.info.platform, ..delivered })
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
