//! What the vendors' hooks would do, done as data: no program of theirs is run, least of all as
//! root on files of an image.

use super::spec::SpecHook;
use crate::GuestPath;

/// What a hook asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Links: what each says, and where it is.
    Links(Vec<(String, GuestPath)>),
    /// Directories whose libraries programs shall find.
    Libraries(Vec<GuestPath>),
    /// Nothing that jobs need here.
    Nothing,
    /// Nobody knows: the name by which the site may say that it can be left out.
    Unknown(String),
}

/// What jobs do not need here.
///
/// - `chmod`: on directories of `/dev`, which is the host's.
/// - `disable-device-node-modification`: no job could make a device node.
/// - `update-application-profile`: hides what the device cgroup closes from EGL and Vulkan.
/// - `enable-cuda-compat`: takes the image's own CUDA libraries where they are newer than the
///   driver; the user does that by a variable (docs/users.md).
const NEEDLESS: [&str; 5] = [
    "chmod",
    "disable-device-node-modification",
    "update-application-profile",
    "enable-cuda-compat",
    "cudacompat",
];

/// The tools whose hooks these are.
const TOOLS: [&str; 3] = ["nvidia-cdi-hook", "nvidia-ctk", "amd-ctk"];

/// Why a hook that should be understood is not.
pub(super) fn wish(hook: &SpecHook) -> Result<Wish, String> {
    let tool = hook.path.rsplit('/').next().unwrap_or_default();
    let mut words = hook.args.iter().map(String::as_str).skip(1).skip_while(|word| *word == "hook");
    let name = words.next().unwrap_or_default();
    if !TOOLS.contains(&tool) {
        return Ok(Wish::Unknown(tool.to_owned()));
    }
    let place = |text: &str| GuestPath::parse(text).map_err(|error| error.what());
    match name {
        "create-symlinks" => values(words, "--link")?
            .into_iter()
            .map(|text| match text.split_once("::") {
                Some((target, link)) if !target.is_empty() && !target.contains('\0') => {
                    Ok((target.to_owned(), place(link)?))
                }
                _ => Err(format!("{name}: {text}: not TARGET::LINK")),
            })
            .collect::<Result<_, _>>()
            .map(Wish::Links),
        "update-ldcache" | "create-soname-symlinks" => values(words, "--folder")?
            .into_iter()
            .map(place)
            .collect::<Result<_, _>>()
            .map(Wish::Libraries),
        known if NEEDLESS.contains(&known) => Ok(Wish::Nothing),
        unknown => Ok(Wish::Unknown(unknown.to_owned())),
    }
}

/// The values of the option `wanted`; of others, the one that is known (`--ldconfig-path`) names a
/// program that we do not run.
fn values<'a>(words: impl Iterator<Item = &'a str>, wanted: &str) -> Result<Vec<&'a str>, String> {
    let mut found = Vec::new();
    let mut words = words;
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (word, words.next()),
        };
        match value {
            Some(value) if option == wanted => found.push(value),
            Some(_) if option == "--ldconfig-path" => {}
            _ => return Err(format!("hook: the argument {word} is not known here")),
        }
    }
    Ok(found)
}
