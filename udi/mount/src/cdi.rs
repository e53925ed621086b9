//! The node's specs of devices (CDI), read: what they mean is [`udi::cdi`]'s.

mod yaml;

use std::path::{Path, PathBuf};

use udi::cdi::{Devices, Found, Spec};
use udi::{Config, Error, Request, Result};

/// Gives the modules of `request` what the specs of this node say of their devices.
///
/// Whoever can write a spec decides what root mounts: it must be root's as the configuration is.
/// Errors are the site's.
pub fn read_devices(site: &mut Config, request: &Request) -> Result<()> {
    let chosen = request.modules(site)?;
    let chosen = chosen.into_iter().filter(|(_, module)| !module.cdi.is_empty());
    let names: Vec<String> = chosen.map(|(name, _)| name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let (specs, mut faults) = specs(&site.node.cdi);
    for name in names {
        let Some(module) = site.modules.get_mut(&name) else { continue };
        let devices = Devices::of(&module.cdi, &module.cdi_without, &specs);
        // A fault elsewhere is of no concern, unless the device may be what it hides.
        let error = match devices {
            Ok(devices) => {
                module.bring(devices);
                continue;
            }
            Err(error) if faults.is_empty() || module.cdi.iter().all(|d| d.is_in(&specs)) => error,
            Err(_) => faults.remove(0),
        };
        return Err(error.about(format!("--module={name}: ")));
    }
    Ok(())
}

/// The specs in `directories`, and what is wrong with others there.
fn specs(directories: &[PathBuf]) -> (Vec<Found>, Vec<Error>) {
    let (mut specs, mut faults) = (Vec::new(), Vec::new());
    for (directory, path) in directories.iter().enumerate() {
        let files = match files(path) {
            Ok(files) => files,
            Err(error) => {
                faults.push(error);
                continue;
            }
        };
        for file in files {
            match read(&file) {
                Ok(spec) => specs.push(Found { file, directory, spec }),
                Err(error) => faults.push(error),
            }
        }
    }
    (specs, faults)
}

/// The specs' files in a directory, by name; none where there is no such directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let cannot =
        |error| Error::admin(format!("cannot read {}", directory.display())).because(error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Spec> {
    let text = udi_store::site::text(file)?;
    parse(&text).map_err(|why| {
        Error::admin(format!("{}: {why}", file.display()))
            .hint("write it anew with the vendor's tool, or remove it")
    })
}

/// The spec in a text, JSON or YAML (of which JSON is a part); why it is none.
pub fn parse(text: &str) -> std::result::Result<Spec, String> {
    let value = yaml::value(text)?;
    let spec: Spec = serde_json::from_value(value).map_err(|error| error.to_string())?;
    spec.check()?;
    Ok(spec)
}
