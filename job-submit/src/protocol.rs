//! What the plugin and `shifter-check` say to each other, through pipes: a command line could be
//! read by every user of the controller's machine, and image names can be private.

use udi::{Blame, Digest};

/// What the plugin asks: may this user have these images, and which are they?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The user that the job will run as.
    pub(crate) uid: u32,
    /// Its primary group.
    pub(crate) gid: u32,
    /// The images' names as the user wrote them.
    pub(crate) images: Vec<String>,
}

/// What `shifter-check` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// These, in the order in which they were asked for.
    Digests(Vec<Digest>),
    /// No: whose fault it is, why, and what to do.
    No {
        /// Which of the images it is about.
        at: usize,
        /// Who must act.
        blame: Blame,
        /// What happened, on one line.
        what: String,
        /// What to do next, on one line.
        hint: Option<String>,
    },
}

/// Longer than any question or answer: a request may name many data images.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Characters of a line, of four bytes at most.
const MAX_LINE: usize = 500;

impl Question {
    /// As text; a name has no newline. The last line is empty: without it the end is missing.
    pub(crate) fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n\n", self.uid, self.gid, self.images.join("\n"))
    }

    /// From text.
    #[allow(dead_code, reason = "the other end's")]
    pub(crate) fn parse(text: &str) -> Option<Question> {
        let mut lines = text.lines();
        let uid = lines.next()?.parse().ok()?;
        let gid = lines.next()?.parse().ok()?;
        let mut images: Vec<String> = lines.map(str::to_owned).collect();
        let is_whole = images.pop()?.is_empty() && !images.is_empty();
        is_whole.then_some(Question { uid, gid, images })
    }
}

impl Answer {
    /// As text. The first line says what it is, and of how many or of which image.
    #[allow(dead_code, reason = "the other end's")]
    pub(crate) fn to_text(&self) -> String {
        match self {
            Answer::Digests(digests) => {
                let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
                format!("digests {}\n{lines}", digests.len())
            }
            Answer::No { at, blame, what, hint } => {
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
                format!("{whose} {at}\n{}\n{hint}\n", line(what))
            }
        }
    }

    /// From text; nothing if it is not whole.
    pub(crate) fn parse(text: &str) -> Option<Answer> {
        let mut lines = text.lines();
        let (answer, number) = lines.next()?.split_once(' ')?;
        let number: usize = number.parse().ok()?;
        let blame = match answer {
            "digests" => {
                let digests: Vec<Digest> = lines.map(str::parse).collect::<Result<_, _>>().ok()?;
                return (digests.len() == number).then_some(Answer::Digests(digests));
            }
            "user" => Blame::User,
            "admin" => Blame::Admin,
            "bug" => Blame::Bug,
            _ => return None,
        };
        let what = lines.next()?.to_owned();
        // A line for the hint is there even if it is empty: without it the end is missing.
        let hint = lines.next()?;
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Some(Answer::No { at: number, blame, what, hint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(letter: &str) -> Digest {
        format!("sha256:{}", letter.repeat(64)).parse().unwrap()
    }

    #[test]
    fn what_is_said_is_understood() {
        for images in [vec!["docker:r/a:1"], vec!["a", "b", "id:c"]] {
            let images = images.into_iter().map(str::to_owned).collect();
            let question = Question { uid: 1000, gid: 100, images };
            assert_eq!(Question::parse(&question.to_text()), Some(question));
        }
        let no = |at, blame, hint: Option<&str>| {
            let what = "there is no image a".into();
            Answer::No { at, blame, what, hint: hint.map(Into::into) }
        };
        for answer in [
            Answer::Digests(vec![digest("a")]),
            Answer::Digests(vec![digest("a"), digest("b")]),
            no(0, Blame::User, Some("pull it")),
            no(3, Blame::Admin, None),
            no(0, Blame::Bug, None),
        ] {
            assert_eq!(Answer::parse(&answer.to_text()), Some(answer));
        }
    }

    #[test]
    fn half_of_it_is_none() {
        let whole = Answer::Digests(vec![digest("a"), digest("b")]).to_text();
        for end in 0..whole.len() - 1 {
            assert_eq!(Answer::parse(&whole[..end]), None, "{:?}", &whole[..end]);
        }
        for text in
            ["", "digests", "digests x\n", "user", "user 0\nx", "user 0\nx\n", "what 0\nx\n\n"]
        {
            assert_eq!(Answer::parse(text), None, "{text:?}");
        }
        for text in ["", "1", "1\n2", "1\n2\n", "1\n2\n\n", "1\n2\na\nb\n", "x\n2\na\n\n"] {
            assert_eq!(Question::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_and_stays_one_line() {
        let what = format!("a\nb{}", "\u{1f980}".repeat(MAX_BYTES));
        let (blame, hint) = (Blame::User, Some(what.clone()));
        let text = Answer::No { at: 0, blame, what, hint }.to_text();
        assert!(text.len() <= 8 * MAX_LINE + 20, "{}", text.len());
        assert!(Answer::parse(&text).is_some());
    }
}
