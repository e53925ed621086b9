//! What is imported, and under which name, as users type it.

use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use udi::{Config, Error, ImageRef, Result};

use super::{Opened, daemon};
use crate::cli;
use crate::identity::{Environment, Identity};

/// `shifterimg import SOURCE NAME`, understood.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(super) source: Typed,
    pub(super) image: ImageRef,
    pub(super) is_private: bool,
}

/// `KIND:PATH[:REFERENCE]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) kind: Kind,
    /// All of it, for messages.
    pub(super) typed: String,
    path: String,
    /// Which image, where there may be several.
    pub(super) reference: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    DockerArchive,
    DockerDaemon,
    OciArchive,
    Oci,
    Dir,
    Tar,
    Squashfs,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::DockerArchive,
        Self::DockerDaemon,
        Self::OciArchive,
        Self::Oci,
        Self::Dir,
        Self::Tar,
        Self::Squashfs,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DockerArchive => "docker-archive",
            Self::DockerDaemon => "docker-daemon",
            Self::OciArchive => "oci-archive",
            Self::Oci => "oci",
            Self::Dir => "dir",
            Self::Tar => "tar",
            Self::Squashfs => "squashfs",
        }
    }

    /// What it is good for.
    pub(super) fn takes(self) -> &'static str {
        match self {
            Self::DockerArchive => "docker-archive: takes what docker save writes",
            Self::DockerDaemon => {
                "docker-daemon: takes the name of an image that docker or podman has"
            }
            Self::OciArchive => "oci-archive: takes an OCI layout in an archive",
            Self::Oci => "oci: takes an OCI layout",
            Self::Dir => "dir: takes the root of a file system",
            Self::Tar => {
                "tar: takes an archive of the root of a file system, also compressed with gzip or zstd"
            }
            Self::Squashfs => {
                "squashfs: takes a squashfs file, or an image of Apptainer (SIF), compressed with gzip, zstd or lz4"
            }
        }
    }

    pub(super) fn is_directory(self) -> bool {
        matches!(self, Self::Oci | Self::Dir)
    }

    /// Whether a name of an image may follow the path.
    fn has_reference(self) -> bool {
        matches!(self, Self::DockerArchive | Self::OciArchive | Self::Oci)
    }
}

impl Request {
    /// Understands what was typed; nothing is opened.
    pub(crate) fn parse(args: &cli::Import, config: &Config, identity: &Identity) -> Result<Self> {
        let source = Typed::parse(&args.source)?;
        Self::of(source, &args.name, args.options.public, config, identity)
    }

    /// What another site sends.
    pub(crate) fn received(
        args: &cli::Receive,
        config: &Config,
        identity: &Identity,
    ) -> Result<Self> {
        let path = "what was sent".to_owned();
        let source =
            Typed { kind: Kind::Squashfs, typed: "a copy".to_owned(), path, reference: None };
        Self::of(source, &args.name, args.public, config, identity)
    }

    fn of(
        source: Typed,
        typed: &str,
        is_public: bool,
        config: &Config,
        identity: &Identity,
    ) -> Result<Self> {
        let image = name(typed, config, &identity.login)?;
        if !config.images.types.contains(&image.kind()) {
            return Err(Error::user(format!(
                "{image}: this site does not allow images of this kind"
            ))
            .hint("push it to a registry, and pull it from there"));
        }
        let is_everybodys = matches!(image, ImageRef::Docker(_));
        if is_everybodys {
            let owner = udi_store::Store::open(&config.store)?.owner();
            if !identity.is_admin(owner) {
                return Err(Error::user(format!(
                    "{typed}: only administrators of the store may say what a registry's name means"
                ))
                .hint(format!(
                    "leave docker: out; then it is user:{}/NAME:TAG, and yours",
                    identity.login
                )));
            }
        }
        Ok(Self { source, image, is_private: !is_public && !is_everybodys })
    }
}

/// The name to be written: below the caller's own, unless an administrator says `docker:`.
fn name(typed: &str, config: &Config, login: &str) -> Result<ImageRef> {
    let image = if ["docker:", "user:", "id:", "local:"].iter().any(|kind| typed.starts_with(kind))
    {
        cli::image(typed, config)?
    } else {
        cli::image(&format!("user:{login}/{typed}"), config)?
    };
    let own = match &image {
        ImageRef::User(user) => user.login() == login,
        ImageRef::Docker(_) => true,
        ImageRef::Id(_) | ImageRef::Local(_) => false,
    };
    if !own {
        return Err(Error::user(format!("{typed}: you cannot name an image so"))
            .hint(format!("give a name of your own, NAME:TAG; it will be user:{login}/NAME:TAG")));
    }
    if image.digest().is_some() {
        return Err(Error::user(format!("{typed}: an import finds the digest itself"))
            .hint("leave out @sha256:…"));
    }
    Ok(image)
}

impl Typed {
    pub(super) fn parse(typed: &str) -> Result<Self> {
        let kinds = || Kind::ALL.map(|kind| format!("{}:", kind.name())).join(", ");
        let found = Kind::ALL
            .into_iter()
            .find_map(|kind| Some((kind, typed.strip_prefix(kind.name())?.strip_prefix(':')?)));
        let Some((kind, rest)) = found else {
            let error = Error::user(format!("{typed}: what kind of source is it?"));
            return Err(if typed.starts_with("docker:") {
                error.hint(format!("images of a registry are pulled: shifterimg pull {typed}"))
            } else {
                error.hint(format!("put one of these before the path: {}", kinds()))
            });
        };
        let (path, reference) = match rest.split_once(':') {
            Some((path, reference)) if kind.has_reference() => (path, Some(reference.to_owned())),
            _ => (rest, None),
        };
        if kind == Kind::DockerDaemon {
            daemon::name(path)?;
        }
        if path.is_empty() || path.contains('\0') || reference.as_deref() == Some("") {
            return Err(Error::user(format!("{typed}: there is no path in it"))
                .hint(format!("{}:PATH", kind.name())));
        }
        Ok(Self { kind, typed: typed.to_owned(), path: path.to_owned(), reference })
    }

