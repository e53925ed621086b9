//! What a job or step asks for.

use crate::{Config, Error, GuestPath, ImageRef, Module, Result, Volume, select_modules};

/// The job environment's variable for the image; `none` means the host.
///
/// The prefix keeps it through `--export=NONE`. The three variables are the whole request:
/// what a user writes there by hand counts as if it had been typed as an option.
pub const VAR_IMAGE: &str = "SLURM_SHIFTER_IMAGE";
/// The job environment's variable for volumes, as `--volume` takes them.
pub const VAR_VOLUME: &str = "SLURM_SHIFTER_VOLUME";
/// The job environment's variable for modules, separated by commas.
pub const VAR_MODULE: &str = "SLURM_SHIFTER_MODULE";

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
}

impl Request {
    /// Parses image, volumes (`;` between) and modules (`,` between) as options and
    /// environment carry them. Empty texts count as absent.
    pub fn parse(image: &str, volumes: &str, modules: &str, site: &Config) -> Result<Ask> {
        if image.is_empty() {
            let without = |option: &str| {
                Err(Error::user(format!("{option} needs an image")).hint("add --image=NAME:TAG"))
            };
            return match (volumes, modules) {
                ("", "") => Ok(Ask::Nothing),
                (_, "") => without("--volume"),
                _ => without("--module"),
            };
        }
        if image == "none" {
            return Ok(Ask::Host);
        }
        let image = ImageRef::parse(image, &site.names())?;
        let volumes = match volumes {
            "" => Vec::new(),
            list => Volume::in_order(Volume::parse_list(list)?)?,
        };
        let asked: Vec<String> = modules
            .split(',')
            .map(str::trim)
            .filter(|m| !m.is_empty())
            .map(str::to_owned)
            .collect();
        let request = Self { image, volumes, modules: asked };
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

    /// The same request with its image pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: &crate::Digest) -> Self {
        Self { image: self.image.pinned(digest), ..self.clone() }
    }

    /// The request as the job environment carries it: every variable, empty ones too, so
    /// that a step's request replaces all of its job's. Parsing it gives the same request.
    pub fn to_env(&self) -> [(&'static str, String); 3] {
        let volumes: Vec<String> = self.volumes.iter().map(Volume::to_string).collect();
        [
            (VAR_IMAGE, self.image.to_string()),
            (VAR_VOLUME, volumes.join(";")),
            (VAR_MODULE, self.modules.join(",")),
        ]
    }

    /// One line that is the same for the same request, however it was typed.
    pub fn identity(&self) -> String {
        self.to_env().map(|(name, value)| format!("{name}={value:?}")).join(" ")
    }
}

fn check_volume(volume: &Volume, site: &Config, protected: &[GuestPath]) -> Result<()> {
    let refuse = |why: &str| Error::user(format!("--volume={volume}: {why}"));
    if !site.volumes.allowed {
        return Err(refuse("this site does not allow volumes"));
    }
    check_source(&volume.from, site).map_err(|why| refuse(&why))?;
    match protecting(&volume.to, protected) {
        Some(place) => Err(refuse(&format!("{place} is protected"))
            .hint("mount it somewhere else, for example under /mnt")),
        None => Ok(()),
    }
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
        match Request::parse(image, volumes, modules, &site())? {
            Ask::Image(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_option_is_no_request() {
        assert_eq!(Request::parse("", "", "", &site()).unwrap(), Ask::Nothing);
        assert_eq!(Request::parse("none", "", "", &site()).unwrap(), Ask::Host);
        let error = Request::parse("", "/a:/b", "", &site()).unwrap_err().to_string();
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
        let at = |to: &str, modules| Request::parse("x", &format!("/a:{to}"), modules, &site);
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
            let volumes: Vec<String> = targets
                .iter()
                .map(|to| Volume { to: GuestPath::parse(to).unwrap(), from: to.clone(), read_only: false })
                .map(|volume| volume.to_string())
                .collect();
            let first = request(&image, &volumes.join(";"), module).unwrap();
            let [(_, i), (_, v), (_, m)] = first.to_env();
            prop_assert_eq!(request(&i, &v, &m).unwrap(), first);
        }
    }
}
