//! What a job or step asks for.

use std::path::PathBuf;

use crate::{
    Batch, CacheFs, Config, Digest, Error, GuestPath, ImageRef, Module, Result, Size, Texts,
    Volume, What, Word, select_modules,
};

/// What the options, or the job's environment, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing: the job is none of our business.
    Nothing,
    /// `--image=none`: run on the host, whatever the job's image is.
    Host,
    /// An image.
    Image(Request),
}

/// An image with volumes and modules, checked against the site's policy.
///
/// [`Request::parse`] is the only way to make one. It is made again from text wherever the
/// text may have been changed: in slurmctld and on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    image: ImageRef,
    volumes: Vec<Volume>,
    modules: Vec<String>,
    writable: Option<Size>,
    batch: bool,
}

impl Request {
    /// Parses the words as options and environment carry them. Empty ones count as absent.
    pub fn parse(texts: &Texts, site: &Config) -> Result<Ask> {
        let image = match texts.text(Word::Image) {
            "" => {
                return match texts.given().find(|(_, text)| !text.is_empty()) {
                    None => Ok(Ask::Nothing),
                    Some((word, _)) => {
                        Err(Error::user(format!("--{} needs an image", word.option()))
                            .hint("add --image=NAME:TAG"))
                    }
                };
            }
            "none" => return Ok(Ask::Host),
            name => check_image(ImageRef::parse(name, &site.names())?, site)?,
        };
        let volumes = match texts.text(Word::Volume) {
            "" => Vec::new(),
            list => Volume::in_order(Volume::parse_list(list, site)?)?,
        };
        let asked = texts.text(Word::Module).split(',').map(str::trim);
        let modules = asked.filter(|m| !m.is_empty()).map(str::to_owned).collect();
        let writable = writable(texts.text(Word::Writable), site)?;
        let batch = batch(texts.text(Word::Batch), site)?;
        let request = Self { image, volumes, modules, writable, batch };
        if request.volumes.len() > site.limits.volumes {
            let (asked, most) = (request.volumes.len(), site.limits.volumes);
            return Err(Error::user(format!(
                "--volume: {asked} volumes, and this site allows {most}"
            ))
            .hint("mount a directory above several of them"));
        }
        let protected = protected(site, &request.modules(site)?);
        for volume in &request.volumes {
            check_volume(volume, site, &protected)?;
        }
        Ok(Ask::Image(request))
    }

    /// The image.
    pub fn image(&self) -> &ImageRef {
        &self.image
    }

