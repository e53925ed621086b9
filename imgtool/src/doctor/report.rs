//! What was seen, for people and for programs.

use serde::{Deserialize, Serialize};
use serde_json::json;

use udi::{Error, Result};

use super::host::Host;
use crate::show::{pretty, print, printable};
use crate::table::terminal_width;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    /// Jobs run, but not as well as they could.
    Warning,
    /// Jobs with an image fail, or something is open that must be closed.
    Failed,
    /// It could not be looked at.
    Unknown,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finding {
    pub(super) state: State,
    pub(super) what: String,
    /// A command that repairs it, as root.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) run: Option<String>,
    /// What to do, where no one command does it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none", default)]
    pub(super) task: Option<String>,
}

fn finding(state: State, what: impl Into<String>) -> Finding {
    Finding { state, what: what.into(), run: None, task: None }
}

pub(super) fn ok(what: impl Into<String>) -> Finding {
    finding(State::Ok, what)
}

pub(super) fn warning(what: impl Into<String>) -> Finding {
    finding(State::Warning, what)
}

pub(super) fn failed(what: impl Into<String>) -> Finding {
    finding(State::Failed, what)
}

/// What an ordinary user cannot see.
pub(super) fn for_root(what: impl Into<String>) -> Finding {
    finding(State::Unknown, format!("{}: only root can tell", what.into()))
}

/// What cannot be judged because of something else that failed.
pub(super) fn unknown(what: impl Into<String>) -> Finding {
    finding(State::Unknown, what)
}

/// A failure that our own code describes.
pub(super) fn of_error(error: &Error) -> Finding {
    let found = failed(error.what());
    let steps = error.next_steps();
    let Some(hint) = steps.first().and_then(|step| step.strip_prefix("hint: ")) else {
        return found;
    };
    // "chown …, or change …": the first is a command.
    let first = hint.split(", or ").next().unwrap_or(hint);
    if ["chown ", "chmod "].iter().any(|command| first.starts_with(command)) {
        found.run(first)
    } else {
        found.task(hint)
    }
}

impl Finding {
    pub(super) fn run(mut self, command: impl Into<String>) -> Self {
        self.run = Some(command.into());
        self
    }

    pub(super) fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }
}

/// The findings so far: printed as they come, or together as JSON.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    head: serde_json::Value,
    checks: Vec<serde_json::Value>,
    states: Vec<State>,
}

impl Report {
    pub(super) fn new(json: bool, host: &Host) -> Result<Self> {
        let head = json!({ "host": host.name, "roles": host.roles, "slurm": host.slurm.release });
        if !json {
            print(&host.title())?;
        }
        Ok(Self { json, head, checks: Vec::new(), states: Vec::new() })
    }

    pub(super) fn add(&mut self, check: &str, findings: Vec<Finding>) -> Result<()> {
        for finding in findings {
            self.states.push(finding.state);
            if self.json {
                let mut value = json!(finding);
                value["check"] = json!(check);
                self.checks.push(value);
            } else {
                print(&lines(check, &finding, terminal_width()).join("\n"))?;
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<()> {
        let count = |state| self.states.iter().filter(|s| **s == state).count();
        let [ok, warning, failed, unknown] =
            [State::Ok, State::Warning, State::Failed, State::Unknown].map(count);
        if self.json {
            self.head["checks"] = json!(self.checks);
            self.head["failed"] = json!(failed);
            return print(&pretty(&self.head)?);
        }
        let mut end = format!("{ok} ok");
        for (number, word) in [(warning, "warning"), (failed, "failed"), (unknown, "unknown")] {
            if number > 0 {
                end += &format!(", {number} {word}");
            }
        }
        if self.checks_need_root() {
            end += "; run it as root to see the rest";
        }
        print(&end)
    }

    fn checks_need_root(&self) -> bool {
        let root = nix::unistd::Uid::current().is_root();
        !root && self.states.contains(&State::Unknown)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.states.contains(&State::Failed)
    }
}

/// Columns before what was seen.
const INDENT: usize = 25;

fn lines(check: &str, finding: &Finding, width: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = format!("{:<8} {check:<15} ", finding.state.word());
    // A word too long for the terminal is left as it is: a path can then still be copied.
    let width = width.unwrap_or(usize::MAX).max(INDENT + 20);
    let what = printable(&finding.what);
    for word in what.split(' ') {
        let used = line.chars().count();
        if used > INDENT && used + word.chars().count() > width {
            lines.push(line.trim_end().to_owned());
            line = " ".repeat(INDENT);
        }
        line += word;
        line.push(' ');
    }
    lines.push(line.trim_end().to_owned());
    lines.extend(finding.run.iter().map(|run| format!("         run: {}", printable(run))));
    lines.extend(finding.task.iter().map(|task| format!("         to do: {}", printable(task))));
    lines
}

/// `text` as one word of a shell's command.
pub(super) fn quoted(text: impl AsRef<std::path::Path>) -> String {
    let text = text.as_ref().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ok_has_its_remedy_on_a_line_of_its_own_however_long() {
        let finding = failed("others than its owner can write the image store /shared/shifter")
            .run("chmod go-w /shared/shifter");
        assert_eq!(
            lines("store", &finding, Some(60)),
            [
                "failed   store           others than its owner can write the",
                "                         image store /shared/shifter",
                "         run: chmod go-w /shared/shifter",
            ]
        );
        assert_eq!(lines("store", &finding, None).len(), 2);
    }

    #[test]
    fn a_hint_that_is_a_command_can_be_run() {
        let error = Error::admin("x").hint("chown shifter /s, or change store.owner");
        assert_eq!(of_error(&error), failed("x").run("chown shifter /s"));
        let error = Error::admin("x").hint("create it");
        assert_eq!(of_error(&error), failed("x").task("create it"));
        assert_eq!(of_error(&Error::admin("x")), failed("x"));
    }

    #[test]
    fn words_for_the_shell_stay_one_word() {
        for (text, word) in [("/a/b-1.c", "/a/b-1.c"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'")]
        {
            assert_eq!(quoted(text), word);
        }
    }
}
