//! What the site lets users ask for.

use std::path::PathBuf;

use crate::{
    Batch, CacheFs, Config, Error, GuestPath, ImageRef, Module, Result, Size, Start, Volume, What,
    Word,
};

/// What to do about an image that may not be had.
const THOSE_THERE_ARE: &str = "shifterimg images lists those that you can use";
/// What to do about a source that the site does not allow.
pub(crate) const ELSEWHERE: &str = "copy what you need to a place that the site allows";

pub(super) fn check_image(image: ImageRef, site: &Config) -> Result<ImageRef> {
    let refuse = |why: &str| Err(Error::user(format!("--image={image}: {why}")));
    if !site.images.types.contains(&image.kind()) {
        return refuse("this site does not allow images of this kind")
            .map_err(|e| e.hint(THOSE_THERE_ARE));
    }
    let ImageRef::Local(path) = &image else { return Ok(image) };
    match site.images.local.as_slice() {
        [] => refuse("this site has no local: images").map_err(|e| e.hint(THOSE_THERE_ARE)),
        places if places.iter().any(|place| path.is_within(place)) => Ok(image),
        places => {
            let places: Vec<&str> = places.iter().map(GuestPath::as_str).collect();
            refuse("it is not below a directory that this site lists")
                .map_err(|e| e.hint(format!("local: images are below {}", places.join(", "))))
        }
    }
}

pub(super) fn writable(text: &str, site: &Config) -> Result<Option<Size>> {
    if text.is_empty() {
        return Ok(None);
    }
    let refuse = |why: String| Error::user(format!("--image-writable={text}: {why}"));
    let size: Size = text
        .parse()
        .map_err(|why| refuse(why).hint("say how much may be written, for example 1G"))?;
    check_tmpfs(size, site).map_err(|why| refuse(why).hint("ask for less"))?;
    Ok(Some(size))
}

fn check_tmpfs(size: Size, site: &Config) -> std::result::Result<(), String> {
    if size > site.limits.tmpfs {
        return Err(format!("this site allows {} at most", site.limits.tmpfs));
    }
    Ok(())
}

pub(super) fn batch(text: &str, site: &Config) -> Result<bool> {
    let is_asked = flag(Word::Batch, text)?;
    if is_asked && site.inside.batch == Batch::Never {
        return Err(Error::user("--image-batch: this site runs batch scripts on the host")
            .hint("leave it out, and start programs in the image by srun"));
    }
    Ok(is_asked)
}

pub(super) fn flag(word: Word, text: &str) -> Result<bool> {
    match text {
        "" | "0" => Ok(false),
        "1" => Ok(true),
        other => Err(Error::user(format!("{}={other}: not 0 or 1", word.variable()))
            .hint(format!("unset it, or use --{}", word.option()))),
    }
}

pub(super) fn start(text: &str) -> Result<Option<Start>> {
    match text {
        "" => Ok(None),
        "job" => Ok(Some(Start::Job)),
        "image" => Ok(Some(Start::Image)),
        path => GuestPath::parse(path).map(|path| Some(Start::At(path))).map_err(|error| {
            Error::user(format!("--image-workdir={}", error.what())).hint(
                "name a directory inside, for example /data; image: the image's; job: the job's",
            )
        }),
    }
}

pub(super) fn check_volume(volume: &Volume, site: &Config, protected: &[GuestPath]) -> Result<()> {
    let refuse = |why: &str| Error::user(format!("--volume={volume}: {why}"));
    if !site.volumes.allowed {
        return Err(refuse("this site does not allow volumes").hint("leave --volume out"));
    }
    let at_target = || {
        check_target(&volume.to, site, protected)
            .map_err(|why| refuse(&why).hint("mount it somewhere else, for example under /mnt"))
    };
    match &volume.what {
        // With variables it is judged on the node.
        What::Host(path) => path
            .fixed()
            .map_or(Ok(()), |path| check_source(path, site))
            .map_err(|why| (why, ELSEWHERE)),
        What::Tmpfs(size) => check_tmpfs(*size, site).map_err(|why| (why, "ask for less")),
        What::Cache { near, size, fs } => {
            check_cache(near.as_deref(), *size, fs.unwrap_or(site.cache.fs), site)
        }
        What::Image(image) => match site.images.types.contains(&image.kind()) {
            true => Ok(()),
            false => Err(("this site does not allow images of this kind".into(), THOSE_THERE_ARE)),
        },
    }
    .map_err(|(why, hint)| refuse(&why).hint(hint))?;
    at_target()
}

