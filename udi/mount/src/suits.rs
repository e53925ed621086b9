//! Whether the plan's modules suit the image.

use udi::{LOADERS, Plan, Result};
use udi_store::Store;

use crate::guest::Tree;

/// Judges each module that needs something of the image: by what the image says of itself, which
/// its maker wrote, and by what is in it.
pub(crate) fn check(plan: &Plan, image: &Tree) -> Result<()> {
    if plan.needs.is_empty() {
        return Ok(());
    }
    let relative = |path: &'static str| path.trim_start_matches('/');
    let info = Store::info_below(image.top())?;
    let is_there = |path| image.open(relative(path)).is_ok();
    let found: Vec<_> = LOADERS.into_iter().filter(|loader| is_there(loader.path)).collect();
    plan.needs.iter().try_for_each(|needs| needs.judge(&info.platform, &found))
}
