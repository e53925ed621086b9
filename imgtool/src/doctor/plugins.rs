//! The plugins, and whether Slurm is told of them.

use std::path::{Path, PathBuf};

use super::node::program_of_root;
use super::report::{Finding, failed, of_error, ok, quoted, unknown, warning};
use super::slurm::year_and_month;
use super::{Host, Look};

/// Where they are if Slurm does not say.
const PLUGIN_DIRECTORIES: [&str; 5] = [
    "/usr/lib64/slurm",
    "/usr/lib/slurm",
    "/usr/lib/x86_64-linux-gnu/slurm-wlm",
    "/usr/lib/aarch64-linux-gnu/slurm-wlm",
    "/usr/local/lib/slurm",
];
const HELPER: &str = "/usr/libexec/shifter/shifter-check";
/// Before the release in a plugin's file.
const MARK: &[u8] = b"plugin built for Slurm ";
/// Files that plugstack.conf may include, each by another.
const MOST_FILES: usize = 64;

pub(super) fn release(host: &Host) -> Look {
    let slurm = &host.slurm;
    let Some(commands) = &slurm.commands else {
        return Err(failed(
            "scontrol is not where Slurm's commands usually are, or not root's alone",
        )
        .task("install Slurm's commands, in /usr/bin or /opt/slurm/bin"));
    };
    let Some(release) = &slurm.release else {
        return Err(failed(format!("{}/scontrol -V says nothing", commands.display())));
    };
    if slurm.settings.is_none() {
        return Err(warning(format!("Slurm {release}, but slurmctld does not answer"))
            .run(format!("{}/scontrol ping", commands.display())));
    }
    Ok(vec![ok(format!("Slurm {release}, and slurmctld answers"))])
}

pub(super) fn spank(host: &Host) -> Look {
    let named = entries(host).ok().and_then(|list| list.into_iter().next_back());
    match named.map(|entry| entry.plugin).filter(|plugin| plugin.is_absolute()) {
        Some(plugin) => judge(&plugin, host),
        None => judge(&find("shifter.so", host)?, host),
    }
}

pub(super) fn job_submit(host: &Host) -> Look {
    let plugin = find("job_submit_shifter.so", host)?;
    let mut findings = judge(&plugin, host).unwrap_or_else(|finding| vec![finding]);
    let Some(list) = host.slurm.setting("JobSubmitPlugins") else {
        findings.push(unknown("slurmctld does not say what JobSubmitPlugins is"));
        return Ok(findings);
    };
    let what = format!("JobSubmitPlugins={list}");
    let names = list.split(',').map(|name| name.trim().trim_start_matches("job_submit/"));
    if names.into_iter().any(|name| name == "shifter") {
        findings.push(ok(what));
        return Ok(findings);
    }
    let conf = host.slurm.setting("SLURM_CONF").unwrap_or("/etc/slurm/slurm.conf");
    let finding = failed(format!("{what}: slurmctld does not check requests, nor pin them"));
    findings.push(if list == "(null)" || list.is_empty() {
        let line = "JobSubmitPlugins=shifter";
        finding.run(format!("echo '{line}' >>{} && scontrol reconfigure", quoted(conf)))
    } else {
        finding
            .task(format!("in {conf}: JobSubmitPlugins={list},shifter; then: scontrol reconfigure"))
    });
    Ok(findings)
}

pub(super) fn helper(host: &Host) -> Look {
    Ok(vec![program_of_root(Path::new(HELPER), host)])
}

/// The program that images show as `/usr/bin/shifter`.
pub(super) fn program(host: &Host) -> Look {
    let program = Path::new(udi::Plan::PROGRAM);
    let shown = program.display();
    let bytes = match std::fs::read(program) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Err(warning(format!(
                "{shown}: {error}: old scripts find no shifter in images"
            ))
            .task("install it there, as the README says"));
        }
    };
    if needs_libraries(&bytes) {
        return Err(failed(format!("{shown} is not static: few images can run it")).task(
            "install what this makes: cargo rustc --release -p shifter -- -C target-feature=+crt-static",
        ));
    }
    Ok(vec![program_of_root(program, host)])
}

/// Whether an ELF file names a dynamic linker (elf(5); of 64 bits, little-endian).
fn needs_libraries(elf: &[u8]) -> bool {
    /// `PT_INTERP` of elf.h.
    const INTERPRETER: usize = 3;
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        let mut number = [0; 8];
        number.get_mut(..length)?.copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(number)).ok()
    };
    let (Some(start), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    let kind = |nth: usize| number(start.checked_add(nth.checked_mul(size)?)?, 4);
    (0..count).any(|nth| kind(nth) == Some(INTERPRETER))
}

/// The plugin `name` where Slurm looks for plugins.
fn find(name: &str, host: &Host) -> Result<PathBuf, Finding> {
    let places: Vec<PathBuf> = match host.slurm.setting("PluginDir") {
        Some(list) => list.split(':').map(PathBuf::from).collect(),
        None => PLUGIN_DIRECTORIES.iter().map(PathBuf::from).filter(|p| p.exists()).collect(),
    };
    let found = places.iter().map(|place| place.join(name)).find(|path| path.exists());
    found.ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let what = match places.is_empty() {
            true => format!("{name}: there is no directory of Slurm's plugins"),
            false => format!("{name} is not in {}", places.join(" or ")),
        };
        failed(what).task("install it there: README.md, Install on a site")
    })
}

