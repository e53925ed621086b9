//! What the plugin and `shifter-check` say to each other, through pipes: a command line could be
//! read by every user of the controller's machine, and image names can be private.

use udi::{Blame, Digest};

/// What the plugin asks: may this user have this image, and which one is it?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The user that the job will run as.
    pub(crate) uid: u32,
    /// Its primary group.
    pub(crate) gid: u32,
    /// The image's name as the user wrote it.
    pub(crate) image: String,
}

/// What `shifter-check` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This image.
    Digest(Digest),
    /// No: whose fault it is, why, and what to do.
    No {
        /// Who must act.
        blame: Blame,
        /// What happened, on one line.
        what: String,
        /// What to do next, on one line.
        hint: Option<String>,
    },
}

/// Longer than any question or answer; less than a pipe holds, so that writing never waits.
pub(crate) const MAX_BYTES: usize = 4096;
/// Characters of a line, of four bytes at most.
const MAX_LINE: usize = 500;

impl Question {
    /// As text; a name has no newline.
    pub(crate) fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.uid, self.gid, self.image)
    }

    /// From text.
    #[allow(dead_code, reason = "the other end's")]
    pub(crate) fn parse(text: &str) -> Option<Question> {
        let mut lines = text.lines();
        let uid = lines.next()?.parse().ok()?;
        let gid = lines.next()?.parse().ok()?;
        let image = lines.next()?.to_owned();
        lines.next().is_none().then_some(Question { uid, gid, image })
    }
}

impl Answer {
    /// As text. The first line says what it is.
    #[allow(dead_code, reason = "the other end's")]
    pub(crate) fn to_text(&self) -> String {
        match self {
            Answer::Digest(digest) => format!("digest\n{digest}\n"),
            Answer::No { blame, what, hint } => {
                let whose = match blame {
                    Blame::User => "user",
                    Blame::Admin => "admin",
                    Blame::Bug => "bug",
                };
                let line = |text: &str| {
                    let text = text.replace(char::is_control, " ");
                    text.chars().take(MAX_LINE).collect::<String>()
                };
                let hint = hint.as_deref().map(line).unwrap_or_default();
                format!("{whose}\n{}\n{hint}\n", line(what))
            }
        }
    }

    /// From text; nothing if it is not whole.
    pub(crate) fn parse(text: &str) -> Option<Answer> {
        let [answer, first, rest @ ..] = &text.lines().collect::<Vec<_>>()[..] else {
            return None;
        };
        let blame = match *answer {
            "digest" => return first.parse().ok().map(Answer::Digest),
            "user" => Blame::User,
            "admin" => Blame::Admin,
            "bug" => Blame::Bug,
            _ => return None,
        };
        // A line for the hint is there even if it is empty: without it the end is missing.
        let hint = rest.first()?;
        let hint = (!hint.is_empty()).then(|| (*hint).to_owned());
        Some(Answer::No { blame, what: (*first).to_owned(), hint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let question = Question { uid: 1000, gid: 100, image: "docker:r/a:1".into() };
        assert_eq!(Question::parse(&question.to_text()), Some(question));
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let no = |blame, hint: Option<&str>| {
            let what = "there is no image a".into();
            Answer::No { blame, what, hint: hint.map(Into::into) }
        };
        for answer in [
            Answer::Digest(digest),
            no(Blame::User, Some("pull it")),
            no(Blame::Admin, None),
            no(Blame::Bug, None),
        ] {
            assert_eq!(Answer::parse(&answer.to_text()), Some(answer));
        }
    }

    #[test]
    fn half_of_an_answer_is_none() {
        for text in [
            "",
            "digest",
            "digest\n",
            "digest\nsha256:12",
            "user",
            "user\nx",
            "user\nx\n",
            "what\nx\n\n",
        ] {
            assert_eq!(Answer::parse(text), None, "{text:?}");
        }
        for text in ["", "1", "1\n2", "1\n2\na\nb\n", "x\n2\na\n"] {
            assert_eq!(Question::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_and_stays_one_line() {
        let what = format!("a\nb{}", "\u{1f980}".repeat(MAX_BYTES));
        let text =
            Answer::No { blame: Blame::User, what: what.clone(), hint: Some(what) }.to_text();
        assert!(text.len() <= MAX_BYTES, "{}", text.len());
        assert!(Answer::parse(&text).is_some());
    }
}
