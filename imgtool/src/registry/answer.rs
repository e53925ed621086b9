//! What a registry's refusal means, and who must act.

use ureq::Body;
use ureq::http::{Response, StatusCode};

use udi::Error;

use super::endpoint::{Endpoint, is_unknown_host};

impl Endpoint {
    /// A connection that failed.
    pub(super) fn failure(&self, error: &ureq::Error) -> Error {
        let host = &self.host;
        // A registry that only the site's rule names is the site's to repair.
        let whose =
            |what: String| if self.mirrored { Error::admin(what) } else { Error::user(what) };
        match error {
            error if is_unknown_host(error) => {
                whose(format!("there is no registry {host}: its name is not known")).hint(if self.mirrored {
                    "correct the mirror in shifter.toml"
                } else {
                    "check the registry's name; a name without dot and port is a repository"
                })
            }
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
                Error::admin(format!("cannot talk securely to the registry {host}: {error}"))
                    .hint(format!("if it has a certificate of the site's own: [[registry]] prefix = \"{host}\" with ca = … in shifter.toml"))
            }
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
                whose(format!("the registry {host} does not answer: {io}"))
                    .hint("check its name and port, or try again when it runs")
            }
            // rustls' own words come as an io::Error too.
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
                Error::admin(format!("cannot talk securely to the registry {host}: {io}")).hint(format!(
                    "a registry without TLS needs [[registry]] prefix = \"{host}\" with http = true in shifter.toml"
                ))
            }
            other => whose(format!("the connection to the registry {host} failed: {other}"))
                .hint("try again; if it stays, ask whether this host may reach the registry"),
        }
    }

    /// An answer that is none.
    pub(super) fn refusal(
        &self,
        path: &str,
        mut response: Response<Body>,
        has_login: bool,
    ) -> Error {
        let status = response.status();
        let said =
            response.body_mut().with_config().limit(16 << 10).read_to_string().unwrap_or_default();
        let said = words(&said);
        let (host, name) = (&self.host, self.name());
        let log_in =
            format!("log in with: docker login {host}   (or podman login {host}); then pull again");
        match status {
            StatusCode::NOT_FOUND if path.starts_with("manifests/") => {
                let reference = path.trim_start_matches("manifests/");
                let joint = if reference.starts_with("sha256:") { '@' } else { ':' };
                Error::user(format!("the registry {host} has no {}{joint}{reference}{said}", self.repository))
                    .hint("check name and tag; if it is private, log in with docker login or podman login first")
            }
            StatusCode::NOT_FOUND => {
                Error::user(format!("the registry {host} lost a part of {name}{said}"))
                    .hint("push the image again")
            }
            // Asked for the rest of a blob that ended before it should.
            StatusCode::RANGE_NOT_SATISFIABLE => Error::user(format!(
                "the registry {host} has less of {} of {name} than the image says",
                path.trim_start_matches("blobs/")
            ))
            .hint("the image is damaged: push it again"),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if has_login => Error::user(format!(
                "the registry {host} does not let you pull {}{said}",
                self.repository
            ))
            .hint(format!("ask its owner, or {log_in}")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::user(format!(
                "the registry {host} wants a login for {}{said}",
                self.repository
            ))
            .hint(log_in),
            StatusCode::TOO_MANY_REQUESTS => Error::user(format!(
                "the registry {host} has had too many requests from here{said}"
            ))
            .hint("try again later; a login often raises the limit; a site can set up a mirror"),
            status if status.is_server_error() => {
                Error::user(format!("the registry {host} has a fault of its own ({status}){said}"))
                    .hint("try again later; if it stays, tell whoever runs the registry")
            }
            status => {
                Error::user(format!("the registry {host} answered {status} for {name}{said}"))
                    .hint("check that it is a container registry")
            }
        }
    }
}

/// The first message in a registry's error, in brackets.
fn words(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let message = value.pointer("/errors/0/message").and_then(|m| m.as_str()).unwrap_or("");
    let message: String = message.chars().take(200).collect();
    if message.is_empty() { message } else { format!(" ({message})") }
}
