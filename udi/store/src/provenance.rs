//! What a job's modules were: each module's name, and a hash of what the site's configuration
//! says of it.

use udi::{Definition, Digest, Module};

/// The job's variable that carries what the modules were when the job was submitted. A user can
/// change it: it decides nothing.
pub const VARIABLE: &str = "SLURM_SHIFTER_MODULES";

/// Hexadecimal digits of a hash that are kept: no two definitions of a site's will ever share them.
const DIGITS: usize = 12;

/// The modules as `NAME@HASH`, with commas between. No name has a comma or a blank.
pub fn definitions(modules: &[(String, &Module)]) -> String {
    let all = modules.iter().map(|(name, module)| format!("{name}@{}", hash(module.definition())));
    all.collect::<Vec<_>>().join(",")
}

/// Which of `modules` are here not what they were `then`, as [`definitions`] says it: the name, and
/// the hash of then.
pub fn changed<'a>(
    modules: &'a [(String, &Module)],
    then: &str,
) -> impl Iterator<Item = (&'a str, String)> {
    modules.iter().filter_map(move |(name, module)| {
        let mut pairs = then.split(',').filter_map(|pair| pair.split_once('@'));
        let (_, was) = pairs.find(|(of, _)| of == name)?;
        let is_hash = was.len() == DIGITS && was.bytes().all(|b| b.is_ascii_hexdigit());
        (is_hash && was != hash(module.definition())).then(|| (name.as_str(), was.to_owned()))
    })
}

/// The beginning of the SHA-256 of the definition as JSON with sorted keys and no blanks.
fn hash(definition: &Definition) -> String {
    let json = serde_json::to_vec(definition).unwrap_or_default();
    let digest = Digest::from_bytes(&hmac_sha256::Hash::hash(&json));
    digest.hex().chars().take(DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use udi::Config;

    fn told(text: &str) -> String {
        let text = format!("[store]\npath = \"/x\"\n{text}");
        let config = Config::parse(&text, Path::new("shifter.toml")).unwrap();
        definitions(&config.modules.iter().map(|(n, m)| (n.clone(), m)).collect::<Vec<_>>())
    }

    #[test]
    fn the_hash_is_what_other_tools_make_of_the_table() {
        // printf '{"default":true,"env":{"set":{"A":"é\\n\\""}}}' | sha256sum
        let text = "[modules.a]\ndefault = true\nenv.set = { A = \"é\\n\\\"\" }";
        assert_eq!(told(text), "a@d876ad7c18e7");
    }

    #[test]
    fn spelling_changes_nothing_and_everything_else_does() {
        let one = told("[modules.a]\nenv.set = { A = \"1\", B = \"2\" }\ndefault = true");
        let same =
            "# of ours\n[modules.a.env.set]\n B=\"2\"\n A='1' # one\n[modules.a]\ndefault=true";
        assert_eq!(told(same), one);
        for other in ["A = \"1\", B = \"3\"", "A = \"1\"", "A = \"1\", B = \"2\", C = \"\""] {
            let text = format!("[modules.a]\nenv.set = {{ {other} }}\ndefault = true");
            assert_ne!(told(&text), one);
        }
    }

    proptest! {
        #[test]
        fn no_text_of_the_users_is_a_crash_or_changes_what_is_said(then in "([ab@,0-9a-f]|\\PC){0,40}") {
            let config = Config::parse("[store]\npath = \"/x\"\n[modules.a]", Path::new("x")).unwrap();
            let modules: Vec<_> = config.modules.iter().map(|(n, m)| (n.clone(), m)).collect();
            for (name, was) in changed(&modules, &then) {
                prop_assert!(name == "a" && was.len() == DIGITS && !was.contains(char::is_control));
            }
        }
    }

    #[test]
    fn a_definition_that_has_changed_since_is_named() {
        let text = "[store]\npath = \"/x\"\n[modules.a]\n[modules.b]\ndefault = true";
        let config = Config::parse(text, Path::new("shifter.toml")).unwrap();
        let modules: Vec<_> = config.modules.iter().map(|(n, m)| (n.clone(), m)).collect();
        let now = definitions(&modules);
        assert_eq!(changed(&modules, &now).count(), 0);
        let then = now.replace("b@", "b@000000000000,c@");
        assert_eq!(changed(&modules, &then).collect::<Vec<_>>(), [("b", "000000000000".into())]);
        for nonsense in ["", "b", "b@", "b@x", "b@\u{1b}[2J000000000", ",,@@"] {
            assert_eq!(changed(&modules, nonsense).count(), 0);
        }
    }
}