/// Owner and mode of a plugin, and the release that it was built for.
fn judge(plugin: &Path, host: &Host) -> Look {
    udi_store::site::check(plugin).map_err(|error| of_error(&error))?;
    let shown = plugin.display();
    let bytes = std::fs::read(plugin).map_err(|error| failed(format!("{shown}: {error}")))?;
    let (Some(built), Some(running)) = (built_for(&bytes), host.slurm.release.as_deref()) else {
        let what = format!("{shown} does not say for which Slurm it was built");
        return Err(match host.slurm.release {
            Some(_) => warning(what).task("install the build for this Slurm"),
            None => unknown(format!("{shown}: it is not known which Slurm runs here")),
        });
    };
    if year_and_month(&built) != year_and_month(running) {
        return Err(failed(format!("{shown} is for Slurm {built}, and this is Slurm {running}"))
            .task(format!("install the build for Slurm {running} by rename (install, then mv)")));
    }
    Ok(vec![ok(format!("{shown}, for Slurm {built}"))])
}

fn built_for(plugin: &[u8]) -> Option<String> {
    let at = plugin.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let release = plugin[at..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.');
    let release: String = release.map(|b| char::from(*b)).collect();
    year_and_month(&release).map(|_| release)
}

/// A line of plugstack.conf that names our plugin.
struct Entry {
    file: PathBuf,
    required: bool,
    plugin: PathBuf,
}

pub(super) fn plugstack(host: &Host) -> Look {
    let file = plugstack_file(host);
    let shown = file.display();
    let entries = entries(host)?;
    udi_store::site::check(&file).map_err(|error| of_error(&error))?;
    let Some(entry) = entries.last() else {
        let run = format!("echo 'required shifter.so' >>{}", quoted(&file));
        return Err(failed(format!("{shown} does not name shifter.so")).run(run));
    };
    if entries.len() > 1 {
        let what = format!("{shown} names shifter.so {} times", entries.len());
        return Err(warning(what).task("leave one line"));
    }
    udi_store::site::check(&entry.file).map_err(|error| of_error(&error))?;
    if !entry.required {
        let script = r"s/^\s*optional\(\s.*shifter\.so\)/required\1/";
        let what = "shifter.so is optional: a job whose image fails runs on the bare host";
        return Err(failed(what).run(format!("sed -i '{script}' {}", quoted(&entry.file))));
    }
    Ok(vec![ok(format!("{}: required {}", entry.file.display(), entry.plugin.display()))])
}

/// Where it is: on nodes without configuration of their own slurmd keeps a copy.
fn plugstack_file(host: &Host) -> PathBuf {
    let set = host.slurm.setting("PlugStackConfig").unwrap_or("/etc/slurm/plugstack.conf");
    let spool = host.slurm.setting("SlurmdSpoolDir").unwrap_or("/var/spool/slurmd");
    let copies =
        ["/run/slurm/conf/plugstack.conf".into(), format!("{spool}/conf-cache/plugstack.conf")];
    let copy = copies.iter().map(PathBuf::from).find(|copy| copy.exists());
    if Path::new(set).exists() { set.into() } else { copy.unwrap_or_else(|| set.into()) }
}

fn entries(host: &Host) -> Result<Vec<Entry>, Finding> {
    let first = plugstack_file(host);
    let mut todo = vec![first.clone()];
    let mut entries = Vec::new();
    let mut seen = 0;
    while let Some(file) = todo.pop() {
        seen += 1;
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if file == first => {
                return Err(failed(format!("{}: {error}", file.display()))
                    .run(format!("echo 'required shifter.so' >>{}", quoted(&file))));
            }
            // What is included need not be there.
            Err(_) => continue,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("include"), Some(pattern)) if seen < MOST_FILES => {
                    todo.extend(matching(&file, pattern));
                }
                (Some(word @ ("required" | "optional")), Some(plugin))
                    if Path::new(plugin).file_name().is_some_and(|name| name == "shifter.so") =>
                {
                    entries.push(Entry {
                        file: file.clone(),
                        required: word == "required",
                        plugin: plugin.into(),
                    });
                }
                _ => {}
            }
        }
    }
    Ok(entries)
}

/// The files that `pattern`, which may have one `*` in its last part, stands for.
fn matching(file: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern);
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((start, end)) = name.split_once('*') else { return vec![pattern] };
    let directory = pattern.parent().unwrap_or(Path::new("/"));
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = names
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_libraries_is_told_from_one_that_does_not() {
        // Every test is linked dynamically.
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(needs_libraries(&own));
        for other in [&b""[..], b"#!/bin/sh\n", &own[..64], &[0xff; 128]] {
            assert!(!needs_libraries(other));
        }
    }

    #[test]
    fn a_plugin_says_what_it_was_built_for() {
        let file = b"\x7fELF\0plugin built for Slurm 24.11.5\0\0more";
        assert_eq!(built_for(file).as_deref(), Some("24.11.5"));
        for nothing in [&b"plugin built for Slurm \0"[..], b"plugin built for", b"", b"x"] {
            assert_eq!(built_for(nothing), None);
        }
    }

    #[test]
    fn includes_are_found_as_slurm_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("plugstack.conf");
        for name in ["a.conf", "b.conf", "b.conf.old"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = |pattern: &str| {
            let names = matching(&conf, pattern);
            let names = names.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(found("*.conf"), ["a.conf", "b.conf"]);
        assert_eq!(found("b*"), ["b.conf", "b.conf.old"]);
        assert_eq!(found(dir.path().join("x").to_str().unwrap()), ["x"]);
    }
}