    /// The path as messages call it.
    pub(super) fn path(&self) -> String {
        self.path.clone()
    }

    fn is_stdin(&self) -> bool {
        self.path == "-"
    }

    /// Opens it with the rights that we have now.
    pub(super) fn open(&self, environment: &Environment) -> Result<Opened> {
        let path = &self.path;
        if self.kind == Kind::DockerDaemon {
            return Ok(Opened::Daemons(daemon::connect(environment)?));
        }
        let cannot = |e| Error::user(format!("{path} cannot be opened")).because(e);
        if self.is_stdin() {
            return self.stdin();
        }
        if self.kind.is_directory() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(path.as_str(), flags, Mode::empty());
            return match opened.map_err(std::io::Error::from) {
                Ok(directory) => Ok(Opened::Directory(directory)),
                Err(e) => Err(cannot(e)
                    .hint(format!("{}: needs a directory that you can read", self.kind.name()))),
            };
        }
        let needs = format!("{}: needs a file that you can read", self.kind.name());
        let file = File::open(path).map_err(|e| cannot(e).hint(needs.clone()))?;
        let meta = file.metadata().map_err(cannot)?;
        if !meta.is_file() {
            let error = Error::user(format!("{path} is not a plain file"));
            return Err(if meta.is_dir() {
                error.hint("oci: and dir: take directories")
            } else {
                error.hint(needs)
            });
        }
        Ok(Opened::File(file))
    }

    fn stdin(&self) -> Result<Opened> {
        if self.kind != Kind::Tar {
            return Err(Error::user(format!(
                "{}: cannot come from standard input: what it begins with says too little",
                self.kind.name()
            ))
            .hint("save it to a file first; tar:- reads the archive of a root file system"));
        }
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(Error::user("tar:- reads an archive from a pipe, not from a terminal")
                .hint("for example: docker export CONTAINER | shifterimg import tar:- NAME"));
        }
        let file = stdin.as_fd().try_clone_to_owned();
        let file =
            File::from(file.map_err(|e| Error::user("standard input cannot be read").because(e))?);
        let is_directory = rustix::fs::fstat(&file)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if is_directory {
            return Err(Error::user("standard input is a directory").hint("name it: dir:DIRECTORY"));
        }
        Ok(Opened::File(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> Config {
        Config::parse("[store]\npath = \"/x\"\n", std::path::Path::new("x")).unwrap()
    }

    #[test]
    fn sources_are_typed_as_skopeo_has_them() {
        for (typed, kind, path, reference) in [
            ("docker-archive:a.tar", Kind::DockerArchive, "a.tar", None),
            ("docker-archive:/x/a.tar:app:1", Kind::DockerArchive, "/x/a.tar", Some("app:1")),
            ("docker-daemon:app:1", Kind::DockerDaemon, "app:1", None),
            ("oci-archive:a.tar:1", Kind::OciArchive, "a.tar", Some("1")),
            ("oci:dir", Kind::Oci, "dir", None),
            ("oci:dir:latest", Kind::Oci, "dir", Some("latest")),
            ("dir:/a:b", Kind::Dir, "/a:b", None),
            ("tar:-", Kind::Tar, "-", None),
            ("squashfs:a.sif", Kind::Squashfs, "a.sif", None),
        ] {
            let found = Typed::parse(typed).unwrap();
            assert_eq!((found.kind, found.path.as_str()), (kind, path), "{typed}");
            assert_eq!(found.reference.as_deref(), reference, "{typed}");
        }
    }

    #[test]
    fn what_is_no_source_is_told_what_to_type() {
        for (typed, hint) in [
            ("app.tar", "put one of these before the path: docker-archive:, "),
            ("docker://debian:12", "shifterimg pull docker://debian:12"),
            ("oci:", "oci:PATH"),
            ("oci:x:", "oci:PATH"),
            ("docker-archive::app:1", "docker-archive:PATH"),
        ] {
            let error = Typed::parse(typed).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
        let error = Typed::parse("oci-archive:-")
            .unwrap()
            .open(&Environment::made_of(&[]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("save it to a file first"), "{error}");
    }

    #[test]
    fn a_name_is_below_the_callers_own() {
        let full = |typed| name(typed, &config(), "alice").map(|image| image.to_string());
        assert_eq!(full("app").unwrap(), "user:alice/app:latest");
        assert_eq!(full("group/app:1").unwrap(), "user:alice/group/app:1");
        assert_eq!(full("user:alice/app:1").unwrap(), "user:alice/app:1");
        assert_eq!(full("docker:app:1").unwrap(), "docker:docker.io/library/app:1");
        let pinned = format!("app@sha256:{}", "a".repeat(64));
        for other in ["user:bob/app:1", "local:/x", "../bob/app:1", &pinned, "App"] {
            let error = full(other).unwrap_err();
            assert!(error.to_string().contains("hint: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_is_a_crash_and_no_name_is_somebody_elses(source: String, typed: String) {
            let _ = Typed::parse(&source);
            if let Ok(ImageRef::User(user)) = name(&typed, &config(), "alice") {
                prop_assert_eq!(user.login(), "alice");
            }
        }
    }
}
