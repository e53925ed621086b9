//! The command line of the original.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::process::Command;

use crate::Refusal;

pub(crate) const HELP: &str = "\
usage: shifter [OPTION...] [--] PROGRAM [ARGUMENT...]
Runs PROGRAM in the image of this job: for scripts that were written for the original Shifter.
In new ones `srun PROGRAM` alone does it.

  -i, --image=NAME         the image: outside of one; inside it must be the one it is in
  -V, --volume=FROM:TO     a directory of the host inside, likewise
  -m, --module=NAME        a module of the site, likewise
  -e, --env=NAME=VALUE     sets a variable for PROGRAM
  -w, --workdir=DIR        starts in DIR
      --entrypoint=WORD    runs WORD with PROGRAM as its argument
  -h, --help               this
";

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Help,
    Run(Box<Run>),
}

/// A program, and how it shall run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) image: Option<String>,
    pub(crate) volumes: Vec<String>,
    pub(crate) modules: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) clear_env: bool,
    /// Asked for; and a word in the place of the image's.
    pub(crate) entrypoint: Option<Option<String>>,
    /// Asked for; and the directory, if not the image's.
    pub(crate) workdir: Option<Option<String>>,
    pub(crate) words: Vec<OsString>,
}

/// The long name of each option, its short one, and whether it has a value.
const OPTIONS: [(&str, char, Value); 12] = [
    ("image", 'i', Value::Must),
    ("volume", 'V', Value::Must),
    ("module", 'm', Value::Must),
    ("env", 'e', Value::Must),
    ("env-file", '\0', Value::Must),
    ("clearenv", 'E', Value::None),
    ("entrypoint", '\0', Value::May),
    ("entry", '\0', Value::May),
    ("workdir", 'w', Value::May),
    ("verbose", 'v', Value::None),
    ("help", 'h', Value::None),
    ("version", '\0', Value::None),
];

#[derive(Clone, Copy, PartialEq)]
enum Value {
    None,
    May,
    Must,
}

/// Options end at the first word that is none, or behind `--`.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Asked, Refusal> {
    let mut rest = VecDeque::from(args);
    let mut run = Run::default();
    while let Some(word) = rest.front().and_then(|word| word.to_str()).map(str::to_owned) {
        if word == "-" || !word.starts_with('-') {
            break;
        }
        rest.pop_front();
        if word == "--" {
            break;
        }
        let mut given = named(&word)?;
        while let Some((name, value, more)) = given {
            let value = match value {
                Value::None => None,
                Value::May => more.clone(),
                Value::Must => Some(match &more {
                    Some(more) => more.clone(),
                    None => rest
                        .pop_front()
                        .and_then(|value| value.into_string().ok())
                        .ok_or_else(|| wrong(&word, "its value is missing"))?,
                }),
            };
            if matches!(name, "help" | "version") {
                return Ok(Asked::Help);
            }
            run.take(name, value)?;
            // `-vE` is `-v -E`.
            let is_flags = !word.starts_with("--")
                && OPTIONS.iter().any(|o| o.0 == name && o.2 == Value::None);
            given = match more.filter(|more| is_flags && !more.is_empty()) {
                Some(more) => named(&format!("-{more}"))?,
                None => None,
            };
        }
    }
    run.words = rest.into();
    Ok(Asked::Run(Box::new(run)))
}

/// An option's name, whether it has a value, and what stands in the same word.
type Given = (&'static str, Value, Option<String>);

fn named(word: &str) -> Result<Option<Given>, Refusal> {
    let unknown = || wrong(word, "there is no such option");
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let known = OPTIONS.iter().find(|option| option.0 == name).ok_or_else(unknown)?;
        if known.2 == Value::None && value.is_some() {
            return Err(wrong(word, "it has no value"));
        }
        return Ok(Some((known.0, known.2, value)));
    }
    let mut letters = word.chars().skip(1);
    let letter = letters.next().filter(|letter| *letter != '\0');
    let known = OPTIONS.iter().find(|option| Some(option.1) == letter).ok_or_else(unknown)?;
    let more: String = letters.collect();
    Ok(Some((known.0, known.2, Some(more).filter(|more| !more.is_empty()))))
}

