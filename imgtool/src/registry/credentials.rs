//! The user's logins to registries, as docker and podman keep them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Larger files are no lists of logins.
const MAX_BYTES: u64 = 1 << 20;

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
    /// The header of basic authentication.
    pub(super) fn basic(&self) -> Option<String> {
        match &self.secret {
            Secret::Password(password) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{}:{password}", self.user))))
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
}

/// The files that may have logins, as they are; read with the user's rights.
#[derive(Default)]
pub(crate) struct Files(Vec<Vec<u8>>);

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Files({})", self.0.len())
    }
}

impl Files {
    /// Reads what there is. Call it with the user's rights: which files they are the user's
    /// environment says.
    pub(crate) fn read() -> Self {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let docker =
            variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let paths = [
            variable("REGISTRY_AUTH_FILE"),
            variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            home.as_ref().map(|home| home.join(".config/containers/auth.json")),
            docker.map(|dir| dir.join("config.json")),
        ];
        Self(paths.into_iter().flatten().filter_map(|path| read(&path)).collect())
    }

    /// The login for `host`, or for the part of it that has `repository`.
    pub(crate) fn find(&self, host: &str, repository: &str) -> Option<Credentials> {
        self.0.iter().find_map(|file| find(file, host, repository))
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

fn find(file: &[u8], host: &str, repository: &str) -> Option<Credentials> {
    let document: Document = serde_json::from_slice(file).ok()?;
    let asked = format!("{host}/{repository}");
    let matching = document.auths.iter().filter(|(key, _)| covers(place(key), &asked));
    // The closest one: podman keeps logins for parts of a registry, too.
    let (_, auth) = matching.max_by_key(|(key, _)| place(key).len())?;
    credentials(auth)
}

/// A key without scheme and protocol version: docker writes `https://index.docker.io/v1/`.
fn place(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        key => key,
    }
}

fn covers(place: &str, asked: &str) -> bool {
    asked.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn credentials(auth: &Auth) -> Option<Credentials> {
    let decoded = auth.auth.as_deref().and_then(|text| {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        // Old versions of docker pad with zeros.
        Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
    });
    let plain = auth.username.clone().zip(auth.password.clone());
    let (user, password) = decoded.or(plain).unwrap_or_default();
    match auth.identitytoken.clone().filter(|token| !token.is_empty()) {
        Some(token) => Some(Credentials { user, secret: Secret::IdentityToken(token) }),
        None if user.is_empty() => None,
        None => Some(Credentials { user, secret: Secret::Password(password) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn login(file: &str, host: &str, repository: &str) -> Option<String> {
        find(file.as_bytes(), host, repository).and_then(|c| c.basic())
    }

    fn basic(text: &str) -> Option<String> {
        Some(format!("Basic {}", STANDARD.encode(text)))
    }

    #[test]
    fn logins_of_docker_and_podman_are_found() {
        let file = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{}"}},"reg.io:5000":{{"auth":"{}"}},
            "reg.io:5000/team":{{"username":"t","password":"p"}},"empty.io":{{}},"id.io":{{"identitytoken":"x"}}}},
            "credsStore":"secretservice"}}"#,
            STANDARD.encode("hub:a:b"),
            STANDARD.encode("me:pw"),
        );
        assert_eq!(login(&file, "docker.io", "library/x"), basic("hub:a:b"));
        assert_eq!(login(&file, "reg.io:5000", "x"), basic("me:pw"));
        assert_eq!(login(&file, "reg.io:5000", "team/x"), basic("t:p"));
        assert_eq!(login(&file, "reg.io:5000", "teammate/x"), basic("me:pw"));
        for host in ["reg.io", "reg.io:50001", "empty.io", "evil-docker.io"] {
            assert_eq!(login(&file, host, "x"), None, "{host}");
        }
        let token = find(file.as_bytes(), "id.io", "x").unwrap();
        assert_eq!((token.identity_token(), token.basic()), (Some("x"), None));
    }

    #[test]
    fn a_password_cannot_be_printed() {
        let file = r#"{"auths":{"r.io":{"username":"me","password":"hush"}}}"#;
        let shown = format!("{:?}", find(file.as_bytes(), "r.io", "x").unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_file_is_a_crash(file: Vec<u8>, auth in "\\PC{0,20}") {
            let _ = find(&file, "x.io", "y");
            let auths = serde_json::json!({"auths": {"x.io": {"auth": auth}}});
            let _ = find(auths.to_string().as_bytes(), "x.io", "y");
        }
    }
}
