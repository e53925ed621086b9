//! The site's configuration.

use std::os::unix::fs::MetadataExt;

use udi::{ImageFormat, ImageRef};

use super::report::{failed, of_error, ok, quoted};
use super::{Host, Look};
use crate::convert;
use crate::identity::Environment;
use crate::registry;

pub(super) fn configuration(host: &Host) -> Look {
    let path = &host.config_path;
    if let Err(error) = &host.config {
        let found = of_error(error);
        return Err(match (path.exists(), found.run.is_some() || found.task.is_some()) {
            (_, true) => found,
            (true, false) => found.task(format!(
                "correct {}; every key is in slurm-conf-examples/shifter.toml",
                path.display()
            )),
            (false, false) => found.run(format!(
                "install -D -m 0644 slurm-conf-examples/shifter.toml {}",
                quoted(path)
            )),
        });
    }
    // srun and sbatch read it with the rights of whoever runs them.
    let real = path.canonicalize().unwrap_or_else(|_| path.clone());
    for (above, place) in real.ancestors().enumerate() {
        let need = if above == 0 { 0o004 } else { 0o001 };
        let closed = std::fs::metadata(place).is_ok_and(|meta| meta.mode() & need == 0);
        if closed {
            let right = if above == 0 { "o+r" } else { "o+x" };
            return Err(failed(format!("users cannot read {}: srun fails", path.display()))
                .run(format!("chmod {right} {}", quoted(place))));
        }
    }
    Ok(vec![ok(format!("{}: root's alone, every key known", path.display()))])
}

pub(super) fn registries(host: &Host) -> Look {
    let config = host.config()?;
    let names = config.names();
    let mut findings = Vec::new();
    let mut bad = |key: &str, value: &str| {
        findings.push(failed(format!("{key} = \"{value}\" is no registry")).task(format!(
            "write REGISTRY[:PORT][/PATH], for example registry.example.org:5000/hub, in {}",
            host.config_path.display()
        )));
    };
    // A name without dot or port is a directory of the default registry.
    let is_registry = |text: &str| {
        let host = text.split('/').next().unwrap_or(text);
        let image = ImageRef::parse(&format!("{}/x:1", text.trim_end_matches('/')), &names);
        matches!(image, Ok(ImageRef::Docker(d)) if d.registry() == host)
    };
    if !is_registry(&names.registry) {
        bad("images.default_registry", &names.registry);
    }
    for rule in &config.registry {
        if !is_registry(&rule.prefix) {
            bad("registry.prefix", &rule.prefix);
        }
        if let Some(mirror) = rule.mirror.as_ref().filter(|mirror| !is_registry(mirror)) {
            bad("registry.mirror", mirror);
        }
    }
    if let Err(error) = registry::proxy(&config.images, &Environment::default()) {
        findings.push(of_error(&error));
    }
    for ca in config.registry.iter().filter_map(|rule| rule.ca.as_ref()) {
        if let Err(error) = udi_store::site::check(ca) {
            findings.push(of_error(&error));
        }
    }
    if findings.is_empty() {
        let rules = config.registry.len();
        let s = if rules == 1 { "" } else { "s" };
        findings.push(ok(format!("{} by default, {rules} rule{s}", names.registry)));
    }
    Ok(findings)
}

pub(super) fn local_images(host: &Host) -> Look {
    let places = host.config()?.images.local.iter();
    let look = |place: &udi::GuestPath| match udi_store::site::check(place.as_str().as_ref()) {
        Ok(_) => ok(format!("{place} is root's alone")),
        Err(error) => of_error(&error),
    };
    Ok(places.map(look).collect())
}

/// Besides squashfs, which needs nothing.
pub(super) fn formats(host: &Host) -> Look {
    let config = host.config()?;
    let others = config.images.formats.iter().filter(|f| **f != ImageFormat::Squashfs);
    let look = |format: &ImageFormat| match convert::check(config, *format) {
        Ok(()) => ok(format!("{} can be made here", format.name())),
        Err(error) => of_error(&error),
    };
    Ok(others.map(look).collect())
}
