//! Where a name's images come from at this site.

use std::path::PathBuf;

use udi::{Config, DockerRef, RegistryRule, Result};
use ureq::Proxy;

use super::proxy::proxy;
use crate::identity::Environment;

/// A repository, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port as people call it.
    pub(crate) host: String,
    pub(crate) repository: String,
    /// Whether a rule of the site sent us here.
    pub(crate) mirrored: bool,
    pub(super) http: bool,
    pub(super) ca: Option<PathBuf>,
    pub(super) via: Option<Via>,
    /// Servers that the site has asked without TLS.
    pub(super) plain: Vec<String>,
}

/// A proxy on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Via {
    pub(super) proxy: Proxy,
    /// Whether the site chose it, not the user.
    pub(super) is_sites: bool,
}

impl Endpoint {
    /// Applies the site's rule for the name: the longest prefix wins, compared by component.
    pub(crate) fn of(config: &Config, image: &DockerRef) -> Self {
        let name = format!("{}/{}", image.registry(), image.repository());
        let rest = |prefix: &str| {
            let rest = name.strip_prefix(prefix.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/'))
                .then(|| rest.trim_start_matches('/').to_owned())
        };
        let rules = config.registry.iter().filter_map(|rule| Some((rule, rest(&rule.prefix)?)));
        let plain = plain(config);
        let Some((rule, rest)) =
            rules.max_by_key(|(rule, _)| rule.prefix.trim_end_matches('/').len())
        else {
            let (host, repository) = (image.registry().to_owned(), image.repository().to_owned());
            return Self {
                host,
                repository,
                mirrored: false,
                http: false,
                ca: None,
                via: None,
                plain,
            };
        };
        let (host, repository) = match &rule.mirror {
            None => (image.registry().to_owned(), image.repository().to_owned()),
            Some(mirror) => {
                let (host, path) = mirror.split_once('/').unwrap_or((mirror, ""));
                let parts = [path.trim_matches('/'), &rest];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                (host.to_owned(), parts.join("/"))
            }
        };
        let mirrored = rule.mirror.is_some();
        Self { host, repository, mirrored, http: rule.http, ca: rule.ca.clone(), via: None, plain }
    }

    /// A registry as such, as the site's rules have it reached.
    pub(crate) fn at(config: &Config, host: &str) -> Self {
        let own = |rule: &&RegistryRule| {
            rule.mirror.is_none() && rule.prefix.trim_end_matches('/') == host
        };
        let named = |rule: &&RegistryRule| {
            let place = rule.mirror.as_deref().unwrap_or(&rule.prefix);
            place.split('/').next() == Some(host)
        };
        let rule = config.registry.iter().find(own).or_else(|| config.registry.iter().find(named));
        Self {
            host: host.to_owned(),
            repository: String::new(),
            mirrored: false,
            http: rule.is_some_and(|rule| rule.http),
            ca: rule.and_then(|rule| rule.ca.clone()),
            via: None,
            plain: plain(config),
        }
    }

    /// The same, asked through the user's or the site's proxy if there is one. Plain HTTP never
    /// is: whoever runs the proxy could change what comes, for everybody.
    pub(crate) fn through_proxy(self, config: &Config, environment: &Environment) -> Result<Self> {
        if self.http {
            return Ok(self);
        }
        let via = proxy(&config.images, environment)?;
        Ok(Self { via: via.map(|(proxy, is_sites)| Via { proxy, is_sites }), ..self })
    }

    /// The proxy that this registry is asked through.
    pub(super) fn way(&self) -> Option<&Via> {
        let root: ureq::http::Uri = self.root().parse().ok()?;
        self.via.as_ref().filter(|via| !via.proxy.is_no_proxy(&root))
    }

    /// Where the registry says what it is.
    pub(super) fn root(&self) -> String {
        // Docker Hub's registry has a name of its own.
        let host = if self.host == "docker.io" { "registry-1.docker.io" } else { &self.host };
        format!("{}://{host}/v2/", if self.http { "http" } else { "https" })
    }

    /// `path` below the repository.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{}/{path}", self.root(), self.repository)
    }

