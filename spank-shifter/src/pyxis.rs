//! pyxis' names for options of ours, for users who come from there, where the site says so:
//! `required shifter.so container-options` in plugstack.conf.
//!
//! It is said there, and not in `shifter.toml`, because options are registered before anything
//! else, in every command and step, with an image or without: that must neither cost anything nor
//! depend on a file that may be broken.

use slurm::spank::{Argument, Opt, Spank};
use udi::{Error, Result, Word};

/// The argument in plugstack.conf.
const SWITCH: &str = "container-options";

/// What `srun --help` shows of them.
pub(crate) const IMAGE: Opt = Opt {
    name: "container-image",
    argument: Argument::Required,
    arginfo: "[REGISTRY#]IMAGE[:TAG]",
    usage: "as --image, in the way of pyxis",
};
pub(crate) const MOUNTS: Opt = Opt {
    name: "container-mounts",
    argument: Argument::Required,
    arginfo: "SRC:DST[:FLAGS][,SRC:DST...]",
    usage: "as --volume, in the way of pyxis",
};
pub(crate) const WORKDIR: Opt = Opt {
    name: "container-workdir",
    argument: Argument::Required,
    arginfo: "PATH",
    usage: "as --image-workdir, in the way of pyxis",
};

/// A value that has no meaning here: what is wrong, and what to do.
pub(crate) type Mistake = (String, &'static str);

/// Whether the site wants `option`.
pub(crate) fn offers(spank: &Spank<'_>, option: &Opt) -> bool {
    word(option.name).is_none() || spank.args().iter().any(|arg| arg == SWITCH)
}

/// Refuses arguments in plugstack.conf that mean nothing.
pub(crate) fn check_arguments(spank: &Spank<'_>) -> Result<()> {
    match spank.args().into_iter().find(|arg| arg != SWITCH) {
        None => Ok(()),
        Some(arg) => Err(Error::admin(format!(
            "plugstack.conf: {}: shifter.so has no such argument",
            arg.display()
        ))
        .hint(format!("there is one: {SWITCH}"))),
    }
}

/// The word of ours that an option of pyxis' says.
pub(crate) fn word(name: &str) -> Option<Word> {
    [(&IMAGE, Word::Image), (&MOUNTS, Word::Volume), (&WORKDIR, Word::Workdir)]
        .into_iter()
        .find_map(|(option, word)| (option.name == name).then_some(word))
}

/// What `value` is in our own words.
pub(crate) fn translated(word: Word, value: &str) -> std::result::Result<String, Mistake> {
    match word {
        Word::Image => image(value),
        Word::Volume => {
            let volumes: std::result::Result<Vec<_>, _> = value.split(',').map(mount).collect();
            Ok(volumes?.join(";"))
        }
        _ => Ok(value.to_owned()),
    }
}

fn image(value: &str) -> std::result::Result<String, Mistake> {
    let wrong = |why: &str| format!("--container-image={value}: {why}");
    let name = value.strip_prefix("docker://").unwrap_or(value);
    if name.contains("://") {
        return Err((
            wrong("not an image of a registry"),
            "import it: shifterimg import SOURCE NAME",
        ));
    }
    if name.starts_with(['/', '.']) {
        return Err((
            wrong("files are no images here"),
            "import it, for example shifterimg import squashfs:FILE NAME, and use the name",
        ));
    }
    let Some((registry, rest)) = name.split_once('#') else { return Ok(name.to_owned()) };
    if registry.contains('@') {
        return Err((
            wrong("a login does not belong here"),
            "log in once: shifterimg login REGISTRY",
        ));
    }
    Ok(format!("docker:{registry}/{rest}"))
}

fn mount(value: &str) -> std::result::Result<String, Mistake> {
    let wrong = |why: String| format!("--container-mounts={value}: {why}");
    let plain = |path: &str| path.replace('\\', "\\\\").replace(';', "\\;");
    let mut parts = value.split(':');
    let (from, to) = (parts.next().unwrap_or_default(), parts.next());
    let (flags, more) = (parts.next(), parts.next());
    let to = to.unwrap_or(from);
    if more.is_some() {
        return Err((wrong("too many colons".into()), "write SRC:DST or SRC:DST:FLAGS"));
    }
    if from == "tmpfs" {
        return match flags.and_then(|flags| flags.strip_prefix("size=")) {
            Some(size) => Ok(format!("none:{}:tmpfs=size={size}", plain(to))),
            None => Err((wrong("how large?".into()), "say it, for example tmpfs:/scratch:size=1G")),
        };
    }
    let mut volume = format!("{}:{}", plain(from), plain(to));
    for flag in flags.into_iter().flat_map(|flags| flags.split('+')) {
        match flag {
            "ro" => volume.push_str(":ro"),
            // So it is here, always.
            "rw" | "bind" | "rbind" | "nosuid" | "nodev" | "slave" | "rslave" => {}
            _ => {
                let hint = "only ro and rw make a difference here: leave the others out";
                return Err((wrong(format!("{flag} means nothing here")), hint));
            }
        }
    }
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_ours_in_other_words() {
        for (theirs, ours) in [
            ("ubuntu:24.04", "ubuntu:24.04"),
            ("docker://ubuntu:24.04", "ubuntu:24.04"),
            ("nvcr.io#nvidia/pytorch:20.02-py3", "docker:nvcr.io/nvidia/pytorch:20.02-py3"),
            ("docker://registry.example.org:5000#a/b", "docker:registry.example.org:5000/a/b"),
            ("none", "none"),
        ] {
            assert_eq!(translated(Word::Image, theirs).unwrap(), ours);
        }
        for wrong in ["/data/x.sqsh", "./x.sqsh", "dockerd://a", "docker://me@nvcr.io#a:1"] {
            let (what, hint) = translated(Word::Image, wrong).unwrap_err();
            assert!(what.starts_with(&format!("--container-image={wrong}: ")), "{what}");
            assert!(hint.contains("shifterimg"), "{hint}");
        }
    }

    #[test]
    fn mounts_are_volumes_in_other_words() {
        for (theirs, ours) in [
            ("/a:/b", "/a:/b"),
            ("/home", "/home:/home"),
            ("/a:/b:ro,/c:/d:rw", "/a:/b:ro;/c:/d"),
            ("/a:/b:ro+rslave+nosuid", "/a:/b:ro"),
            ("/my data;x:/d", "/my data\\;x:/d"),
            ("tmpfs:/mem:size=1G", "none:/mem:tmpfs=size=1G"),
        ] {
            assert_eq!(translated(Word::Volume, theirs).unwrap(), ours);
        }
        for wrong in ["/a:/b:ro:x", "/a:/b:unbindable", "/a:/b,tmpfs:/m"] {
            assert!(translated(Word::Volume, wrong).is_err(), "{wrong}");
        }
    }
}
