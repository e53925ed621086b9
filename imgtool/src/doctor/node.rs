//! What a compute node must have besides its kernel.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apart::{self, Silence};
use super::report::{Finding, failed, for_root, of_error, ok, quoted, unknown, warning};
use super::{Host, Look};

const BASE: &str = "/run/shifter";
/// A look at one path has this long.
const LIMIT: Duration = Duration::from_secs(3);

/// The mounts as slurmd sees them, for it may have a namespace of its own; else as we do.
fn mounts(host: &Host) -> String {
    let of = |id: String| std::fs::read_to_string(format!("/proc/{id}/mountinfo")).ok();
    let slurmds = host.slurmd.as_ref().and_then(|slurmd| of(slurmd.id.to_string()));
    slurmds.or_else(|| of("self".into())).unwrap_or_default()
}

/// The last mount at `place`, as a line of proc_pid_mountinfo(5).
fn mount_at<'a>(mounts: &'a str, place: &str) -> Option<&'a str> {
    mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(place))
}

pub(super) fn propagation(host: &Host) -> Look {
    let mounts = mounts(host);
    let Some(root) = mount_at(&mounts, "/") else {
        return Err(unknown("the table of mounts cannot be read"));
    };
    if root.contains(" shared:") {
        return Ok(vec![ok("/ is shared: what is mounted later appears in running jobs")]);
    }
    // Not --make-rshared, now: it would share /run/shifter, on which nothing could be pinned.
    Err(warning("/ is private: what the host mounts later does not appear in running jobs")
        .run("mount --make-shared /")
        .task("and at each boot, before slurmd: mount --make-rshared / (systemd does)"))
}

pub(super) fn directory(host: &Host) -> Look {
    if host.slurmd.is_none() {
        return Err(failed("slurmd does not run here").run("systemctl start slurmd"));
    }
    let mounts = mounts(host);
    let Some(mount) = mount_at(&mounts, BASE) else {
        let what = "slurmd has not made it: it has not loaded the plugin, or cannot mount";
        return Err(failed(what)
            .run("systemctl restart slurmd")
            .task("if it stays away: slurmd's log says why"));
    };
    let is_tmpfs = mount.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("tmpfs "));
    let meta = std::fs::symlink_metadata(BASE);
    let is_closed = meta.is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o7777 == 0o700);
    if !is_tmpfs || !is_closed {
        return Err(failed("something else is mounted there, or it is not root's alone")
            .run(format!("umount {BASE} && systemctl restart slurmd")));
    }
    if !mount.contains(" unbindable ") {
        return Err(warning("it is shared: no UDI can be pinned, each step builds its own")
            .run(format!("mount --make-unbindable {BASE}")));
    }
    Ok(vec![ok("a tmpfs of root's alone, made by slurmd")])
}

pub(super) fn spool(host: &Host) -> Look {
    let ours = &host.config()?.node.spool;
    let Some(slurms) = host.slurm.setting("SlurmdSpoolDir") else {
        return Err(unknown("slurmctld does not say what SlurmdSpoolDir is"));
    };
    let short = host.name.split('.').next().unwrap_or(&host.name);
    let slurms = slurms.replace("%h", &host.name).replace("%n", short);
    if Path::new(&slurms) == ours {
        return Ok(vec![ok(slurms)]);
    }
    Err(failed(format!(
        "SlurmdSpoolDir is {slurms}, node.spool of shifter.toml {}",
        ours.display()
    ))
    .task(format!("set spool = \"{slurms}\" in [node] of {}", host.config_path.display())))
}

pub(super) fn site_files(host: &Host) -> Look {
    let config = host.config()?;
    let mut wanted: Vec<(&Path, String, bool)> = Vec::new();
    for mount in &config.mount {
        wanted.push((&mount.from, "[[mount]]".into(), mount.optional));
    }
    for (name, module) in &config.modules {
        for mount in &module.mount {
            wanted.push((&mount.from, format!("module {name}"), mount.optional));
        }
        for library in &module.library {
            wanted.push((&library.from, format!("module {name}"), false));
        }
    }
    for source in config.etc.replace.values() {
        wanted.push((source, "[etc]".into(), false));
    }
    let (mut there, mut absent) = (0, 0);
    let mut findings = Vec::new();
    for (path, line, optional) in wanted {
        let what = format!("{} ({line})", path.display());
        match exists(path) {
            Ok(true) => there += 1,
            Ok(false) if optional => absent += 1,
            Ok(false) => findings.push(failed(format!("{what} is not on this node")).task(
                format!("mount it or put it there, or change {}", host.config_path.display()),
            )),
            Err(Trouble::Hidden) => findings.push(for_root(what)),
            Err(Trouble::Hung) => findings.push(
                failed(format!("{what} does not answer"))
                    .task("is the server of its file system up?"),
            ),
            Err(Trouble::Other(why)) => findings.push(failed(format!("{what}: {why}"))),
        }
    }
    if there + absent > 0 {
        let but = if absent > 0 { format!(", {absent} optional not here") } else { String::new() };
        findings.insert(0, ok(format!("{there} that the site mounts or copies{but}")));
    }
    Ok(findings)
}

