//! Paths of the host that users name, with variables of their job in them.

use std::fmt;

use crate::VolumesConfig;

/// A path as the user typed it. What it names is decided on the node, where the variables have
/// their values, by opening it with the user's rights.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPath(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Text(String),
    /// The name of a variable of the job's environment.
    Variable(String),
}

/// The kernel's `PATH_MAX`.
const LONGEST: usize = 4095;

impl HostPath {
    /// Parses text in which a backslash keeps the character after it. `$NAME` and `${NAME}` are
    /// variables if the site has them; else they are text.
    pub(crate) fn parse(text: &str, site: &VolumesConfig) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\\' => {
                    if let Some(kept) = rest.chars().next() {
                        plain.push(kept);
                        rest = &rest[kept.len_utf8()..];
                    }
                }
                '$' => match variable(rest).filter(|(name, _)| site.has_variable(name)) {
                    Some((name, after)) => {
                        if !plain.is_empty() {
                            parts.push(Part::Text(std::mem::take(&mut plain)));
                        }
                        parts.push(Part::Variable(name.to_owned()));
                        rest = after;
                    }
                    None => plain.push(c),
                },
                c => plain.push(c),
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        let path = Self(parts);
        match path.0.first() {
            Some(Part::Variable(_)) => Ok(path),
            _ => check(&path.expand(|_| Some("x".into()))?).map(|()| path),
        }
    }

    /// The variables in it.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The path, if there is no variable in it.
    pub fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The path with the variables' values; why it is none.
    pub fn expand(&self, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Variable(name) => match value(name).filter(|value| !value.is_empty()) {
                    Some(value) => path.push_str(&value),
                    None => return Err(format!("{name} is not set in the job's environment")),
                },
            }
        }
        check(&path).map(|()| path)
    }
}

fn check(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("FROM must be an absolute path".into());
    }
    if path.contains(['\0', '\n']) || path.len() > LONGEST {
        return Err("FROM is not a path".into());
    }
    Ok(())
}

/// The name of a variable at the start of what follows `$`, and what comes after it.
fn variable(text: &str) -> Option<(&str, &str)> {
    let word = |text: &str| {
        let first = |b: &u8| b.is_ascii_alphabetic() || *b == b'_';
        let length = text.bytes().take_while(|b| first(b) || b.is_ascii_digit()).count();
        text.as_bytes().first().is_some_and(first).then_some(length)
    };
    match text.strip_prefix('{') {
        Some(inner) => {
            let (name, after) = inner.split_at(word(inner)?);
            Some((name, after.strip_prefix('}')?))
        }
        None => Some(text.split_at(word(text)?)),
    }
}

impl fmt::Display for HostPath {
    /// As `--volume=` takes it. A `$` that is text is escaped: it may be a variable elsewhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Variable(name) => write!(f, "${{{name}}}"),
            Part::Text(text) => text.chars().try_for_each(|c| match c {
                ':' | ';' | '\\' | '$' => write!(f, "\\{c}"),
                c => write!(f, "{c}"),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn site() -> VolumesConfig {
        VolumesConfig { variables: vec!["SCRATCH".into(), "BB_*".into()], ..Default::default() }
    }

    fn expanded(text: &str) -> Result<String, String> {
        let value = |name: &str| match name {
            "SCRATCH" => Some("/scratch/me".into()),
            "BB_EMPTY" => Some(String::new()),
            "BB_relative" => Some("mnt".into()),
            _ => None,
        };
        HostPath::parse(text, &site())?.expand(value)
    }

    #[test]
    fn the_sites_variables_are_expanded_and_others_are_text() {
        assert_eq!(expanded("$SCRATCH/data").unwrap(), "/scratch/me/data");
        assert_eq!(expanded("${SCRATCH}ed").unwrap(), "/scratch/meed");
        assert_eq!(expanded("/x/$HOME$").unwrap(), "/x/$HOME$");
        assert_eq!(expanded("/x/\\$SCRATCH").unwrap(), "/x/$SCRATCH");
        assert_eq!(expanded("/x/$SCRATCHED").unwrap(), "/x/$SCRATCHED");
    }

    #[test]
    fn a_variable_without_a_path_in_it_is_told() {
        for (text, why) in [
            ("$BB_NONE/x", "BB_NONE is not set in the job's environment"),
            ("$BB_EMPTY/x", "BB_EMPTY is not set"),
            ("$BB_relative/x", "must be an absolute path"),
            ("$HOME/x", "must be an absolute path"),
            ("", "must be an absolute path"),
        ] {
            let error = expanded(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_the_same(text in "/([a-z:;\\\\ é{}]|\\$SCRATCH|\\$BB_1|\\$HOME){0,8}") {
            if let Ok(path) = HostPath::parse(&text, &site()) {
                prop_assert_eq!(HostPath::parse(&path.to_string(), &site()).unwrap(), path);
            }
        }

        #[test]
        fn no_text_is_a_crash(text in "[$/\\\\a-z{}\\PC]{0,20}") {
            let _ = expanded(&text);
        }
    }
}