    /// The volumes, in the order in which they are mounted.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// The site's modules for this request, in order, with what they require.
    pub fn modules<'a>(&self, site: &'a Config) -> Result<Vec<(String, &'a Module)>> {
        let names = select_modules(&self.modules, &site.modules)?;
        Ok(names.into_iter().filter_map(|n| site.modules.get(&n).map(|m| (n, m))).collect())
    }

    /// How much may be written into the image, if anything.
    pub fn writable(&self) -> Option<Size> {
        self.writable
    }

    /// Whether the batch script runs inside.
    pub fn batch_enters(&self, site: &Config) -> bool {
        match site.inside.batch {
            Batch::Never => false,
            Batch::Ask => self.batch,
            Batch::Always => true,
        }
    }

    /// Variables of the job's environment that its volumes name, each once.
    pub fn variables(&self) -> Vec<&str> {
        let hosts = self.volumes.iter().filter_map(|volume| match &volume.what {
            What::Host(path) => Some(path.variables()),
            _ => None,
        });
        let mut names: Vec<&str> = hosts.flatten().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The data images among the volumes, each with its volume.
    pub fn data_images(&self) -> impl Iterator<Item = (&Volume, &ImageRef)> {
        self.volumes.iter().filter_map(|volume| match &volume.what {
            What::Image(image) => Some((volume, image)),
            _ => None,
        })
    }

    /// The same request with its image pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> Self {
        Self { image: self.image.pinned(digest), ..self.clone() }
    }

    /// The same request with its data images pinned to what `find` says they mean.
    pub fn data_pinned(
        &self,
        mut find: impl FnMut(&Volume, &ImageRef) -> Result<Digest>,
    ) -> Result<Self> {
        let mut request = self.clone();
        for volume in &mut request.volumes {
            if let What::Image(image) = &volume.what {
                volume.what = What::Image(image.pinned(&find(volume, image)?));
            }
        }
        Ok(request)
    }

    /// The request as the job environment carries it: every word, empty ones too, so that a
    /// step's request replaces all of its job's. Parsing it gives the same request.
    pub fn to_texts(&self) -> Texts {
        let volumes: Vec<String> = self.volumes.iter().map(Volume::to_string).collect();
        let mut texts = Texts::default();
        for (word, text) in [
            (Word::Image, self.image.to_string()),
            (Word::Volume, volumes.join(";")),
            (Word::Module, self.modules.join(",")),
            (Word::Writable, self.writable.map(|size| size.to_string()).unwrap_or_default()),
            (Word::Batch, if self.batch { "1".into() } else { String::new() }),
        ] {
            texts.set(word, Some(text));
        }
        texts
    }

    /// One line that is the same for the same inside, however it was typed. Where the batch
    /// script runs is no part of it.
    pub fn identity(&self) -> String {
        let texts = self.to_texts();
        let parts = texts.given().filter(|(word, _)| *word != Word::Batch);
        parts
            .map(|(word, text)| format!("{}={text:?}", word.variable()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What to do about an image that may not be had.
const THOSE_THERE_ARE: &str = "shifterimg images lists those that you can use";
/// What to do about a source that the site does not allow.
pub(crate) const ELSEWHERE: &str = "copy what you need to a place that the site allows";

fn check_image(image: ImageRef, site: &Config) -> Result<ImageRef> {
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

fn writable(text: &str, site: &Config) -> Result<Option<Size>> {
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

fn batch(text: &str, site: &Config) -> Result<bool> {
    match text {
        "" | "0" => Ok(false),
        "1" if site.inside.batch == Batch::Never => {
            Err(Error::user("--image-batch: this site runs batch scripts on the host")
                .hint("leave it out, and start programs in the image by srun"))
        }
        "1" => Ok(true),
        other => Err(Error::user(format!("{}={other}: not 0 or 1", Word::Batch.variable()))
            .hint("unset it, or use --image-batch")),
    }
}

fn check_volume(volume: &Volume, site: &Config, protected: &[GuestPath]) -> Result<()> {
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
    let of_modules = modules.iter().flat_map(|(_, module)| &module.mount);
    places.extend(site.mount.iter().chain(of_modules).filter_map(|mount| mount.target().ok()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn site() -> Config {
        let text = "
            [store]
            path = \"/shared/shifter\"
            [[mount]]
            from = \"/home\"
            [volumes]
            not_from = [\"/root\"]
            protected = [\"/opt/site\"]
            [modules.mpich]
            [modules.gpu]
            default = true
        ";
        Config::parse(text, Path::new("shifter.toml")).unwrap()
    }

    fn request(image: &str, volumes: &str, modules: &str) -> Result<Request> {
        match Request::parse(&Texts::of(image, volumes, modules), &site())? {
            Ask::Image(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_option_is_no_request() {
        let parse = |image, volumes| Request::parse(&Texts::of(image, volumes, ""), &site());
        assert_eq!(parse("", "").unwrap(), Ask::Nothing);
        assert_eq!(parse("none", "").unwrap(), Ask::Host);
        let error = parse("", "/a:/b").unwrap_err().to_string();
        assert!(error.contains("--volume needs an image"), "{error}");
    }

    #[test]
    fn a_request_means_the_same_in_any_order() {
        let a = request("ubuntu", "/x:/a;/y:/b", "mpich").unwrap();
        let b = request("docker:ubuntu:latest", "/y:/b;/x://a", "mpich").unwrap();
        assert_eq!(a.identity(), b.identity());
        assert_ne!(a.identity(), request("ubuntu", "/x:/a", "mpich").unwrap().identity());
    }

    #[test]
    fn protected_targets_are_refused_by_component() {
        for to in [
            "/",
            "/etc",
            "//etc",
            "/./etc/x",
            "/proc/1",
            "/dev/shm",
            "/var/lib",
            "/home/x",
            "/opt/site",
            "/opt",
        ] {
            let error = request("x", &format!("/a:{to}"), "").unwrap_err().to_string();
            assert!(error.contains("is protected\nhint: mount it somewhere else"), "{to}: {error}");
        }
        for to in [
            "/etcetera",
            "/tmp/x",
            "/var/tmp",
            "/var/tmp/x",
            "/mnt",
            "/opt/sites",
            "/opt/x",
            "/home2",
        ] {
            request("x", &format!("/a:{to}"), "").unwrap();
        }
    }

    #[test]
    fn the_mounts_of_a_module_that_comes_along_are_protected() {
        let text = "
            [store]
            path = \"/shared/shifter\"
            [node]
            spool = \"/local/slurmd\"
            [[modules.gpu.mount]]
            from = \"/usr/lib/driver\"
            to = \"/opt/driver/lib\"
            [modules.cuda]
            requires = [\"gpu\"]
        ";
        let site = Config::parse(text, Path::new("shifter.toml")).unwrap();
        let at = |to: &str, modules| {
            Request::parse(&Texts::of("x", &format!("/a:{to}"), modules), &site)
        };
        for to in ["/opt", "/opt/driver/lib", "/opt/driver/lib/x"] {
            let error = at(to, "cuda").unwrap_err().to_string();
            assert!(error.contains("/opt/driver/lib is protected"), "{error}");
            at(to, "").unwrap();
        }
        at("/opt/mine", "cuda").unwrap();
        // Slurm's own sockets, wherever they are.
        assert!(at("/local/slurmd", "").is_err());
    }

    #[test]
    fn caches_are_where_and_as_large_as_the_site_says() {
        let ask = |cache: &str, volume: &str| {
            let text = format!("[store]\npath = \"/shared/shifter\"\n[cache]\n{cache}");
            let site = Config::parse(&text, Path::new("shifter.toml"))?;
            Request::parse(&Texts::of("x", volume, ""), &site)
        };
        let here = "directories = [\"/local/.caches\"]\nmax = \"1G\"\n";
        let small = format!("{here}fs = \"ext4\"\n");
        for (site, volume, said) in [
            (here, "none:/c:perNodeCache=size=300M", ""),
            (here, "/local/me:/c:perNodeCache=size=1M,fs=ext4", ""),
            (&small, "none:/c:perNodeCache=size=1M", ""),
            ("", "none:/c:perNodeCache=size=300M", "this site has no per-node caches"),
            (here, "none:/c:perNodeCache=size=2G", "this site allows caches of 1G at most"),
            (here, "none:/c:perNodeCache=size=299M", "xfs has 300M at least"),
            (&small, "none:/c:perNodeCache=size=1023K", "ext4 has 1M at least"),
            (here, "/scratch/me:/c:perNodeCache=size=1G", "caches of this site are on /local"),
        ] {
            match ask(site, volume) {
                Ok(_) => assert!(said.is_empty(), "{volume}"),
                Err(error) => assert!(error.what().contains(said) && !said.is_empty(), "{error}"),
            }
        }
    }

    #[test]
    fn sources_outside_the_sites_list_are_refused() {
        assert!(request("x", "/root/x:/mnt", "").is_err());
        request("x", "/rooted:/mnt", "").unwrap();
    }

    #[test]
    fn defaults_of_the_site_come_along_unless_modules_are_named() {
        let names = |modules| -> Vec<String> {
            let site = site();
            let request = request("x", "", modules).unwrap();
            request.modules(&site).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(""), ["gpu"]);
        assert_eq!(names("none"), [""; 0]);
        assert_eq!(names("mpich"), ["mpich"]);
    }

    proptest! {
        #[test]
        fn the_environment_carries_the_request_exactly(
            image in "x[a-z]{0,4}(:[a-z0-9]{1,4})?",
            targets in proptest::collection::btree_set("/(mnt|x|y z|é:)/[a-z;]{1,3}", 0..4),
            module in prop::sample::select(vec!["", "mpich", "gpu,mpich", "none"]),
        ) {
            let escape = |path: &str| path.replace(';', "\\;").replace(':', "\\:");
            let volumes: Vec<String> =
                targets.iter().map(|to| format!("{0}:{0}", escape(to))).collect();
            let first = request(&image, &volumes.join(";"), module).unwrap();
            let again = Request::parse(&first.to_texts(), &site()).unwrap();
            prop_assert_eq!(again, Ask::Image(first));
        }
    }
}