enum Trouble {
    Hidden,
    Hung,
    Other(String),
}

/// Looked at with our rights; an automounter mounts it.
fn exists(path: &Path) -> Result<bool, Trouble> {
    let kind = apart::run(LIMIT, || match std::fs::metadata(path) {
        Ok(_) => None,
        Err(error) => Some((error.raw_os_error(), error.to_string())),
    });
    match kind {
        Ok(None) => Ok(true),
        Ok(Some((code, why))) => {
            match code.map(|code| std::io::Error::from_raw_os_error(code).kind()) {
                Some(ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
                Some(ErrorKind::PermissionDenied) => Err(Trouble::Hidden),
                _ => Err(Trouble::Other(why)),
            }
        }
        Err(Silence::Hung) => Err(Trouble::Hung),
        Err(Silence::Died) => Err(Trouble::Other("cannot be looked at".into())),
    }
}

pub(super) fn hooks(host: &Host) -> Look {
    let hooks = &host.config()?.hooks;
    let mut findings = Vec::new();
    for hook in hooks.before.iter().chain(&hooks.after) {
        let Some(program) = hook.command.first() else { continue };
        findings.push(program_of_root(Path::new(program), host));
    }
    Ok(findings)
}

/// A program that root or slurmctld runs.
pub(super) fn program_of_root(program: &Path, host: &Host) -> Finding {
    let shown = program.display();
    match std::fs::metadata(program) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !host.is_root() => {
            return for_root(format!("{shown}"));
        }
        Err(error) => return failed(format!("{shown}: {error}")).task("install it there"),
        Ok(_) => {}
    }
    if let Err(error) = udi_store::site::check(program) {
        return of_error(&error);
    }
    if std::fs::metadata(program).is_ok_and(|meta| !meta.is_file() || meta.mode() & 0o100 == 0) {
        let run = format!("chmod u+x {}", quoted(program));
        return failed(format!("{shown} cannot be run")).run(run);
    }
    ok(format!("{shown} is root's alone"))
}

pub(super) fn caches(host: &Host) -> Look {
    let config = host.config()?;
    let mut findings = Vec::new();
    for directory in &config.cache.directories {
        let seen = apart::run(LIMIT, || cache(directory, &config.store.owner));
        findings.push(seen.unwrap_or_else(|_| {
            failed(format!("{} does not answer", directory.display()))
                .task("is the server of its file system up?")
        }));
    }
    if findings.is_empty() {
        return Ok(findings);
    }
    for (program, package) in [("mkfs.xfs", "xfsprogs"), ("mke2fs", "e2fsprogs")] {
        let mut places = ["/usr/sbin", "/sbin"].iter();
        if !places.any(|place| PathBuf::from(place).join(program).exists()) {
            let what = format!("{program} is not here: caches of its kind fail");
            findings.push(warning(what).task(format!("install the package {package}")));
        }
    }
    Ok(findings)
}

fn cache(directory: &Path, owner: &str) -> Finding {
    let (shown, word, who) = (directory.display(), quoted(directory), quoted(owner));
    let meta = match std::fs::symlink_metadata(directory) {
        Ok(meta) => meta,
        Err(error) => {
            return failed(format!("{shown}: {error}"))
                .run(format!("install -d -o {who} -g {who} -m 0700 {word}"));
        }
    };
    if !meta.is_dir() {
        return failed(format!("{shown} is not a directory"));
    }
    if super::store::uid_of(owner).is_none_or(|uid| uid != meta.uid()) {
        return failed(format!("{shown} belongs to uid {}, not to {owner}", meta.uid()))
            .run(format!("chown {who} {word}"));
    }
    if meta.mode() & 0o777 != 0o700 {
        return failed(format!("others than {owner} can enter {shown}"))
            .run(format!("chmod 0700 {word}"));
    }
    for place in directory.ancestors().skip(1) {
        let Ok(above) = std::fs::symlink_metadata(place) else { continue };
        let (shown, word) = (place.display(), quoted(place));
        if above.is_symlink() {
            return failed(format!("{shown} is a link")).task("name the directory itself");
        }
        if above.uid() != 0 && above.uid() != meta.uid() {
            let what = format!("{shown} belongs to uid {}, not to root or {owner}", above.uid());
            return failed(what).run(format!("chown root {word}"));
        }
        // In a sticky directory nobody takes away what is the owner's.
        if above.mode() & 0o022 != 0 && above.mode() & 0o1000 == 0 {
            return failed(format!("others can write {shown}")).run(format!("chmod go-w {word}"));
        }
    }
    ok(format!("{shown}, {}", super::store::free(directory)))
}

#[cfg(test)]
mod tests {
    use super::mount_at;

    #[test]
    fn the_mount_on_top_counts() {
        let table = "1 0 0:1 / / rw shared:1 - ext4 x rw\n2 1 0:2 / / rw - tmpfs y rw\n";
        assert!(mount_at(table, "/").is_some_and(|line| line.starts_with("2 ")));
        assert_eq!(mount_at(table, "/run/shifter"), None);
    }
}
