//! Talking to a registry: the OCI distribution protocol, as far as pulling needs it.

mod answer;
mod blob;
mod challenge;
mod credentials;
mod endpoint;

pub(crate) use credentials::{Credentials, Files};
pub(crate) use endpoint::Endpoint;

use std::sync::Mutex;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use udi::{Digest, Error, Result};

use crate::source::manifest::Layer;
use crate::source::{MAX_DOCUMENT, Source};
use challenge::Challenge;

/// Tries of a request that fails for reasons that pass.
const TRIES: u32 = 4;
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// Where distributions keep the certificates that they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// One repository of one registry.
pub(crate) struct Registry {
    agent: Agent,
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    login: Mutex<Login>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// How far we had to go to be let in.
#[derive(Debug, Default)]
struct Login {
    /// The header; nothing until the registry asks.
    authorization: Option<String>,
    /// Whether the user's credentials are in use: only after nobody was refused.
    personal: bool,
}

impl Registry {
    /// Reads certificates, and talks to nobody yet.
    pub(crate) fn new(endpoint: Endpoint, credentials: Option<Credentials>) -> Result<Self> {
        let tls = TlsConfig::builder().root_certs(roots(&endpoint)?).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            // Registries and ways to them come from the site's configuration only.
            .proxy(None)
            .http_status_as_error(false)
            .https_only(!endpoint.http)
            .max_redirects(5)
            .user_agent(concat!("shifterimg/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Ok(Self { agent, endpoint, credentials, login: Mutex::default() })
    }

    /// Whether the registry answered only because of who asked.
    pub(crate) fn is_personal(&self) -> bool {
        self.login.lock().is_ok_and(|login| login.personal)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A small document: a manifest or a configuration.
    fn document(&self, path: &str, accept: &str) -> Result<Vec<u8>> {
        let mut response = self.get(path, &[("accept", accept)])?;
        let read = response.body_mut().with_config().limit(MAX_DOCUMENT).read_to_vec();
        read.map_err(|error| self.endpoint.failure(&error))
    }

    /// Asks for `path` below the repository until the answer is a good one, or a final one.
    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response<Body>> {
        let url = self.endpoint.url(path);
        let mut tries = 0;
        let mut asked_again = false;
        loop {
            let response = match self.send(&url, headers) {
                Ok(response) => response,
                Err(error) if tries < TRIES && endpoint::may_pass(&error) => {
                    tries += 1;
                    pause(tries, None);
                    continue;
                }
                Err(error) => return Err(self.endpoint.failure(&error)),
            };
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            if status == StatusCode::UNAUTHORIZED && !asked_again {
                // The first time, or a token that has expired.
                asked_again = true;
                if self.log_in(response.headers(), false)? {
                    continue;
                }
            }
            // Some registries hide what a stranger may not see.
            if (refused || status == StatusCode::NOT_FOUND)
                && self.log_in(response.headers(), true)?
            {
                continue;
            }
            let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            if passes && tries < TRIES {
                tries += 1;
                pause(tries, retry_after(response.headers()));
                continue;
            }
            return Err(self.endpoint.refusal(path, response, self.credentials.is_some()));
        }
    }

    fn send(
        &self,
        url: &str,
        headers: &[(&str, &str)],
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let authorization = self.login.lock().ok().and_then(|login| login.authorization.clone());
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        request.call()
    }

    /// Answers a challenge; as nobody first, with the user's credentials when that was not
    /// enough (`personal`). Gives whether there is a new answer to try.
    fn log_in(&self, headers: &HeaderMap, personal: bool) -> Result<bool> {
        let mut login = self.login.lock().map_err(|_| Error::bug("a login failed badly"))?;
        if personal && (login.personal || self.credentials.is_none()) {
            return Ok(false);
        }
        let challenge = headers
            .get_all("www-authenticate")
            .iter()
            .find_map(|h| Challenge::parse(h.to_str().ok()?));
        let challenge = match challenge {
            Some(challenge) => challenge,
            // A 403 or a 404 comes without one: ask for it where all registries have one.
            None if personal => match self.challenge()? {
                Some(challenge) => challenge,
                None => return Ok(false),
            },
            None => return Ok(false),
        };
        let personal = personal || login.personal;
        let credentials = self.credentials.as_ref().filter(|_| personal);
        let authorization = match (challenge, credentials) {
            (Challenge::Basic, Some(credentials)) => credentials.basic(),
            (Challenge::Basic, None) => None,
            (Challenge::Bearer { realm, service, scope }, credentials) => {
                let scope = scope
                    .unwrap_or_else(|| format!("repository:{}:pull", self.endpoint.repository));
                self.token(&realm, service.as_deref(), &scope, credentials)?
            }
        };
        let Some(authorization) = authorization else { return Ok(false) };
        login.authorization = Some(authorization);
        login.personal = personal;
        Ok(true)
    }

    fn challenge(&self) -> Result<Option<Challenge>> {
        let response =
            self.agent.get(self.endpoint.root()).call().map_err(|e| self.endpoint.failure(&e))?;
        let headers = response.headers().get_all("www-authenticate");
        Ok(headers.iter().find_map(|header| Challenge::parse(header.to_str().ok()?)))
    }

    /// A token for pulling; nothing if the registry gives us none.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>> {
        if !realm.starts_with("https://") && !self.endpoint.http {
            return Err(Error::user(format!(
                "{} wants a password sent in the open, to {realm}",
                self.endpoint.host
            )));
        }
        let mut request = self.agent.get(realm).query("scope", scope);
        if let Some(service) = service {
            request = request.query("service", service);
        }
        if let Some(basic) = credentials.and_then(Credentials::basic) {
            request = request.header("authorization", basic);
        }
        let response = match credentials.and_then(Credentials::identity_token) {
            None => request.call(),
            Some(token) => self.agent.post(realm).send_form([
                ("grant_type", "refresh_token"),
                ("client_id", "shifterimg"),
                ("service", service.unwrap_or("")),
                ("scope", scope),
                ("refresh_token", token),
            ]),
        };
        let mut response = response.map_err(|error| self.endpoint.failure(&error))?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let body = response.body_mut().with_config().limit(1 << 20).read_to_vec();
        let body = body.map_err(|error| self.endpoint.failure(&error))?;
        Ok(challenge::token(&body).map(|token| format!("Bearer {token}")))
    }
}

impl Source for Registry {
    /// The first byte is asked for: a registry may know the blob and still refuse it.
    fn gives_everybody(&self, layer: &Layer) -> bool {
        let path = format!("blobs/{}", layer.digest);
        self.get(&path, &[("range", "bytes=0-0")]).is_ok() && !self.is_personal()
    }

    fn manifest(&self, reference: &str) -> Result<Vec<u8>> {
        self.document(&format!("manifests/{reference}"), MANIFESTS)
    }

    fn configuration(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.document(&format!("blobs/{digest}"), "*/*")
    }

    fn fetch(&self, layer: &Layer, progress: &dyn Fn(u64), to: &SyncSender<Result<Vec<u8>>>) {
        blob::fetch(self, layer, progress, to);
    }

    fn wrong(&self, digest: &str) -> Error {
        Error::user(format!(
            "the registry {} sent something else than {digest}",
            self.endpoint.host
        ))
        .hint("try again; if it stays, the image is damaged: push it again")
    }

    fn repair(&self) -> &'static str {
        "the image is damaged: build and push it again"
    }
}

/// The certificates to trust: the machine's, and those that the site adds.
fn roots(endpoint: &Endpoint) -> Result<RootCerts> {
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    let bundle = BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
    let site = match &endpoint.ca {
        Some(path) => Some(std::fs::read(path).map_err(|e| {
            Error::admin(format!("cannot read the certificates in {}", path.display())).because(e)
        })?),
        None => None,
    };
    for pem in bundle.iter().chain(&site) {
        certificates.extend(parse_pem(pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        }));
    }
    // A machine without certificates still knows the public ones.
    Ok(if bundle.is_none() && site.is_none() {
        RootCerts::WebPki
    } else {
        RootCerts::new_with_certs(&certificates)
    })
}

/// Half a second, one, two, four; or what the registry asks for, up to half a minute.
fn pause(tries: u32, asked: Option<Duration>) {
    let ours = Duration::from_millis(250 << tries.min(6));
    std::thread::sleep(asked.unwrap_or(ours).min(Duration::from_secs(30)));
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