/// What the site, or the file system `fs`, has against a cache, and what to ask for instead.
fn check_cache(
    near: Option<&str>,
    size: Size,
    fs: CacheFs,
    site: &Config,
) -> std::result::Result<(), (String, &'static str)> {
    let elsewhere = match site.cache.directories.is_empty() {
        true => "use a directory of yours, or for something small tmpfs=size=SIZE",
        false => "write none as FROM for the first of them",
    };
    cache_directory(near, site).map_err(|why| (why, elsewhere))?;
    if size > site.cache.max {
        let what = format!("this site allows caches of {} at most", site.cache.max);
        return Err((what, "ask for a smaller one"));
    }
    let least = fs.least();
    if size >= least {
        return Ok(());
    }
    let hint = match fs {
        CacheFs::Xfs => "ask for more, or add fs=ext4, which makes smaller ones",
        CacheFs::Ext4 => "ask for more",
    };
    Err((format!("a cache with the file system {} has {least} at least", fs.name()), hint))
}

/// Whether the site lets users mount at `target`.
fn check_target(
    target: &GuestPath,
    site: &Config,
    protected: &[GuestPath],
) -> std::result::Result<(), String> {
    if let Some(place) = protecting(target, protected) {
        return Err(format!("{place} is protected"));
    }
    if !site.volumes.to.iter().any(|place| target.is_within(place)) {
        return Err(format!("this site does not allow volumes at {target}"));
    }
    Ok(())
}

/// The site's directory for the file of a cache: on the storage that `near` is on, by name, or
/// the first.
pub(crate) fn cache_directory(
    near: Option<&str>,
    site: &Config,
) -> std::result::Result<PathBuf, String> {
    let directories = &site.cache.directories;
    let Some(first) = directories.first() else {
        return Err("this site has no per-node caches".into());
    };
    let Some(near) = near else { return Ok(first.clone()) };
    let near = std::path::Path::new(near);
    let storage = |directory: &&PathBuf| directory.parent().is_some_and(|p| near.starts_with(p));
    let best = directories.iter().filter(storage).max_by_key(|d| d.components().count());
    best.cloned().ok_or_else(|| {
        let storages: Vec<String> =
            directories.iter().filter_map(|d| Some(d.parent()?.display().to_string())).collect();
        format!("caches of this site are on {}", storages.join(", "))
    })
}

/// Whether the site lets users mount what is at `path` (resolved or as typed) on the host.
pub(crate) fn check_source(path: &str, site: &Config) -> std::result::Result<(), String> {
    // `..` cannot be judged before it is resolved; the node judges the resolved path.
    let Ok(path) = GuestPath::parse(path) else {
        return Ok(());
    };
    let within = |list: &[GuestPath]| list.iter().any(|place| path.is_within(place));
    if !within(&site.volumes.from) || within(&site.volumes.not_from) {
        return Err(format!("this site does not allow volumes from {path}"));
    }
    Ok(())
}

/// Where no volume may be, nor below, nor above.
pub(crate) fn protected(site: &Config, modules: &[(String, &Module)]) -> Vec<GuestPath> {
    let builtin = ["/proc", "/sys", "/dev", "/etc", "/var", "/run", "/.shifter"];
    let mut places: Vec<_> =
        builtin.iter().filter_map(|place| GuestPath::parse(place).ok()).collect();
    places.extend(GuestPath::parse(&site.node.spool.to_string_lossy()));
    let copies = modules.iter().flat_map(|(_, module)| &module.copy);
    places.extend(copies.filter_map(|copy| copy.target().ok()));
    let of_modules = modules.iter().flat_map(|(_, module)| &module.mount);
    places.extend(site.mount.iter().chain(of_modules).filter_map(|mount| mount.target().ok()));
    let devices = modules.iter().filter_map(|(_, module)| module.devices.as_ref());
    places.extend(devices.flat_map(|devices| &devices.mounts).map(|mount| mount.to.clone()));
    places.extend(site.volumes.protected.iter().cloned());
    places
}

/// Which of `places` a user's mount at `target` would cover or lie in; `/` protects only
/// itself, and `/var` not `/var/tmp`.
pub(crate) fn protecting<'a>(target: &GuestPath, places: &'a [GuestPath]) -> Option<&'a str> {
    if target.as_str() == "/" {
        return Some("/");
    }
    let scratch = target.components().take(2).eq(["var", "tmp"]);
    // A mount above a place would hide it.
    let hit = |place: &&GuestPath| target.is_within(place) || place.is_within(target);
    let counts = |place: &&GuestPath| !scratch || place.components().count() > 1;
    places.iter().filter(counts).find(hit).map(GuestPath::as_str)
}
