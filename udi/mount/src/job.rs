//! A job's UDI on a node: found, staged, dropped, swept.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use udi::{Config, Error, Mount, Plan, Result};

use crate::assemble::{self, Staged};
use crate::late::Late;
use crate::node::Node;
use crate::opened::Opened;
use crate::targets::Targets;
use crate::udi::Udi;
use crate::{fault, hook, image, namespace};

/// Whose UDI, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobKey {
    /// Slurm's job id.
    pub id: u32,
    /// One line that differs for another user or run of the job.
    pub run: String,
    /// One line that differs for another inside.
    pub identity: String,
    /// Whether this is what the job asked for: then its later steps shall find it. A step
    /// that asks for something else gets a UDI of its own.
    pub of_job: bool,
    /// Who opens what is opened late as the user.
    pub ids: Ids,
}

/// A process as the kernel judges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
}

/// What the end of a job left to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Whether there was a UDI.
    pub udi: bool,
    /// How many image mounts went.
    pub images: usize,
}

impl Node {
    /// The UDI for a step: the job's, if it is staged already, else a new one.
    ///
    /// `late` is [`Plan::late`]. `make` gives the plan and its images, opened with the user's
    /// rights; it is called only when something must be staged. A step of the job's whose inside
    /// is not that of the job's first (another value of a variable) has a UDI of its own.
    pub fn stage(
        &self,
        job: &JobKey,
        site: &Config,
        late: Vec<Mount>,
        make: impl FnOnce() -> Result<(Plan, Opened)>,
    ) -> Result<Udi> {
        let directory = self.path(&format!("jobs/{}", job.id));
        let lock = lock(&directory)?;
        let pin = format!("{directory}/udi");
        let request = format!("{directory}/request");
        let mut of_job = job.of_job;
        if of_job
            && let Ok(known) = std::fs::read_to_string(&request)
            && let Some((run, rest)) = known.split_once('\n')
            && let Some((identity, targets)) = rest.split_once('\n')
            && run == job.run
            && let Some(namespace) = namespace::pinned(&pin)
        {
            if identity == job.identity {
                unlock(&lock)?;
                let late =
                    Late::new(late, Targets::parse(targets), Vec::new(), job.ids.clone(), site)?;
                return Ok(Udi { namespace, lock, late, pinned: true });
            }
            of_job = false;
        }
        let (plan, opened) = make()?;
        for image in opened.names() {
            let used = format!("{directory}/images/{image}");
            std::fs::write(&used, "")
                .map_err(|e| Error::admin(format!("cannot write {used}")).because(e))?;
        }
        // Hooks do not get the namespace: by nsenter(1) they would run the user's programs as root.
        hook::run(self, &plan.hooks.before, job.id, &plan)?;
        let Staged { namespace, targets, absent } = assemble::assemble(self, &plan, site, &opened)?;
        // What the first rank finds out about absent volumes, later steps must find out, too.
        let whole = absent.is_empty();
        let known = format!("{}\n{}\n{}", job.run, job.identity, targets.text());
        let late = Late::new(late, targets, absent, job.ids.clone(), site)?;
        hook::run(self, &plan.hooks.after, job.id, &plan)?;
        let pinned = of_job && whole && keep(&namespace, &pin, &request, &known)?;
        unlock(&lock)?;
        if site.node.image_linger > 0 {
            // Between two epilogs there may be days. What fails here, the next one will say.
            let _ = self.sweep_images(site.node.image_linger, site.node.image_linger_max);
        }
        Ok(Udi { namespace, lock, late, pinned })
    }

    /// Forgets a job: its UDI goes when nobody is inside. Idempotent; what is busy is no error.
    pub fn drop_job(&self, id: u32, linger: u64, most: usize) -> Result<Dropped> {
        let directory = self.path(&format!("jobs/{id}"));
        let mut dropped = Dropped::default();
        if std::fs::exists(&directory).unwrap_or(false) {
            let _lock = lock(&directory)?;
            let pin = format!("{directory}/udi");
            dropped.udi = namespace::pinned(&pin).is_some();
            namespace::unpin(&pin).map_err(fault::site(format!("cannot unpin {pin}")))?;
            for name in names(&format!("{directory}/images")) {
                image::touch(self, &name)?;
            }
            std::fs::remove_dir_all(&directory)
                .map_err(|e| Error::admin(format!("cannot remove {directory}")).because(e))?;
        }
        dropped.images = self.sweep_images(linger, most)?;
        Ok(dropped)
    }

    /// Drops mounts of images that no job here uses and that have lingered long enough.
    pub fn sweep_images(&self, linger: u64, most: usize) -> Result<usize> {
        // A job says what it uses before the image has a record: whoever saw the record and asks
        // now will find it.
        let in_use = |image: &str| {
            names(&self.path("jobs")).iter().any(|job| {
                std::fs::exists(self.path(&format!("jobs/{job}/images/{image}"))).unwrap_or(true)
            })
        };
        image::sweep(self, &in_use, linger, most)
    }

    /// Forgets every job that `runs` does not know: what a crash left behind. Gives their ids.
    pub fn sweep_jobs(
        &self,
        runs: &dyn Fn(u32) -> bool,
        linger: u64,
        most: usize,
    ) -> Result<Vec<u32>> {
        let known = names(&self.path("jobs")).into_iter().filter_map(|name| name.parse().ok());
        let gone: Vec<u32> = known.filter(|id| !runs(*id)).collect();
        for id in &gone {
            self.drop_job(*id, linger, most)?;
        }
        self.sweep_images(linger, most)?;
        Ok(gone)
    }
}

/// Pins the UDI for the job's later steps. Where the node cannot pin (a namespace that is
/// younger than slurmd's by the kernel's count), every step stages for itself.
fn keep(namespace: &OwnedFd, pin: &str, request: &str, known: &str) -> Result<bool> {
    namespace::unpin(pin).map_err(fault::site(format!("cannot unpin {pin}")))?;
    let write = |path: &str, text: &str| {
        std::fs::write(path, text)
            .map_err(|e| Error::admin(format!("cannot write {path}")).because(e))
    };
    write(pin, "")?;
    write(request, known)?;
    Ok(namespace::pin(namespace, pin).is_ok())
}

/// The job's directory, made if need be, locked against other steps and the epilog.
fn lock(directory: &str) -> Result<OwnedFd> {
    for path in [directory, &format!("{directory}/images")] {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault::site(format!("cannot make {path}"))(errno)),
        }
    }
    let path = format!("{directory}/lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(CWD, path.as_str(), flags, Mode::RUSR | Mode::WUSR)
        .map_err(fault::site(format!("cannot open {path}")))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .map_err(fault::site(format!("cannot lock {path}")))?;
    let stat = rustix::fs::fstat(&file).map_err(fault::bug("cannot stat a lock"))?;
    // The epilog of the job's previous run may have removed the directory meanwhile.
    if stat.st_nlink == 0 { lock(directory) } else { Ok(file) }
}

/// Lets other steps in; the file stays open for late binds.
fn unlock(lock: &OwnedFd) -> Result<()> {
    rustix::fs::flock(lock, FlockOperation::Unlock)
        .map_err(fault::bug("cannot unlock a job's directory"))
}

fn names(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
