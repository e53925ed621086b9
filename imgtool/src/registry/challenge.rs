//! `WWW-Authenticate`: how a registry wants to be asked.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Nothing for a scheme that we do not know.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest);
        let realm = parameters.remove("realm")?;
        Some(Self::Bearer {
            realm,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        })
    }
}

/// `name="value", name=value, …`; in quotes a backslash keeps the next character.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.chars().peekable();
    loop {
        let name: String = std::iter::from_fn(|| rest.next_if(|c| *c != '=')).collect();
        if rest.next().is_none() {
            return found;
        }
        let mut value = String::new();
        if rest.next_if_eq(&'"').is_some() {
            while let Some(c) = rest.next() {
                match c {
                    '"' => break,
                    '\\' => value.extend(rest.next()),
                    c => value.push(c),
                }
            }
        }
        value.extend(std::iter::from_fn(|| rest.next_if(|c| *c != ',')));
        rest.next();
        found.insert(
            name.trim_matches([' ', ',', '\t']).to_ascii_lowercase(),
            value.trim().to_owned(),
        );
    }
}

/// The token in a token server's answer.
pub(super) fn token(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token)?;
    // It goes into a header.
    let plain = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    plain.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_of_real_registries_are_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:a/b:pull".into()),
        };
        assert_eq!(Challenge::parse(hub), Some(expected));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        let odd = r#"bearer  service = "a,\"b" , realm=http://x/token"#;
        let expected = Challenge::Bearer {
            realm: "http://x/token".into(),
            service: Some("a,\"b".into()),
            scope: None,
        };
        // A blank before the quote makes it part of the value; registries do not write that.
        assert_ne!(Challenge::parse(odd), Some(expected));
    }

    #[test]
    fn a_token_that_would_break_a_header_is_none() {
        assert_eq!(token(br#"{"access_token":"abc"}"#).as_deref(), Some("abc"));
        assert_eq!(token(br#"{"token":"abc","access_token":"x"}"#).as_deref(), Some("abc"));
        for bad in [&br#"{"token":"a\nb"}"#[..], br#"{"token":""}"#, b"{}", b"x"] {
            assert_eq!(token(bad), None);
        }
    }

    proptest! {
        #[test]
        fn no_header_is_a_crash(text in "\\PC{0,60}", more in "[a-z=\", \\\\]{0,60}") {
            let _ = Challenge::parse(&text);
            let _ = Challenge::parse(&format!("Bearer {more}"));
        }

        #[test]
        fn quoted_values_come_back(realm in "[a-z:/, =]{1,20}", service in "[a-z,]{1,20}") {
            let header = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
            let expected = Challenge::Bearer { realm: realm.trim().to_owned(), service: Some(service), scope: None };
            prop_assert_eq!(Challenge::parse(&header), Some(expected));
        }
    }
}
