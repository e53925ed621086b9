//! What the kernel must have.

use std::os::unix::fs::FileTypeExt;

use super::report::{failed, ok, warning};
use super::{Host, Look};

/// mount_setattr(2) came in 5.12; 5.14 is what the oldest supported distribution has.
const FLOOR: (u32, u32) = (5, 14);

fn this_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim_end().to_owned()
}

pub(super) fn release(_: &Host) -> Look {
    let release = this_release();
    if is_too_old(&release) {
        let what = format!("Linux {release}; images need {}.{} or newer", FLOOR.0, FLOOR.1);
        return Err(failed(what).task("upgrade it, or keep jobs with an image away by a partition"));
    }
    Ok(vec![ok(format!("Linux {release}"))])
}

fn is_too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < FLOOR,
        _ => false,
    }
}

pub(super) fn file_systems(host: &Host) -> Look {
    let release = this_release();
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let modules: String = ["modules.dep", "modules.builtin"]
        .iter()
        .filter_map(|list| std::fs::read_to_string(format!("/lib/modules/{release}/{list}")).ok())
        .collect();
    let has_caches = host.config.as_ref().is_ok_and(|c| !c.cache.directories.is_empty());
    let mut needed = vec![("squashfs", true), ("overlay", true)];
    if has_caches {
        needed.extend([("xfs", false), ("ext4", false)]);
    }
    for format in host.config.iter().flat_map(|config| &config.images.formats) {
        match needed.iter_mut().find(|(name, _)| *name == format.name()) {
            Some((_, always)) => *always = true,
            None => needed.push((format.name(), true)),
        }
    }
    let mut there = Vec::new();
    let mut findings = Vec::new();
    for (name, always) in needed {
        if known.lines().any(|line| line.split('\t').nth(1) == Some(name)) {
            there.push(name.to_owned());
        } else if modules.contains(&format!("/{name}.ko")) {
            there.push(format!("{name} (a module, loaded when needed)"));
        } else {
            let what = format!("this kernel has no {name}, and no module for it");
            let finding = if always {
                failed(what)
            } else {
                warning(format!("{what}: caches with fs={name} fail"))
            };
            findings.push(finding.task(format!(
                "install all modules of kernel {release} (linux-modules-extra, \
                 kernel-modules-extra), then: modprobe {name}"
            )));
        }
    }
    if !there.is_empty() {
        findings.insert(0, ok(there.join(", ")));
    }
    let options = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    let mut options = options.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    if options.any(|text| text.contains("# CONFIG_SQUASHFS_ZSTD is not set")) {
        let what = "this kernel's squashfs cannot read zstd, with which images are packed";
        findings.push(failed(what).task("use a kernel with CONFIG_SQUASHFS_ZSTD"));
    }
    Ok(findings)
}

pub(super) fn loop_devices(_: &Host) -> Look {
    let control = std::fs::metadata("/dev/loop-control");
    if !control.is_ok_and(|meta| meta.file_type().is_char_device()) {
        return Err(failed("there is no /dev/loop-control: images cannot be mounted")
            .run("modprobe loop && echo loop >/etc/modules-load.d/shifter.conf"));
    }
    let devices: Vec<_> = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"loop"))
        .map(|entry| entry.path().join("loop/backing_file").exists())
        .collect();
    let used = devices.iter().filter(|used| **used).count();
    Ok(vec![ok(format!("{used} of {} in use; the kernel makes more when needed", devices.len()))])
}

#[cfg(test)]
mod tests {
    use super::is_too_old;

    #[test]
    fn kernels_before_5_14_are_too_old() {
        for old in ["5.10.0-32-amd64", "4.18.0", "5.13.19+"] {
            assert!(is_too_old(old), "{old}");
        }
        for new in ["5.14.0-427.el9", "6.1.0-33-amd64", "10.0", "something else"] {
            assert!(!is_too_old(new), "{new}");
        }
    }
}