impl Run {
    fn take(&mut self, name: &str, value: Option<String>) -> Result<(), Refusal> {
        let given = value.clone().unwrap_or_default();
        let list = |separator| {
            let parts = given.split(separator).filter(|part: &&str| !part.is_empty());
            parts.map(str::to_owned).collect::<Vec<_>>()
        };
        match name {
            "image" => self.image = value,
            "volume" => self.volumes.extend(list(';')),
            "module" => self.modules = list(','),
            "env" => match given.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    self.env.push((name.to_owned(), value.to_owned()));
                }
                _ => return Err(wrong(&format!("--env={given}"), "it is not NAME=VALUE")),
            },
            "env-file" => {
                return Err((
                    format!("--env-file={given}: files of variables are not read"),
                    "set them by --env=NAME=VALUE, or before srun as SHIFTERENV_NAME=VALUE".into(),
                ));
            }
            "clearenv" => self.clear_env = true,
            "entrypoint" | "entry" => self.entrypoint = Some(value),
            "workdir" => self.workdir = Some(value),
            _ => {}
        }
        Ok(())
    }

    /// The words to execute: behind the one that was given for the entrypoint; a shell if there
    /// are none.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let entrypoint = self.entrypoint.iter().flatten().map(OsString::from);
        let words: Vec<OsString> = entrypoint.chain(self.words.iter().cloned()).collect();
        if words.is_empty() { vec!["/bin/sh".into()] } else { words }
    }

    /// The command that these words are.
    pub(crate) fn command(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(words.first().cloned().unwrap_or_default());
        command.args(words.iter().skip(1));
        command
    }
}

fn wrong(word: &str, why: &str) -> Refusal {
    (format!("{word}: {why}"), "shifter --help lists the options".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Run, Refusal> {
        match parse(args.iter().map(OsString::from).collect())? {
            Asked::Run(run) => Ok(*run),
            Asked::Help => panic!("help"),
        }
    }

    #[test]
    fn options_end_where_the_program_begins() {
        let run = parsed(&["-i", "a:1", "./a.out", "--image=b", "-v"]).unwrap();
        assert_eq!(run.image.as_deref(), Some("a:1"));
        assert_eq!(run.words(), ["./a.out", "--image=b", "-v"]);
        assert_eq!(parsed(&["--", "-v"]).unwrap().words(), ["-v"]);
        assert_eq!(parsed(&[]).unwrap().words(), ["/bin/sh"]);
    }

    #[test]
    fn short_and_long_spellings_are_the_same() {
        let long = [
            "--image=a",
            "--volume=/a:/b;/c:/d",
            "--module=x,y",
            "--env=A=b=c",
            "--clearenv",
            "--workdir=/w",
            "p",
        ];
        let short = ["-ia", "-V/a:/b", "-V", "/c:/d", "-mx,y", "-eA=b=c", "-vE", "-w/w", "p"];
        let run = parsed(&long).unwrap();
        assert_eq!(run, parsed(&short).unwrap());
        assert_eq!(run.volumes, ["/a:/b", "/c:/d"]);
        assert_eq!(run.env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(run.workdir, Some(Some("/w".into())));
        assert!(run.clear_env);
    }

    #[test]
    fn an_entrypoint_is_one_word_before_the_program() {
        assert_eq!(parsed(&["--entrypoint=/e x", "p"]).unwrap().words(), ["/e x", "p"]);
        assert_eq!(parsed(&["--entrypoint", "p"]).unwrap().entrypoint, Some(None));
    }

    #[test]
    fn what_is_no_option_is_told() {
        for (args, why) in [
            (&["--imag=a"][..], "--imag=a: there is no such option"),
            (&["-x"], "-x: there is no such option"),
            (&["--image"], "--image: its value is missing"),
            (&["--clearenv=1"], "--clearenv=1: it has no value"),
            (&["-e", "A"], "--env=A: it is not NAME=VALUE"),
            (&["--env-file=f"], "--env-file=f: files of variables are not read"),
        ] {
            assert_eq!(parsed(args).unwrap_err().0, why);
        }
    }
}
