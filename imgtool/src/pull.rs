//! Pulling: the reader's side.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use udi::{Config, DockerRef, Error, ImageRef, Result};
use udi_store::{Layers, Store};

use crate::cli;
use crate::delivery::{self, Delivered, deliver};
use crate::identity::Identity;
use crate::layer::extras::Extras;
use crate::progress::{Progress, size};
use crate::registry::{Endpoint, Found, Logins, Registry};
use crate::sandbox;
use crate::source::manifest::{Picked, pick};
use crate::source::{Kept, Source};
use crate::wire::Job;

/// Pulls as the user, who hands to `channels` what came: one image for each platform.
pub(crate) fn run(
    config: &Config,
    identity: &Identity,
    args: &cli::Pull,
    channels: Vec<UnixStream>,
) -> Result<Vec<Delivered>> {
    let asked = cli::image(&args.image, config)?;
    let docker = registry_name(&asked)?;
    let endpoints = [Some(Endpoint::of(config, docker)), Endpoint::behind(config, docker)];
    let endpoints = endpoints.into_iter().flatten();
    let endpoints: Vec<Endpoint> =
        endpoints.map(|e| e.through_proxy(config, &identity.environment)).collect::<Result<_>>()?;
    let found = confine(identity, &endpoints)?;
    let progress = Progress::new(args.options.quiet);
    let registries = endpoints.into_iter().zip(found);
    let registries = registries
        .map(|(endpoint, found)| Registry::new(endpoint, found, progress.clone()))
        .collect::<Result<_>>()?;
    let layers = match config.images.layer_cache {
        Some(_) => Store::open(&config.store)?.layers().map(Arc::new),
        None => None,
    };
    sandbox::reader(layers.as_deref().map(AsFd::as_fd))?;
    let reference = match (docker.digest(), docker.tag()) {
        (Some(digest), _) => digest.as_str(),
        (None, tag) => tag.unwrap_or(&config.images.default_tag),
    };
    let (registry, all) = find(registries, reference, &args.options.platforms(config), &progress)?;
    let registry = Arc::new(registry);
    let pull = Pull { config, args, asked: &asked, registry, layers, progress: &progress };
    let each = all.iter().zip(channels);
    each.map(|((platform, picked), channel)| pull.one(platform, picked, channel)).collect()
}

/// What the first of `registries` gives that gives it all: nothing is fetched for one platform if
/// there is nothing for another.
fn find<'a>(
    registries: Vec<Registry>,
    reference: &str,
    platforms: &[&'a str],
    progress: &Progress,
) -> Result<(Registry, Vec<(&'a str, Picked)>)> {
    let mut failed = None;
    for registry in registries {
        if let Some(error) = &failed {
            let origin = &registry.endpoint().host;
            progress.say(&format!("{}; asking {origin} itself", Error::what(error)));
        }
        let all = platforms.iter().map(|p| Ok((*p, pick(&registry, reference, p)?)));
        match all.collect::<Result<_>>() {
            Ok(all) => return Ok((registry, all)),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| Error::bug("there is no registry to ask")))
}

/// A pull under way.
struct Pull<'a> {
    config: &'a Config,
    args: &'a cli::Pull,
    asked: &'a ImageRef,
    registry: Arc<Registry>,
    /// What was kept for images like this.
    layers: Option<Arc<Layers>>,
    progress: &'a Progress,
}

impl Pull<'_> {
    fn one(&self, platform: &str, picked: &Picked, channel: UnixStream) -> Result<Delivered> {
        let Self { config, args, asked, registry, progress, .. } = self;
        let bytes: u64 = picked.layers.iter().map(|l| l.size).sum();
        let private = args.private || (registry.is_personal() && !args.options.public);
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
        let readable = args.options.is_readable(config);
        let job = Job {
            image: asked.to_string(),
            platform: platform.to_owned(),
            digest: Some(picked.digest.clone()),
            private,
            from: registry.endpoint().name(),
            readable,
        };
        let again = format!("shifterimg pull --readable {}", again(args, platform));
        let source: Arc<dyn Source> = Arc::clone(registry) as _;
        let keeps = config.images.layer_cache.is_some() && !private;
        let delivered = deliver(channel, job, &again, progress, |writer| {
            let source: Arc<dyn Source> = match keeps {
                true => {
                    Arc::new(Kept { source, layers: self.layers.clone(), keep: writer.keeping() })
                }
                false => source,
            };
            let extras = Extras::of(&config.images);
            delivery::Layers { source: &source, picked, writer, progress, readable, extras }.send()
        })?;
        // The digest that was typed is told after the name, not in it.
        Ok(Delivered { image: asked.name(), platform: picked.info.platform.clone(), ..delivered })
    }
}

/// What was typed, but for how to print: it must mean the same once more.
fn again(args: &cli::Pull, platform: &str) -> String {
    let private = if args.private { "--private " } else { "" };
    format!("{private}{}{}", args.options.again(platform), args.image)
}

fn registry_name(image: &ImageRef) -> Result<&DockerRef> {
    match image {
        ImageRef::Docker(docker) => Ok(docker),
        other => Err(Error::user(format!("{other}: only images of a registry can be pulled"))
            .hint("give a name like ubuntu:24.04 or registry.example.org/group/image:tag")),
    }
}

/// Gives up all rights but the user's; gives the user's login to each.
fn confine(identity: &Identity, endpoints: &[Endpoint]) -> Result<Vec<Found>> {
    let logins = Logins::of(&identity.environment);
    let find = || -> Vec<Found> {
        endpoints.iter().map(|e| logins.find(&e.host, &e.repository)).collect()
    };
    // Root's own logins can only be read as root, and nobody else can have written them.
    let of_root = (identity.uid == 0).then(find);
    identity.become_user()?;
    Ok(of_root.unwrap_or_else(find))
}
