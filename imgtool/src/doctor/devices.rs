//! Specs of the node's devices (CDI), which decide what root mounts.

use std::path::PathBuf;

use super::report::{Finding, of_error, ok};
use super::{Host, Look};

/// Whether they are root's alone; what they say the plugin reads.
pub(super) fn specs(host: &Host) -> Look {
    let config = host.config()?;
    let names: Vec<&str> = config
        .modules
        .iter()
        .filter(|(_, module)| !module.cdi.is_empty())
        .map(|(name, _)| name.as_str())
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let findings: Vec<Finding> = config.node.cdi.iter().flat_map(files).map(judged).collect();
    if findings.is_empty() {
        let names = names.join(", ");
        return Ok(vec![ok(format!("no specs: jobs with {names} are not for this node"))]);
    }
    Ok(findings)
}

fn files(directory: &PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_spec = |path: &PathBuf| path.extension().is_some_and(|it| it == "json" || it == "yaml");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_spec).collect();
    files.sort();
    files
}

fn judged(file: PathBuf) -> Finding {
    match udi_store::site::check(&file) {
        Ok(_) => ok(format!("{} is root's alone", file.display())),
        Err(error) => of_error(&error),
    }
}
