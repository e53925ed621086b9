//! Talking to a registry: the OCI distribution protocol, as far as pulling needs it.

mod access;
mod answer;
mod auth_file;
mod blob;
mod challenge;
mod credentials;
mod endpoint;
mod helper;
mod logins;
mod patience;
mod proxy;

pub(crate) use auth_file::place;
pub(crate) use credentials::Credentials;
pub(crate) use endpoint::Endpoint;
pub(crate) use logins::{Found, Logins, host_of};
pub(crate) use proxy::proxy;

use std::sync::Mutex;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use udi::{Digest, Error, Result};

use crate::progress::Progress;
use crate::source::manifest::Layer;
use crate::source::{MAX_DOCUMENT, Source};
use access::Login;
use patience::{Asked, Patience};

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

type Sent = std::result::Result<Response<Body>, ureq::Error>;

/// One repository of one registry.
pub(crate) struct Registry {
    agent: Agent,
    endpoint: Endpoint,
    found: Found,
    login: Mutex<Login>,
    patience: Patience,
    progress: Progress,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Registry {
    /// Reads certificates, and talks to nobody yet.
    pub(crate) fn new(endpoint: Endpoint, found: Found, progress: Progress) -> Result<Self> {
        let tls = TlsConfig::builder().root_certs(roots(&endpoint)?).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(endpoint.via.as_ref().map(|via| via.proxy.clone()))
            .http_status_as_error(false)
            .https_only(!endpoint.http)
            .max_redirects(5)
            .user_agent(concat!("shifterimg/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let (login, patience) = (Mutex::default(), Patience::default());
        Ok(Self { agent, endpoint, found, login, patience, progress })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A small document: a manifest or a configuration.
    fn document(&self, path: &str, accept: &str) -> Result<Vec<u8>> {
        let mut tries = 1;
        loop {
            let mut response = self.get(path, &[("accept", accept)])?;
            let read = response.body_mut().with_config().limit(MAX_DOCUMENT).read_to_vec();
            let error = match read {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            let failure = self.endpoint.failure(&error);
            if !endpoint::may_pass(&error) || !self.is_patient(tries, &failure, Asked::default()) {
                return Err(failure);
            }
            tries += 1;
        }
    }

    /// Asks for `path` below the repository; a refusal is an error.
    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response<Body>> {
        let response = self.answer(path, headers)?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refusal(path, response)),
        }
    }

    /// Asks until the answer is a good one, or a final one: as nobody first, then as the user.
    fn answer(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response<Body>> {
        let url = self.endpoint.url(path);
        let mut asked_again = false;
        loop {
            let response = self.ask(path, || self.send(&url, headers))?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && !asked_again {
                // The first time, or a token that has expired.
                asked_again = true;
                if self.log_in(response.headers(), false)? {
                    continue;
                }
            }
            // Some registries hide what a stranger may not see, or answer strangers less often.
            let refused = matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::NOT_FOUND
                    | StatusCode::TOO_MANY_REQUESTS
            );
            if refused && self.log_in(response.headers(), true)? {
                continue;
            }
            return Ok(response);
        }
    }

    /// Sends until there is an answer, or what stands in the way does not pass.
    fn ask(&self, path: &str, send: impl Fn() -> Sent) -> Result<Response<Body>> {
        self.ask_at(&self.endpoint, path, send)
    }

    fn ask_at(
        &self,
        endpoint: &Endpoint,
        path: &str,
        send: impl Fn() -> Sent,
    ) -> Result<Response<Body>> {
        let mut tries = 1;
        loop {
            let (error, asked) = match send() {
                Ok(response) => {
                    let status = response.status();
                    let many = status == StatusCode::TOO_MANY_REQUESTS;
                    let fault = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
                    if !many && !fault || many && self.can_log_in() {
                        return Ok(response);
                    }
                    let asked = asked(response.headers());
                    (endpoint.refusal(path, response, &self.found), asked)
                }
                Err(error) => {
                    let failure = endpoint.failure(&error);
                    if !endpoint::may_pass(&error) {
                        return Err(failure);
                    }
                    (failure, Asked::default())
                }
            };
            if !self.is_patient(tries, &error, asked) {
                return Err(error);
            }
            tries += 1;
        }
    }

    /// Waits before the next try, and says why; or says that it is enough.
    fn is_patient(&self, tries: u32, error: &Error, asked: Asked) -> bool {
        let what = error.what();
        self.patience.wait(tries, asked, |line| self.progress.say(&format!("{what}; {line}")))
    }

    fn refusal(&self, path: &str, response: Response<Body>) -> Error {
        self.endpoint.refusal(path, response, &self.found)
    }

    /// Asks another server than the registry: by HTTPS, unless the site has it asked without.
    fn fetch_elsewhere(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response<Body>> {
        let place = url.parse::<Uri>().ok();
        let host = place.as_ref().and_then(|uri| uri.authority()).map_or("", |a| a.as_str());
        let plain = self.endpoint.plain.iter().any(|p| p == host);
        let scheme = place.as_ref().and_then(|uri| uri.scheme_str());
        if scheme != Some("https") && !(scheme == Some("http") && plain) {
            return Err(Error::user("only https is trusted"));
        }
        let there = Endpoint { host: host.to_owned(), mirrored: false, ..self.endpoint.clone() };
        self.ask_at(&there, "", || {
            let mut request = self.agent.get(url).config().https_only(!plain).build();
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.call()
        })
    }

    fn send(&self, url: &str, headers: &[(&str, &str)]) -> Sent {
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

fn asked(headers: &HeaderMap) -> Asked {
    Asked::of(|name| headers.get(name)?.to_str().ok())
}
