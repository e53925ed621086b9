//! In a rank: entering the image while it is still root, and its environment as the user.

use std::collections::BTreeMap;

use slurm::spank::Spank;
use udi::{Edit, Error, ImageInfo, Result, Workdir};
use udi_store::{Store, provenance};

use crate::remote::{Staged, Where};
use crate::{debug_panic, options, slurm_refused};

/// Set to `1` inside an image.
pub(crate) const RUNTIME: &str = "SHIFTER_RUNTIME";
const IMAGE: &str = "SHIFTER_IMAGE";
const IMAGE_REQUEST: &str = "SHIFTER_IMAGEREQUEST";
const MODULES: &str = "SHIFTER_MODULES";
/// What we say inside of the image.
pub(crate) const SAID_INSIDE: [&str; 4] = [RUNTIME, IMAGE, IMAGE_REQUEST, MODULES];

/// Takes the rank into the image. What Slurm does next (working directory, becoming the user,
/// finding and executing the command) then happens inside.
pub(crate) fn enter(spank: &Spank<'_>, runs: &Where) -> Result<()> {
    match runs {
        Where::Inside(staged) => {
            debug_panic(&staged.site, "enter");
            staged.udi.enter()
        }
        Where::Host => Ok(()),
        // Never on the host because something was forgotten.
        Where::Undecided if options::asked_for(spank, &slurm::spank::Given::default()) => {
            Err(Error::bug("the image was not staged"))
        }
        Where::Undecided => Ok(()),
    }
}

/// What a rank does inside, as the user, before its command: it gets its environment, goes where it
/// starts, and lets the modules' programs run.
pub(crate) fn prepare(spank: &mut Spank<'_>, runs: &Where) -> Result<()> {
    let Where::Inside(staged) = runs else { return Ok(()) };
    edit_environment(spank, staged)?;
    match &staged.hooks {
        Some(hooks) => hooks.run(&spank.job_environment().map_err(slurm_refused)?),
        None => Ok(()),
    }
}

/// Gives the rank the environment of DESIGN §7.
fn edit_environment(spank: &mut Spank<'_>, staged: &Staged) -> Result<()> {
    debug_panic(&staged.site, "environment");
    let image = Store::info_inside()?;
    runs_here(&image)?;
    let modules = staged.request.modules(&staged.site)?;
    // A variable that is not text is left as it is.
    let job: BTreeMap<String, String> = spank
        .job_environment()
        .map_err(slurm_refused)?
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let asked = staged.request.image();
    // An image of the node's own has no digest.
    let digest = asked.digest().map_or_else(|| asked.name(), ToString::to_string);
    let mut about = vec![(RUNTIME, "1".to_owned()), (IMAGE, digest), (IMAGE_REQUEST, asked.name())];
    if !modules.is_empty() {
        about.push((MODULES, provenance::definitions(&modules)));
    }
    for edit in udi::edits(&job, &image, &modules, &staged.site, &about) {
        match edit {
            Edit::Set(name, value) => spank.setenv(&name, &value),
            Edit::Unset(name) => spank.unsetenv(&name),
        }
        .map_err(slurm_refused)?;
    }
    match staged.site.inside.workdir {
        Workdir::Image if image.workdir.starts_with('/') => start_in(spank, &image.workdir),
        _ => Ok(()),
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

/// Goes where the image says that its programs start. Where the user may not go, the rank stays
/// where Slurm put it.
fn start_in(spank: &mut Spank<'_>, directory: &str) -> Result<()> {
    match std::env::set_current_dir(directory) {
        Ok(()) => spank.setenv("PWD", directory).map_err(slurm_refused),
        Err(error) => {
            if spank.local_task_id().unwrap_or(0) == 0 {
                spank.say(&format!("cannot start in the image's directory {directory}: {error}"));
            }
            Ok(())
        }
    }
}
