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
        let plain = plain(config);
        let Some((rule, rest)) = rule(config, &name) else {
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
                let parts = [path.trim_matches('/'), rest];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                (host.to_owned(), parts.join("/"))
            }
        };
        let mirrored = rule.mirror.is_some();
        Self { host, repository, mirrored, http: rule.http, ca: rule.ca.clone(), via: None, plain }
    }

    /// The registry itself, if the site has it asked for what its mirror does not give.
    pub(crate) fn behind(config: &Config, image: &DockerRef) -> Option<Self> {
        let (registry, repository) = (image.registry(), image.repository().to_owned());
        let name = format!("{registry}/{repository}");
        let (rule, _) = rule(config, &name)?;
        rule.fallback.then(|| Self { repository, ..Self::at(config, registry) })
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

/// The site's rule for a name, and what the name has after the rule's prefix.
fn rule<'a>(config: &'a Config, name: &'a str) -> Option<(&'a RegistryRule, &'a str)> {
    let rest = |prefix: &str| {
        let rest = name.strip_prefix(prefix.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
    };
    let rules = config.registry.iter().filter_map(|rule| Some((rule, rest(&rule.prefix)?)));
    rules.max_by_key(|(rule, _)| rule.prefix.trim_end_matches('/').len())
}

fn plain(config: &Config) -> Vec<String> {
    let rules = config.registry.iter().filter(|rule| rule.http);
    let places = rules.map(|rule| rule.mirror.as_deref().unwrap_or(&rule.prefix));
    places.filter_map(|place| place.split('/').next()).map(str::to_owned).collect()
}

/// Whether it may help to ask again.
pub(super) fn may_pass(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;
    // A mistyped name should not cost its typist eight seconds.
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
    let is_failure = || error.to_string().contains("lookup address");
    matches!(error, ureq::Error::HostNotFound) || is_failure() && !is_no_resolver(error)
}

/// Whether nobody could be asked for the address (EAI_AGAIN), in glibc's words and in musl's.
pub(super) fn is_no_resolver(error: &ureq::Error) -> bool {
    let text = error.to_string();
    ["Temporary failure in name resolution", "lookup address information: Try again"]
        .iter()
        .any(|words| text.contains(words))
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
    fn the_registry_behind_a_mirror_is_reached_by_its_own_rule() {
        let text = r#"
            [store]
            path = "/x"
            [[registry]]
            prefix = "docker.io/library"
            mirror = "mirror:5000/hub"
            http = true
            fallback = true
            [[registry]]
            prefix = "r.io"
            ca = "/ca.pem"
            [[registry]]
            prefix = "r.io/team"
            mirror = "mirror:5000"
            fallback = true
        "#;
        let config = Config::parse(text, Path::new("x")).unwrap();
        let behind = |name| match ImageRef::parse(name, &config.names()).unwrap() {
            ImageRef::Docker(image) => Endpoint::behind(&config, &image),
            other => panic!("{other:?}"),
        };
        let hub = behind("debian").unwrap();
        assert_eq!(hub.url("x"), "https://registry-1.docker.io/v2/library/debian/x");
        assert!(!hub.mirrored);
        let team = behind("r.io/team/app").unwrap();
        assert_eq!(
            (team.url("x").as_str(), team.ca),
            ("https://r.io/v2/team/app/x", Some("/ca.pem".into()))
        );
        assert_eq!((behind("a/b"), behind("r.io/other")), (None, None));
        let error = Config::parse(&text.replace("mirror =", "#"), Path::new("x")).unwrap_err();
        assert!(error.what().contains("registry docker.io/library: fallback: there is no mirror"));
    }

    #[test]
    fn who_cannot_be_asked_may_answer_later_and_who_does_not_know_will_not() {
        let failed = |why: &str| {
            ureq::Error::Io(std::io::Error::other(format!(
                "failed to lookup address information: {why}"
            )))
        };
        for again in ["Temporary failure in name resolution", "Try again"] {
            let error = failed(again);
            assert!(may_pass(&error) && !is_unknown_host(&error), "{again}");
        }
        let unknown = failed("Name or service not known");
        assert!(!may_pass(&unknown) && is_unknown_host(&unknown));
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
