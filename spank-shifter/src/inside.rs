//! What a step's ranks must know of the inside: found out once, in slurmstepd, and only applied in
//! each rank, for all ranks of a node do that at the same time.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use slurm::spank::Spank;
use udi::{Config, Edit, Environment, Error, ImageInfo, Request, Result, Start, Variables};
use udi_store::provenance;

use crate::entrypoint::Entrypoint;
use crate::options::Kind;
use crate::slurm_refused;

/// Set to `1` inside an image.
pub(crate) const RUNTIME: &str = "SHIFTER_RUNTIME";
const IMAGE: &str = "SHIFTER_IMAGE";
const IMAGE_REQUEST: &str = "SHIFTER_IMAGEREQUEST";
const MODULES: &str = "SHIFTER_MODULES";
/// What we say inside of the image.
pub(crate) const SAID_INSIDE: [&str; 4] = [RUNTIME, IMAGE, IMAGE_REQUEST, MODULES];

/// What a step finds inside.
#[derive(Debug)]
pub(crate) struct Inside {
    /// What becomes of a rank's environment.
    pub(crate) environment: Environment,
    /// Where ranks start; nothing: where Slurm puts them.
    directory: Option<Directory>,
    entrypoint: Option<Entrypoint>,
}

#[derive(Debug)]
struct Directory {
    path: String,
    /// Whether the user asked for it, who is then told if it cannot be had.
    must: bool,
}

impl Inside {
    /// What `info`, which the image says of itself, means for a step of this `kind`.
    pub(crate) fn of(
        info: &ImageInfo,
        request: &Request,
        site: &Config,
        (spank, kind): (&Spank<'_>, Kind),
    ) -> Result<Self> {
        runs_here(info)?;
        let modules = request.modules(site)?;
        let changes = modules.iter().map(|(_, module)| &module.env);
        let asked = request.image();
        // An image of the node's own has no digest.
        let digest = asked.digest().map_or_else(|| asked.name(), ToString::to_string);
        let used = (!modules.is_empty()).then(|| provenance::definitions(&modules));
        let about = [
            (RUNTIME, Some("1".to_owned())),
            (IMAGE, Some(digest)),
            (IMAGE_REQUEST, Some(asked.name())),
            (MODULES, used),
        ];
        let environment = Environment::new(info, changes, site, &about);
        let directory = directory(info, request, site)?;
        // A script is not a command of the image's.
        let entrypoint = match kind == Kind::Ranks && request.entrypoint() {
            true => Some(Entrypoint::of(info, request, spank)?),
            false => None,
        };
        Ok(Self { environment, directory, entrypoint })
    }

    /// Gives the calling rank its environment, directory and command. Runs inside, as the user,
    /// when Slurm has set the rank's own variables.
    pub(crate) fn apply(&self, spank: &mut Spank<'_>) -> Result<()> {
        for edit in self.edits(spank)? {
            match edit {
                Edit::Set(name, value) => {
                    spank.setenv(OsStr::from_bytes(&name), OsStr::from_bytes(&value))
                }
                Edit::Unset(name) => spank.unsetenv(OsStr::from_bytes(&name)),
            }
            .map_err(slurm_refused)?;
        }
        if let Some(directory) = &self.directory {
            directory.start(spank)?;
        }
        self.entrypoint.as_ref().map_or(Ok(()), |entrypoint| entrypoint.put_before(spank))
    }

    fn edits(&self, spank: &Spank<'_>) -> Result<Vec<Edit>> {
        let job = spank.job_environment().map_err(slurm_refused)?;
        // A name that is not one (`=x`) cannot be set or removed: it stays as it is.
        let named = job.into_iter().filter(|(name, _)| !name.is_empty());
        let job: Variables<'_> = named.map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        Ok(self.environment.edits(&job))
    }
}

/// An image for other processors fails where its first program is started, in words that help nobody.
/// But a node may know how to run such programs (binfmt_misc).
fn runs_here(image: &ImageInfo) -> Result<()> {
    let its = udi::architecture(&image.platform).unwrap_or_default();
    let known = [
        ("x86_64", "amd64", "x86_64"),
        ("aarch64", "arm64", "aarch64"),
        ("powerpc64", "ppc64le", "ppc64le"),
        ("riscv64", "riscv64", "riscv64"),
        ("s390x", "s390x", "s390x"),
    ];
    let here = known.iter().find(|(rust, _, _)| *rust == std::env::consts::ARCH);
    let (Some((_, here, _)), Some((_, _, emulator))) =
        (here, known.iter().find(|(_, name, _)| *name == its))
    else {
        return Ok(());
    };
    let is_emulated =
        || std::fs::exists(format!("/proc/sys/fs/binfmt_misc/qemu-{emulator}")).unwrap_or(true);
    if its == *here || is_emulated() {
        return Ok(());
    }
    Err(Error::user(format!("this image is for linux/{its}, and this node is linux/{here}"))
        .hint(format!("shifterimg pull --platform linux/{here} NAME:TAG gets the image for it")))
}

fn directory(info: &ImageInfo, request: &Request, site: &Config) -> Result<Option<Directory>> {
    let must = request.start().is_some();
    match request.start_at(site) {
        Start::Job => Ok(None),
        Start::At(path) => Ok(Some(Directory { path: path.as_str().to_owned(), must })),
        Start::Image if info.workdir.starts_with('/') => {
            Ok(Some(Directory { path: info.workdir.clone(), must }))
        }
        Start::Image if must => {
            let image = request.image().name();
            Err(Error::user(format!("--image-workdir=image: {image} names no working directory"))
                .hint("name the directory itself, or leave the option out"))
        }
        Start::Image => Ok(None),
    }
}

impl Directory {
    fn start(&self, spank: &mut Spank<'_>) -> Result<()> {
        let Self { path, must } = self;
        match std::env::set_current_dir(path) {
            Ok(()) => spank.setenv("PWD", path).map_err(slurm_refused),
            Err(error) if *must => {
                Err(Error::user(format!("--image-workdir: cannot start in {path}: {error}"))
                    .hint("name a directory that is there inside, and that you may enter"))
            }
            // Where the user may not go, the rank stays where Slurm put it.
            Err(error) => {
                if spank.local_task_id().unwrap_or(0) == 0 {
                    spank.say(&format!("cannot start in the image's directory {path}: {error}"));
                }
                Ok(())
            }
        }
    }
}
