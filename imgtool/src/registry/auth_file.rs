//! The file in which docker and podman keep logins: what is in it, and changing one of them.

use serde_json::{Map, Value, json};

use super::credentials::Credentials;

/// A file of logins. What we do not know in it stays as it is.
#[derive(Clone, Default)]
pub(crate) struct AuthFile(Map<String, Value>);

impl std::fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthFile(…)")
    }
}

impl AuthFile {
    /// Nothing if it is no such file. An empty one has no logins yet.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.trim_ascii().is_empty() {
            return Some(Self::default());
        }
        let Ok(Value::Object(all)) = serde_json::from_slice(bytes) else { return None };
        all.get("auths")
            .is_none_or(|auths| auths.is_object() || auths.is_null())
            .then_some(Self(all))
    }

    /// The login for `host`, or for the part of it that has `repository`.
    pub(crate) fn find(&self, host: &str, repository: &str) -> Option<Credentials> {
        let asked = format!("{host}/{repository}");
        let matching = self.auths()?.iter().filter(|(key, _)| covers(place(key), &asked));
        let logins = matching.filter_map(|(key, auth)| Some((key, credentials(auth)?)));
        // The closest one: podman keeps logins for parts of a registry, too.
        logins.max_by_key(|(key, _)| place(key).len()).map(|(_, login)| login)
    }

    /// Whether there is a login for just this registry or part of one.
    pub(crate) fn has(&self, wanted: &str) -> bool {
        let mut all = self.auths().into_iter().flatten();
        all.any(|(key, auth)| place(key) == wanted && credentials(auth).is_some())
    }

    /// The credential helper that has the login of `host`.
    pub(crate) fn helper(&self, host: &str) -> Option<&str> {
        let helpers = self.0.get("credHelpers")?.as_object()?;
        helpers.iter().find(|(key, _)| place(key) == host)?.1.as_str()
    }

    /// The credential helper that has all logins without one of their own.
    pub(crate) fn store(&self) -> Option<&str> {
        self.0.get("credsStore")?.as_str().filter(|name| !name.is_empty())
    }

    /// Keeps the login of a registry, or of part of one, instead of what there was.
    pub(crate) fn put(&mut self, wanted: &str, login: &Credentials) {
        self.remove(wanted);
        let kept = match (login.pair(), login.identity_token()) {
            (Some(pair), _) => json!({ "auth": pair }),
            (None, token) => json!({ "auth": "", "identitytoken": token }),
        };
        let auths = self.0.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        if let Value::Object(auths) = auths {
            auths.insert(wanted.to_owned(), kept);
        }
    }

    /// Forgets the login of a registry, or of part of one; gives whether there was one.
    pub(crate) fn remove(&mut self, wanted: &str) -> bool {
        let Some(Value::Object(auths)) = self.0.get_mut("auths") else { return false };
        let before = auths.len();
        auths.retain(|key, _| place(key) != wanted);
        auths.len() < before
    }

    /// What to write.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Whatever was parsed can be written.
        let mut bytes = serde_json::to_vec_pretty(&self.0).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.0.get("auths")?.as_object()
    }
}

/// A key without scheme and protocol version: docker writes `https://index.docker.io/v1/`.
pub(crate) fn place(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        key => key,
    }
}

