//! Talking to a registry: the OCI distribution protocol, as far as pulling needs it.

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
pub(crate) use logins::{Found, Logins};

use std::sync::Mutex;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use udi::{Digest, Error, Result};

use crate::progress::Progress;
use crate::source::manifest::Layer;
use crate::source::{MAX_DOCUMENT, Source};
use challenge::Challenge;
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

    /// Whether the registry answered only because of who asked.
    pub(crate) fn is_personal(&self) -> bool {
        self.login.lock().is_ok_and(|login| login.personal)
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
                    (self.refusal(path, response), asked)
                }
                Err(error) => {
                    let failure = self.endpoint.failure(&error);
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

    /// Whether there is a login that has not been used yet.
    fn can_log_in(&self) -> bool {
        self.found.credentials.is_some() && !self.is_personal()
    }

    /// Sees whether the registry takes the user's login.
    pub(crate) fn check_login(&self) -> Result<()> {
        let (root, host) = (self.endpoint.root(), &self.endpoint.host);
        let response = self.ask("", || self.send(&root, &[]))?;
        if response.status().is_success() {
            return Err(Error::user(format!(
                "the registry {host} lets everybody in: there is nothing to log in to"
            ))
            .hint("pull without a login"));
        }
        if response.status() != StatusCode::UNAUTHORIZED {
            return Err(self.refusal("", response));
        }
        if self.log_in(response.headers(), true)? {
            let response = self.ask("", || self.send(&root, &[]))?;
            match response.status() {
                status if status.is_success() => return Ok(()),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {}
                _ => return Err(self.refusal("", response)),
            }
        }
        Err(Error::user(format!(
            "the registry {host} does not accept this name with this password"
        ))
        .hint("try again; many registries want an access token instead of the password"))
    }

    /// Answers a challenge; as nobody first, with the user's credentials when that was not
    /// enough (`personal`). Gives whether there is a new answer to try.
    fn log_in(&self, headers: &HeaderMap, personal: bool) -> Result<bool> {
        let mut login = self.login.lock().map_err(|_| Error::bug("a login failed badly"))?;
        if personal && (login.personal || self.found.credentials.is_none()) {
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
        let credentials = self.found.credentials.as_ref().filter(|_| personal);
        let authorization = match (challenge, credentials) {
            (Challenge::Basic, Some(credentials)) => credentials.basic(),
            (Challenge::Basic, None) => None,
            (Challenge::Bearer { realm, service, scope }, credentials) => {
                let ours = || format!("repository:{}:pull", self.endpoint.repository);
                // To log in is to ask for nothing yet.
                let scope = scope.or_else(|| (!self.endpoint.repository.is_empty()).then(ours));
                self.token(&realm, service.as_deref(), scope.as_deref(), credentials)?
            }
        };
        let Some(authorization) = authorization else { return Ok(false) };
        login.authorization = Some(authorization);
        login.personal = personal;
        Ok(true)
    }

    fn challenge(&self) -> Result<Option<Challenge>> {
        let response = self.ask("", || self.agent.get(self.endpoint.root()).call())?;
        let headers = response.headers().get_all("www-authenticate");
        Ok(headers.iter().find_map(|header| Challenge::parse(header.to_str().ok()?)))
    }

    /// A token for pulling; nothing if the registry gives us none.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>> {
        if !realm.starts_with("https://") && !self.endpoint.http {
            return Err(Error::user(format!(
                "{} wants a password sent in the open, to {realm}",
                self.endpoint.host
            )));
        }
        let token = credentials.and_then(Credentials::identity_token);
        let named = [("service", service), ("scope", scope)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut response = self.ask("", || match token {
            None => {
                let mut request = self.agent.get(realm).query_pairs(named.clone());
                if let Some(basic) = credentials.and_then(Credentials::basic) {
                    request = request.header("authorization", basic);
                }
                request.call()
            }
            Some(token) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "shifterimg"),
                    ("refresh_token", token),
                ];
                self.agent.post(realm).send_form(form.into_iter().chain(named.clone()))
            }
        })?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let body = response.body_mut().with_config().limit(1 << 20).read_to_vec();
        let body = body.map_err(|error| self.endpoint.failure(&error))?;
        Ok(challenge::token(&body).map(|token| format!("Bearer {token}")))
    }
}

impl Source for Registry {
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
