//! Errors say who must act.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything in this project that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Who must act on an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The person who typed the command: the message says what to type instead.
    User,
    /// The site: the message asks the user to pass it on.
    Admin,
    /// Us: a bug.
    Bug,
}

/// What went wrong, in the user's words, whose it is, and what to do next.
///
/// There is deliberately no `From<std::io::Error>`: a bare errno says neither what was
/// tried nor whose it is.
#[derive(Debug)]
pub struct Error {
    blame: Blame,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A mistake in what the user asked for.
    pub fn user(what: impl Into<String>) -> Self {
        Self::new(Blame::User, what.into())
    }

    /// A fault of the site's installation or configuration.
    pub fn admin(what: impl Into<String>) -> Self {
        Self::new(Blame::Admin, what.into())
    }

    /// A fault of this software.
    pub fn bug(what: impl Into<String>) -> Self {
        Self::new(Blame::Bug, what.into())
    }

    fn new(blame: Blame, what: String) -> Self {
        Self { blame, what, hint: None, source: None }
    }

    /// What to do next, as an imperative sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The lower-level error; its words are appended to the message.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `subject` before the message: what the user typed, or what was being done.
    #[must_use]
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.what = format!("{subject}{}", self.what);
        self
    }

    /// Who must act.
    pub fn blame(&self) -> Blame {
        self.blame
    }

    /// What happened, without the hint, on one line.
    pub fn what(&self) -> String {
        match &self.source {
            Some(source) => format!("{}: {source}", self.what),
            None => self.what.clone(),
        }
    }

    /// What to do next: the hint, and for a fault of the site or ours whom to tell.
    pub fn next_steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self.hint.iter().map(|h| format!("hint: {h}")).collect();
        match self.blame {
            Blame::User => {}
            Blame::Admin => steps.push(
                "This is a site problem: please send these lines to your HPC support.".into(),
            ),
            Blame::Bug => steps.push(
                "This is a bug in shifter: please send these lines to your HPC support.".into(),
            ),
        }
        steps
    }

    /// The message as lines, without a prefix: what happened, then what to do.
    ///
    /// Control characters (a user's input may hold terminal escapes) are shown escaped.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.what()];
        lines.extend(self.next_steps());
        lines.iter().map(|line| printable(line)).collect()
    }
}

/// `text` with control characters escaped, so that it is one line on any terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_mistake_says_what_to_type_instead() {
        let error = Error::user("--image=../x: not an image name").hint("use NAME:TAG");
        assert_eq!(error.blame(), Blame::User);
        assert_eq!(error.to_string(), "--image=../x: not an image name\nhint: use NAME:TAG");
    }

    #[test]
    fn a_site_fault_asks_the_user_to_pass_it_on() {
        let cause = std::io::Error::from_raw_os_error(2);
        let error = Error::admin("cannot read /etc/shifter/shifter.toml").because(cause);
        assert_eq!(
            error.lines(),
            [
                "cannot read /etc/shifter/shifter.toml: No such file or directory (os error 2)",
                "This is a site problem: please send these lines to your HPC support.",
            ]
        );
    }

    #[test]
    fn terminal_escapes_in_a_name_do_not_reach_the_terminal() {
        let error = Error::user("--image=\u{1b}[2Jx\n: no");
        assert!(!error.to_string().contains('\u{1b}'));
        assert_eq!(error.lines().len(), 1);
    }
}