fn covers(place: &str, asked: &str) -> bool {
    !place.is_empty()
        && asked.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn credentials(auth: &Value) -> Option<Credentials> {
    let text = |key: &str| auth.get(key).and_then(Value::as_str);
    let plain = || Some((text("username")?.to_owned(), text("password")?.to_owned()));
    let decoded = text("auth").and_then(Credentials::unpaired);
    let (user, password) = decoded.or_else(plain).unwrap_or_default();
    match text("identitytoken").filter(|token| !token.is_empty()) {
        Some(token) => Credentials::token(user, token.to_owned()),
        None => Credentials::password(user, password),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(text: &str) -> AuthFile {
        AuthFile::parse(text.as_bytes()).unwrap()
    }

    fn login(user: &str, password: &str) -> Credentials {
        Credentials::password(user.into(), password.into()).unwrap()
    }

    #[test]
    fn logins_of_docker_and_podman_are_found() {
        let file = file(&format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},"reg.io:5000":{{"auth":"{}"}},
            "reg.io:5000/team":{{"username":"t","password":"p"}},"empty.io":{{}},"id.io":{{"identitytoken":"x"}}}},
            "credsStore":"secretservice","credHelpers":{{"https://gcr.io":"gcloud"}}}}"#,
            login("hub", "a:b").pair().unwrap(),
            login("me", "pw").pair().unwrap(),
        ));
        assert_eq!(file.find("docker.io", "library/x"), Some(login("hub", "a:b")));
        assert_eq!(file.find("reg.io:5000", "x"), Some(login("me", "pw")));
        assert_eq!(file.find("reg.io:5000", "team/x"), Some(login("t", "p")));
        assert_eq!(file.find("reg.io:5000", "teammate/x"), Some(login("me", "pw")));
        assert!(file.has("reg.io:5000/team") && !file.has("reg.io:5000/team/x"));
        assert!(!file.has("empty.io"));
        for host in ["reg.io", "reg.io:50001", "empty.io", "evil-docker.io"] {
            assert_eq!(file.find(host, "x"), None, "{host}");
        }
        let token = file.find("id.io", "x").unwrap();
        assert_eq!((token.identity_token(), token.basic()), (Some("x"), None));
        assert_eq!((file.helper("gcr.io"), file.helper("eu.gcr.io")), (Some("gcloud"), None));
        assert_eq!(file.store(), Some("secretservice"));
    }

    #[test]
    fn a_login_is_kept_and_forgotten_and_the_rest_stays() {
        let mut file = file(
            r#"{"auths":{"r.io":{"auth":"x","email":"e"},"https://index.docker.io/v1/":{"auth":"old"}},"detachKeys":"ctrl-e","n":[1]}"#,
        );
        file.put("docker.io", &login("me", "pw"));
        let again = AuthFile::parse(&file.bytes()).unwrap();
        assert_eq!(again.find("docker.io", "library/x"), Some(login("me", "pw")));
        let expected = json!({
            "auths": { "r.io": { "auth": "x", "email": "e" }, "docker.io": { "auth": "bWU6cHc=" } },
            "detachKeys": "ctrl-e", "n": [1],
        });
        assert_eq!(Value::Object(again.0), expected);
        // Part of a registry is kept beside the whole of it.
        file.put("docker.io/team", &login("team", "pw"));
        assert_eq!(file.find("docker.io", "team/x"), Some(login("team", "pw")));
        assert!(file.remove("docker.io") && !file.remove("docker.io"));
        assert!(file.find("docker.io", "teammate/x").is_none() && file.remove("docker.io/team"));
        assert_eq!(file.find("docker.io", "x"), None);
    }

    #[test]
    fn what_is_no_file_of_logins_is_not_taken_for_an_empty_one() {
        for bad in ["[]", "{", "x", "null", r#"{"auths":[]}"#] {
            assert!(AuthFile::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        for none in ["", "\n", "{}", r#"{"auths":null}"#] {
            let mut file = file(none);
            file.put("r.io", &login("me", "pw"));
            assert_eq!(file.find("r.io", "x"), Some(login("me", "pw")));
        }
    }

    proptest! {
        #[test]
        fn no_file_is_a_crash(bytes: Vec<u8>, text in "[{}\":,auths\\[\\]]{0,40}", auth in "\\PC{0,20}") {
            let auths = json!({ "auths": { "x.io": { "auth": auth }, "": {} } }).to_string();
            for bytes in [&bytes, text.as_bytes(), auths.as_bytes()] {
                let Some(mut file) = AuthFile::parse(bytes) else { continue };
                let _ = (file.find("x.io", "y"), file.helper("x.io"), file.store());
                file.put("x.io", &login("me", "pw"));
                prop_assert_eq!(file.find("x.io", "y"), Some(login("me", "pw")));
            }
        }
    }
}
