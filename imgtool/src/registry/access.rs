//! Being let in by a registry: as nobody first, then as the user.

use ureq::http::{HeaderMap, StatusCode};

use udi::{Error, Result};

use super::challenge::{self, Challenge};
use super::{Credentials, Registry};

/// How far we had to go to be let in.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// The header; nothing until the registry asks.
    pub(super) authorization: Option<String>,
    /// Whether the user's credentials are in use: only after nobody was refused.
    personal: bool,
}

impl Registry {
    /// Whether the registry answered only because of who asked.
    pub(crate) fn is_personal(&self) -> bool {
        self.login.lock().is_ok_and(|login| login.personal)
    }

    /// Whether there is a login that has not been used yet.
    pub(super) fn can_log_in(&self) -> bool {
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
    pub(super) fn log_in(&self, headers: &HeaderMap, personal: bool) -> Result<bool> {
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
