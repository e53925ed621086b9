//! On the node, as root, between jobs: slurmd's start and the epilog. Nothing here may drain a
//! node or keep slurmd from starting; the boundary logs what fails.

use std::path::Path;
use std::time::Duration;

use slurm::log;
use slurm::spank::Spank;
use udi::{Config, Result};
use udi_mount::Node;

use crate::slurm_refused;

/// slurmd starts: the node is made ready, and what a crash left behind is forgotten.
pub(crate) fn start() -> Result<()> {
    // First, for a configuration that is broken now may be mended without another start.
    let node = Node::prepare(Node::BASE)?;
    if !node.host_is_shared() {
        log::info(
            "shifter: the mounts of / are private: file systems that are mounted later will not \
             appear inside images that run already (mount --make-rshared /)",
        );
    }
    let site = udi_store::site::load(Path::new(Config::PATH))?;
    let running = running_jobs(&site.node.spool);
    let runs = |job: u32| running.contains(&job);
    let gone = node.sweep_jobs(&runs, site.node.image_linger, site.node.image_linger_max)?;
    if !gone.is_empty() {
        log::info(&format!("shifter: forgot jobs that no longer run: {gone:?}"));
    }
    Ok(())
}

/// The job ends on this node. Its own request does not matter: what is there goes.
pub(crate) fn end_of_job(spank: &Spank<'_>) -> Result<()> {
    let Some(node) = Node::existing(Node::BASE)? else { return Ok(()) };
    // With a broken configuration nothing lingers.
    let (linger, most) = udi_store::site::load(Path::new(Config::PATH))
        .map_or((0, 0), |site| (site.node.image_linger, site.node.image_linger_max));
    let job = spank.job_id().map_err(slurm_refused)?;
    let dropped = node.drop_job(job, linger, most)?;
    if dropped.udi {
        log::debug(&format!("shifter: job {job}: {dropped:?}"));
    }
    Ok(())
}

/// The daemon of the step that is as long as its job ends. With `PrologFlags=RunInJob` (24.05) it
/// runs the epilog itself, when plugins are unloaded already: then the job's end is here. Where
/// another step still runs it is not, and slurmd calls the epilog.
pub(crate) fn end_of_extern_step(spank: &Spank<'_>) -> Result<()> {
    let job = spank.job_id().map_err(slurm_refused)?;
    let node = udi_store::site::load(Path::new(Config::PATH)).map(|site| site.node);
    let spool = node.unwrap_or_default().spool;
    let steps = running_jobs(&spool).into_iter().filter(|running| *running == job).count();
    if steps > 1 {
        return Ok(());
    }
    // Meanwhile another thread ends X11 forwarding as the user, and with it all threads are the
    // user for some moments (seteuid(3), _x11_signal_handler of slurmstepd's mgr.c).
    for pause in [1, 10, 100, 1000] {
        if end_of_job(spank).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
    end_of_job(spank)
}

/// The job of each slurmstepd on this node: its socket is `NODE_JOB.STEP` in slurmd's spool.
fn running_jobs(spool: &Path) -> Vec<u32> {
    let names = std::fs::read_dir(spool).into_iter().flatten().flatten();
    names.filter_map(|entry| job_of_socket(&entry.file_name().to_string_lossy())).collect()
}

fn job_of_socket(name: &str) -> Option<u32> {
    let (_, rest) = name.rsplit_once('_')?;
    let (job, step) = rest.split_once('.')?;
    let is_step = !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_step.then(|| job.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_daemons_socket_names_its_job() {
        assert_eq!(job_of_socket("c1_17.0"), Some(17));
        assert_eq!(job_of_socket("node_a_4294901.4294967291"), Some(4_294_901));
        for other in ["cred_state", "job00017", "c1_17", "c1_x.0", "hwloc_topo_whole.xml"] {
            assert_eq!(job_of_socket(other), None, "{other}");
        }
    }
}
