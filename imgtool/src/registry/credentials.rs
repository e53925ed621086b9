//! A login to a registry.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What a credential helper calls the user of an identity token.
const TOKEN_USER: &str = "<token>";

/// A login. It is never shown: there is no way to print it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    user: String,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Password(String),
    IdentityToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// Nothing without a name: then nobody is logged in.
    pub(crate) fn password(user: String, password: String) -> Option<Self> {
        (!user.is_empty()).then_some(Self { user, secret: Secret::Password(password) })
    }

    /// What a registry gave for a password, to be shown instead of it.
    pub(crate) fn token(user: String, token: String) -> Option<Self> {
        (!token.is_empty()).then_some(Self { user, secret: Secret::IdentityToken(token) })
    }

    /// Who it is, as the registry calls them.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The header of basic authentication.
    pub(super) fn basic(&self) -> Option<String> {
        self.pair().map(|pair| format!("Basic {pair}"))
    }

    /// Name and password as basic authentication and files of logins have them.
    pub(super) fn pair(&self) -> Option<String> {
        match &self.secret {
            Secret::Password(password) => {
                Some(STANDARD.encode(format!("{}:{password}", self.user)))
            }
            Secret::IdentityToken(_) => None,
        }
    }

    pub(super) fn identity_token(&self) -> Option<&str> {
        match &self.secret {
            Secret::IdentityToken(token) => Some(token),
            Secret::Password(_) => None,
        }
    }

    /// The other way round from [`pair`](Self::pair).
    pub(super) fn unpaired(text: &str) -> Option<(String, String)> {
        let text = String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        // Old versions of docker pad with zeros.
        Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
    }

    /// What a credential helper is told to keep.
    pub(super) fn to_helper(&self, server: &str) -> Option<Vec<u8>> {
        let (username, secret) = match &self.secret {
            Secret::Password(password) => (self.user.as_str(), password),
            Secret::IdentityToken(token) => (TOKEN_USER, token),
        };
        serde_json::to_vec(&Kept {
            server: server.to_owned(),
            username: username.to_owned(),
            secret: secret.clone(),
        })
        .ok()
    }

    /// What a credential helper answers.
    pub(super) fn from_helper(answer: &[u8]) -> Option<Self> {
        let Kept { username, secret, .. } = serde_json::from_slice(answer).ok()?;
        match username.as_str() {
            TOKEN_USER => Self::token(String::new(), secret),
            _ => Self::password(username, secret),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(default, rename = "ServerURL")]
    server: String,
    username: String,
    secret: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_password_cannot_be_printed() {
        let login = Credentials::password("me".into(), "hush".into()).unwrap();
        let shown = format!("{login:?}");
        assert!(!shown.contains("hush") && !shown.contains("me"), "{shown}");
    }

    #[test]
    fn a_helpers_token_is_one() {
        let token = br#"{"ServerURL":"r.io","Username":"<token>","Secret":"abc"}"#;
        let login = Credentials::from_helper(token).unwrap();
        assert_eq!((login.identity_token(), login.basic()), (Some("abc"), None));
        for none in
            [&b"credentials not found in native keychain"[..], br#"{"Username":"","Secret":""}"#]
        {
            assert_eq!(Credentials::from_helper(none), None);
        }
    }

    proptest! {
        #[test]
        fn what_a_helper_keeps_comes_back(user in "[^:<>]{1,20}", password in "\\PC{0,20}") {
            let login = Credentials::password(user.clone(), password.clone()).unwrap();
            prop_assert_eq!(Credentials::from_helper(&login.to_helper("r.io").unwrap()), Some(login.clone()));
            prop_assert_eq!(Credentials::unpaired(&login.pair().unwrap()), Some((user, password)));
        }

        #[test]
        fn no_answer_is_a_crash(answer: Vec<u8>, pair in "\\PC{0,20}") {
            let _ = Credentials::from_helper(&answer);
            let _ = Credentials::unpaired(&pair);
        }
    }
}
