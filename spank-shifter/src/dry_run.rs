//! `--image-dry-run`: in the command, as the user, what would be where inside; nothing is run.

use std::io::Write;
use std::path::Path;

use slurm::spank::Spank;
use udi::{Config, Facts, Plan, Request, Result, Texts};

use crate::remote;

/// Prints the plan of a pinned request, or that there is none, and ends the command.
pub(crate) fn show(spank: &Spank<'_>, image: Option<(&Request, &Texts)>) -> Result<()> {
    let text = match image {
        None => "--image=none: it would run on the host\n".to_owned(),
        Some((request, texts)) => {
            let mut site = udi_store::site::load(Path::new(Config::PATH))?;
            // This host may have no such devices: then the plan names them, and no more.
            let _or_not = udi_mount::read_devices(&mut site, request);
            let user = udi_mount::own_user()?;
            let (image, variables) = (remote::base(request)?, remote::variables(spank, request)?);
            let is_set = |name: &&str| variables.contains_key(*name);
            let all_are_set = request.variables().iter().all(is_set);
            let facts = Facts { image, user, variables };
            let plan = Plan::make(request, &site, &facts).map_err(|error| match all_are_set {
                true => error,
                false => error.hint(
                    "a variable that only the job has, as of a burst buffer, can be set by hand for \
                     a dry run",
                ),
            })?;
            format!("{}\n\n{plan}", typed(texts))
        }
    };
    // Whoever closed the pipe has read enough.
    let _read_as_far_as_wanted = std::io::stdout().write_all(text.as_bytes());
    slurm::process::end(0)
}

/// The request as options that mean the same wherever they are typed.
fn typed(texts: &Texts) -> String {
    let given = texts.given().filter(|(_, text)| !text.is_empty());
    let options = given.map(|(word, text)| match word {
        flag if flag.is_flag() => format!("--{}", word.option()),
        _ => quoted(&format!("--{}={text}", word.option())),
    });
    options.collect::<Vec<_>>().join(" ")
}

/// `text` as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-:=,@+%".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''").replace(char::is_control, "?")),
    }
}

#[cfg(test)]
mod tests {
    use udi::Word;

    use super::*;

    #[test]
    fn what_is_shown_can_be_typed_again() {
        let mut texts = Texts::of("docker:r/a:1@sha256:ab", "/a b:/c;$X:/d", "m");
        texts.set(Word::Writable, Some(String::new()));
        texts.set(Word::Batch, Some("1".into()));
        let line =
            "--image=docker:r/a:1@sha256:ab '--volume=/a b:/c;$X:/d' --module=m --image-batch";
        assert_eq!(typed(&texts), line);
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
