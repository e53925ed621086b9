//! mpirun and mpiexec on the host of a job with an image: told what to do in their place.
//!
//! In a Slurm job they start a helper on each node by srun. As any step of the job's that helper would
//! be looked for in the image, which has none, or another one's.

use slurm::spank::Spank;
use udi::{Error, Result, Word};

use crate::options::{self, Options};
use crate::slurm_refused;

/// The helpers: of Open MPI up to 4 and from 5 on, of MPICH, and of those made from MPICH.
const HELPERS: [&str; 5] = ["orted", "prted", "hydra_pmi_proxy", "hydra_bstrap_proxy", "pmi_proxy"];

/// In srun, which has its step: refuses to start a helper of the host's in an image. `given` are the
/// options of the command; whoever types one knows that it is an image.
pub(crate) fn refuse(spank: &Spank<'_>, given: &Options) -> Result<()> {
    let argv = spank.argv().map_err(slurm_refused)?;
    let program = argv.first().map(std::path::Path::new).and_then(|path| path.file_name());
    let Some(helper) = HELPERS.into_iter().find(|name| program.is_some_and(|it| it == *name))
    else {
        return Ok(());
    };
    let image = options::of_environment(spank)?;
    if !given.texts.is_empty() || matches!(image.text(Word::Image), "" | "none") {
        return Ok(());
    }
    Err(Error::user(format!(
        "mpirun of the host cannot start ranks in an image: its {helper} is not in there"
    ))
    .hint(
        "start the program by srun, as in: srun --mpi=pmix ./program (srun --mpi=list names the \
         kinds there are); for a program of the host: SLURM_SHIFTER_IMAGE=none mpirun ./program",
    ))
}