    /// What was asked, for people.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

fn plain(config: &Config) -> Vec<String> {
    let rules = config.registry.iter().filter(|rule| rule.http);
    let places = rules.map(|rule| rule.mirror.as_deref().unwrap_or(&rule.prefix));
    places.filter_map(|place| place.split('/').next()).map(str::to_owned).collect()
}

/// Whether it may help to ask again.
pub(super) fn may_pass(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;
    // The resolver has asked all its servers more than once already, and a mistyped name should
    // not cost its typist eight seconds.
    if is_unknown_host(error) {
        return false;
    }
    match error {
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
        ureq::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::PermissionDenied
        ),
        _ => false,
    }
}

/// Whether the registry's name has no address: getaddrinfo's failure comes as an io::Error
/// without a kind.
pub(super) fn is_unknown_host(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::HostNotFound) || error.to_string().contains("lookup address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use udi::ImageRef;

    fn endpoint(rules: &str, name: &str) -> Endpoint {
        let text = format!("[store]\npath = \"/x\"\n{rules}");
        let config = Config::parse(&text, Path::new("x")).unwrap();
        match ImageRef::parse(name, &config.names()).unwrap() {
            ImageRef::Docker(image) => Endpoint::of(&config, &image),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_rule_the_registry_itself_is_asked_by_https() {
        let hub = endpoint("", "ubuntu:14.04");
        assert_eq!(
            hub.url("manifests/14.04"),
            "https://registry-1.docker.io/v2/library/ubuntu/manifests/14.04"
        );
        assert_eq!(endpoint("", "r.io:5000/a/b:1").root(), "https://r.io:5000/v2/");
        assert!(!hub.mirrored);
    }

    #[test]
    fn the_longest_rule_wins_and_matches_whole_components() {
        let rules = r#"
            [[registry]]
            prefix = "docker.io"
            mirror = "mirror:5000/hub/"
            http = true
            [[registry]]
            prefix = "docker.io/library/ubuntu"
            mirror = "local:5000"
            [[registry]]
            prefix = "docker.io/lib"
            mirror = "wrong"
            [[registry]]
            prefix = "r.io"
            http = true
        "#;
        assert_eq!(endpoint(rules, "a/b").url("x"), "http://mirror:5000/v2/hub/a/b/x");
        assert_eq!(endpoint(rules, "debian").name(), "mirror:5000/hub/library/debian");
        assert_eq!(endpoint(rules, "r.io/a").url("x"), "http://r.io/v2/a/x");
        let whole = endpoint(rules, "ubuntu:14.04");
        assert_eq!((whole.host.as_str(), whole.repository.as_str()), ("local:5000", ""));
    }

    #[test]
    fn a_registry_as_such_is_reached_as_the_rules_that_name_it_say() {
        let text = r#"
            [store]
            path = "/x"
            [[registry]]
            prefix = "docker.io"
            mirror = "mirror:5000/hub"
            http = true
            [[registry]]
            prefix = "r.io/team"
            ca = "/ca.pem"
            [[registry]]
            prefix = "plain.io/"
            http = true
        "#;
        let config = Config::parse(text, Path::new("x")).unwrap();
        let at = |host| Endpoint::at(&config, host);
        // Whoever logs in to the Docker Hub does not log in to its mirror.
        assert_eq!(at("docker.io").root(), "https://registry-1.docker.io/v2/");
        assert_eq!(at("mirror:5000").root(), "http://mirror:5000/v2/");
        assert_eq!(at("plain.io").root(), "http://plain.io/v2/");
        assert_eq!(at("r.io").ca.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(at("other.io").root(), "https://other.io/v2/");
        assert_eq!(at("other.io").plain, ["mirror:5000", "plain.io"]);
    }
}
