//! Inside an image: what was asked for is there already, or it is too late.

use std::env::var;
use std::ffi::OsString;
use std::process::Command;

use crate::Refusal;
use crate::options::Run;

/// What the SPANK plugin leaves for us: words to execute before our own arguments.
const WORDS: &str = "SHIFTER_ARGV_";

/// Whether this process is in an image.
pub(crate) fn is_here() -> bool {
    var("SHIFTER_RUNTIME").is_ok_and(|says| says == "1")
}

/// The image's entrypoint and the command behind it, if that is why we run.
pub(crate) fn entrypoint(args: &[OsString]) -> Option<Command> {
    let word = |nth: usize| std::env::var_os(format!("{WORDS}{nth}"));
    let words: Vec<OsString> = (0..).map_while(word).collect();
    let (program, first) = words.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let mut command = Command::new(program);
    command.args(first).args(args);
    for nth in 0..words.len() {
        command.env_remove(format!("{WORDS}{nth}"));
    }
    Some(command)
}

/// The command, if the image and what is in it are what was asked for.
pub(crate) fn command(run: &Run) -> Result<Command, Refusal> {
    let here = var("SHIFTER_IMAGEREQUEST").unwrap_or_default();
    let digest = var("SHIFTER_IMAGE").unwrap_or_default();
    if let Some(image) = run.image.as_deref().filter(|image| !is_same(image, &here, &digest)) {
        return Err((
            format!("--image={image}: this step is in {here} already"),
            format!("choose the image by srun: srun --image={image} ./program"),
        ));
    }
    let volumes = var("SLURM_SHIFTER_VOLUME").unwrap_or_default();
    let volumes: Vec<String> = volumes.split(';').map(plain).collect();
    check("volume", &run.volumes, |volume| volumes.contains(&plain(volume)))?;
    // Each with a hash behind it; the site's defaults and what modules require are among them.
    let modules = var("SHIFTER_MODULES").unwrap_or_default();
    let modules: Vec<&str> = modules.split(',').filter_map(|it| it.split('@').next()).collect();
    check("module", &run.modules, |name| name == "none" || modules.contains(&name))?;
    for (is_asked, option, instead) in [
        (run.clear_env, "clearenv", "--export=NONE"),
        (run.entrypoint == Some(None), "entrypoint", "--image-entrypoint"),
        (run.workdir == Some(None), "workdir", "--image-workdir=image"),
    ] {
        if is_asked {
            return Err((
                format!("--{option}: too late, for the program is in the image already"),
                format!("give it to srun: srun {instead} ./program"),
            ));
        }
    }
    let mut command = run.command();
    command.envs(run.env.iter().map(|(name, value)| (name, value)));
    if let Some(Some(directory)) = &run.workdir {
        // Before the program is looked up: it may be named from there.
        std::env::set_current_dir(directory).map_err(|error| {
            (format!("--workdir={directory}: {error}"), "name a directory that is inside".into())
        })?;
    }
    Ok(command)
}

fn check(option: &str, asked: &[String], has: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    match asked.iter().find(|one| !has(one)) {
        None => Ok(()),
        Some(one) => Err((
            format!("--{option}={one}: this step does not have it"),
            format!("give it to srun or #SBATCH: srun --{option}={one} ./program"),
        )),
    }
}

/// A volume without the slashes that say nothing.
fn plain(volume: &str) -> String {
    let mut plain = String::new();
    for letter in volume.chars() {
        let is_idle = plain.ends_with('/') && plain.len() > 1 && !plain.ends_with(":/");
        match letter {
            '/' if plain.ends_with('/') => {}
            ':' if is_idle => plain.replace_range(plain.len() - 1.., ":"),
            letter => plain.push(letter),
        }
    }
    if plain.ends_with('/') && !plain.ends_with(":/") {
        plain.pop();
    }
    plain
}

/// Whether the image that somebody typed is the one that we are in: its full name is `here`.
fn is_same(typed: &str, here: &str, digest: &str) -> bool {
    if typed == here {
        return true;
    }
    if let Some(id) = typed.strip_prefix("id:") {
        return id == digest || format!("sha256:{id}") == digest;
    }
    let plain = |name: &str| name.strip_prefix("docker:").unwrap_or(name).to_owned();
    let (mut typed, here) = (plain(typed), plain(here));
    if let Some((name, of)) = typed.clone().split_once('@') {
        // What the digest is of does not depend on the tag.
        if of != digest {
            return false;
        }
        typed = name.to_owned();
    }
    if !typed.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
        typed.push_str(":latest");
    }
    let in_registry = here.split_once('/').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    typed == here || typed == in_registry || format!("library/{typed}") == in_registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_each_of_its_names_and_by_no_other() {
        let same = |typed, here| is_same(typed, here, "sha256:aa");
        let ubuntu = "docker:docker.io/library/ubuntu:14.04";
        for typed in [
            "ubuntu:14.04",
            "docker:ubuntu:14.04",
            "docker:docker.io/library/ubuntu:14.04",
            "library/ubuntu:14.04",
            "id:sha256:aa",
            "id:aa",
            "ubuntu:14.04@sha256:aa",
            "docker:docker.io/library/ubuntu:14.04@sha256:aa",
        ] {
            assert!(same(typed, ubuntu), "{typed}");
        }
        for typed in ["ubuntu", "ubuntu:16.04", "bob/ubuntu:14.04", "buntu:14.04", "id:ab", ""] {
            assert!(!same(typed, ubuntu), "{typed}");
        }
        assert!(!same("ubuntu:14.04@sha256:ab", ubuntu));
        assert!(!same("ubuntu:14.04", "docker:docker.io/bob/ubuntu:14.04"));
        assert!(same("nginx", "docker:docker.io/library/nginx:latest"));
        assert!(same("local:/srv/a", "local:/srv/a"));
    }

    #[test]
    fn what_the_step_lacks_is_told() {
        let volumes = ["/a:/b".to_owned()];
        check("volume", &volumes, |volume| volume == "/a:/b").unwrap();
        let (what, hint) = check("volume", &volumes, |_| false).unwrap_err();
        assert_eq!(what, "--volume=/a:/b: this step does not have it");
        assert!(hint.contains("srun --volume=/a:/b ./program"), "{hint}");
    }

    #[test]
    fn slashes_that_say_nothing_make_no_other_volume() {
        for same in ["/a/b:/c", "/a//b/:/c/", "//a/b:/c//"] {
            assert_eq!(plain(same), "/a/b:/c");
        }
        assert_eq!(plain("/a/b:/c/:ro"), "/a/b:/c:ro");
        assert_eq!(plain("/:/c"), "/:/c");
        assert_eq!(plain("/a:/"), "/a:/");
    }
}
