//! What a registry's refusal means, and who must act.

use ureq::Body;
use ureq::http::{Response, StatusCode};

use udi::Error;

use super::Found;
use super::endpoint::{Endpoint, is_no_resolver, is_unknown_host};

impl Endpoint {
    /// A connection that failed.
    pub(super) fn failure(&self, error: &ureq::Error) -> Error {
        let host = &self.host;
        // A registry that only the site's rule names is the site's to repair.
        let whose =
            |what: String| if self.mirrored { Error::admin(what) } else { Error::user(what) };
        match error {
            error if is_no_resolver(error) => {
                whose(format!("cannot find the registry {host}: no name server answers"))
                    .hint("try again; if it stays, ask whether this host can look up names")
            }
            // With a proxy it is the proxy's name that we look up, and the proxy that refuses.
            ureq::Error::Io(io) if self.way().is_some() && io.kind() == std::io::ErrorKind::ConnectionRefused => {
                self.proxy_failure(&io.to_string())
            }
            error if self.way().is_some() && is_unknown_host(error) => self.proxy_failure("its name is not known"),
            error if is_unknown_host(error) => {
                whose(format!("there is no registry {host}: its name is not known")).hint(if self.mirrored {
                    "correct the mirror in shifter.toml"
                } else {
                    "check the registry's name; a name without dot and port is a repository"
                })
            }
            error if is_certificate(error) => {
                Error::admin(format!("cannot talk securely to the registry {host}: {error}"))
                    .hint(format!("if it has a certificate of the site's own: [[registry]] prefix = \"{host}\" with ca = … in shifter.toml"))
            }
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
                whose(format!("the registry {host} does not answer: {io}"))
                    .hint("check its name and port, or try again when it runs")
            }
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
                Error::admin(format!("cannot talk securely to the registry {host}: {io}")).hint(format!(
                    "a registry without TLS needs [[registry]] prefix = \"{host}\" with http = true in shifter.toml"
                ))
            }
            ureq::Error::ConnectProxyFailed(why) => self.proxy_failure(why),
            other => whose(format!("the connection to the registry {host} failed: {other}"))
                .hint("try again; if it stays, ask whether this host may reach the registry"),
        }
    }

    fn proxy_failure(&self, why: &str) -> Error {
        let Some(via) = &self.via else { return Error::bug("a proxy that is none failed") };
        let what = format!(
            "the proxy {}:{} does not lead to {}: {why}",
            via.proxy.host(),
            via.proxy.port(),
            self.host
        );
        match via.is_sites {
            true => {
                Error::admin(what).hint("correct images.proxy or images.no_proxy in shifter.toml")
            }
            false => Error::user(what).hint("correct https_proxy or no_proxy in your environment"),
        }
    }

    /// An answer that is none.
    pub(super) fn refusal(&self, path: &str, mut response: Response<Body>, found: &Found) -> Error {
        let status = response.status();
        let until = super::asked(response.headers()).words();
        let said =
            response.body_mut().with_config().limit(16 << 10).read_to_string().unwrap_or_default();
        let said = words(&said);
        let (host, name) = (&self.host, self.name());
        let log_in = match &found.trouble {
            // The user thinks of being logged in.
            Some(trouble) => {
                format!("{trouble}: repair that, or log in with: shifterimg login {host}")
            }
            None => format!("log in with: shifterimg login {host}; then pull again"),
        };
        match status {
            StatusCode::NOT_FOUND if path.starts_with("manifests/") => {
                let reference = path.trim_start_matches("manifests/");
                let joint = if reference.starts_with("sha256:") { '@' } else { ':' };
                Error::user(format!("the registry {host} has no {}{joint}{reference}{said}", self.repository))
                    .hint(format!("check name and tag; if it is private, {log_in}"))
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
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if found.credentials.is_some() => Error::user(format!(
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
                "the registry {host} has had too many requests from here{until}{said}"
            ))
            .hint(match found.credentials {
                Some(_) => "try again later; a site can set up a mirror".to_owned(),
                None => format!("try again later; a login often raises the limit: shifterimg login {host}; a site can set up a mirror"),
            }),
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

/// Whether it is the registry's certificate that is not trusted. rustls' own words come as an
/// io::Error, too.
fn is_certificate(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => true,
        ureq::Error::Io(io) => {
            io.kind() == std::io::ErrorKind::InvalidData && io.to_string().contains("certificate")
        }
        _ => false,
    }
}

/// The first message in a registry's error, in brackets.
fn words(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let message = value.pointer("/errors/0/message").and_then(|m| m.as_str()).unwrap_or("");
    let message: String = message.chars().take(200).collect();
    if message.is_empty() { message } else { format!(" ({message})") }
}
