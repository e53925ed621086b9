//! YAML as programs write it: the data of JSON in another dress.
//!
//! What only people write (references, tags, several documents in a file) is refused, and so is
//! what nests deeper than any spec: the text cannot become more than it is.

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// No spec nests as deep.
const DEEPEST: usize = 16;

/// A list or table that has not ended yet.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Table(Map<String, Value>, Option<String>),
}

/// The data in `text`; what is wrong with it, and in which line.
pub(super) fn value(text: &str) -> Result<Value, String> {
    let mut open: Vec<Open> = Vec::new();
    let mut whole = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let at = |what: &str| format!("line {}: {what}", span.start.line());
        let finished = match event {
            Event::Scalar(_, _, 1.., _)
            | Event::SequenceStart(_, 1.., _)
            | Event::MappingStart(_, 1.., _)
            | Event::Alias(_) => return Err(at("references are not known here")),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => return Err(at("tags are not known here")),
            Event::Scalar(text, style, ..) => {
                if let Some(Open::Table(_, key @ None)) = open.last_mut() {
                    *key = Some(text.into_owned());
                    continue;
                }
                match style {
                    ScalarStyle::Plain => plain(&text),
                    _ => Value::String(text.into_owned()),
                }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == DEEPEST => {
                return Err(at("nested too deep"));
            }
            Event::SequenceStart(..) | Event::MappingStart(..)
                if matches!(open.last(), Some(Open::Table(_, None))) =>
            {
                return Err(at("a key that is not text"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Table(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Table(table, _)) => Value::Object(table),
                None => return Err(at("an end without a beginning")),
            },
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(list)) => list.push(finished),
            Some(Open::Table(table, key)) => {
                let key = key.take().unwrap_or_default();
                if table.contains_key(&key) {
                    return Err(at(&format!("{key} is there twice")));
                }
                table.insert(key, finished);
            }
            None if whole.is_some() => return Err(at("a second document")),
            None => whole = Some(finished),
        }
    }
    whole.ok_or_else(|| "empty".into())
}

/// What a word without quotes is: null, a truth value, a number, or text (YAML 1.2.2, 10.3.2).
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let whole = match (text.strip_prefix("0o"), text.strip_prefix("0x")) {
        (Some(octal), _) => i64::from_str_radix(octal, 8).ok(),
        (_, Some(hex)) => i64::from_str_radix(hex, 16).ok(),
        // As Go reads it, in which the specs are written: a mode such as 0666.
        _ if text.len() > 1 && text.starts_with('0') => i64::from_str_radix(text, 8).ok(),
        _ => text.parse().ok(),
    };
    whole.map_or_else(|| fraction(text), |number| Value::Number(number.into()))
}

fn fraction(text: &str) -> Value {
    let like_one = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = text.parse().ok().filter(|_| like_one).and_then(Number::from_f64);
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_document_as_programs_write_it() {
        let text = "---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: \"0\"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      major: 195
      fileMode: 0666
- name: all
containerEdits:
    env:
        - A=b
    hooks:
        - hookName: createContainer
          args: [a, --link, '../card1::/dev/dri/by-path/pci-0000:07:00.0-card']
          timeout: null
";
        let link = "../card1::/dev/dri/by-path/pci-0000:07:00.0-card";
        let node = json!({ "path": "/dev/nvidia0", "major": 195, "fileMode": 438 });
        let expected = json!({
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "devices": [
                { "name": "0", "containerEdits": { "deviceNodes": [node] } },
                { "name": "all" },
            ],
            "containerEdits": {
                "env": ["A=b"],
                "hooks": [{ "hookName": "createContainer", "args": ["a", "--link", link], "timeout": null }],
            },
        });
        assert_eq!(value(text).unwrap(), expected);
        assert_eq!(value(&expected.to_string()).unwrap(), expected);
    }

    #[test]
    fn what_only_people_write_is_refused_with_its_line() {
        for (text, why) in [
            ("a: &x 1\nb: *x", "line 1: references"),
            ("a:\n- 1\n- &x [1]", "line 3: references"),
            ("a: !!str 1", "line 1: tags"),
            ("a: 1\na: 2", "line 2: a is there twice"),
            ("a: 1\n---\nb: 2", "line 3: a second document"),
            ("? [a]\n: b", "line 1: a key that is not text"),
            (&format!("{}{}", "[".repeat(40), "]".repeat(40)), "nested too deep"),
            ("", "empty"),
            ("a: [1", "line"),
            ("a: 1\n b: 2", "line 2"),
        ] {
            let error = value(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_crash(text in "([-a: \n\"'\\[\\]{}&*!|>#%0.]|\\PC){0,60}") {
            let _ = super::super::parse(&text);
        }

        #[test]
        fn json_is_read_as_json(text in "[a-z/:.=, \"\\\\\u{e9}-]{0,20}", number in any::<i32>()) {
            let json = json!({ "text": text, "list": [number, true, null, 0.5], "none": {} });
            prop_assert_eq!(value(&json.to_string()).unwrap(), json);
        }
    }
}
