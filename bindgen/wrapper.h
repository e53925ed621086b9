/* What bindgen reads; build.rs names the few declarations that are kept. */
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>
