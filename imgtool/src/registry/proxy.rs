//! Through which proxy a registry is asked.

use ureq::{Proxy, ProxyProtocol};

use udi::{Error, ImagesConfig, Result};

use crate::identity::Environment;

/// A proxy for what TLS protects, and for nothing else: whoever runs it then sees which registry
/// is asked, and can change nothing. So the user may choose it, too. Gives also whether it is the
/// site's.
pub(crate) fn proxy(
    config: &ImagesConfig,
    environment: &Environment,
) -> Result<Option<(Proxy, bool)>> {
    let variable = |names: [&str; 2]| {
        let values = names.into_iter().filter_map(|name| environment.get(name)?.to_str());
        values.map(str::trim).find(|value| !value.is_empty()).map(str::to_owned)
    };
    let names = |list: &str| list.split(',').map(|name| name.trim().to_owned()).collect();
    let mine = variable(["https_proxy", "HTTPS_PROXY"]);
    let direct = variable(["no_proxy", "NO_PROXY"]);
    let direct: Vec<String> = match (&mine, direct) {
        (_, Some(direct)) => names(&direct),
        (Some(_), None) => Vec::new(),
        (None, None) => config.no_proxy.clone(),
    };
    let sites = Some(config.proxy.as_str()).filter(|url| !url.is_empty());
    match (mine, sites) {
        (Some(url), _) => build(&url, &direct).map(|mine| Some((mine, false))).ok_or_else(|| {
            // It may have a password in it.
            Error::user(format!("https_proxy {}", not_one(&url)))
                .hint("set it to http://HOST:PORT, or unset it")
        }),
        (None, Some(url)) => {
            build(url, &direct).map(|sites| Some((sites, true))).ok_or_else(|| {
                Error::admin(format!("images.proxy {}", not_one(url)))
                    .hint("set it to http://HOST:PORT in shifter.toml")
            })
        }
        (None, None) => Ok(None),
    }
}

/// Why it is none that we can talk to.
fn not_one(url: &str) -> &'static str {
    match url.trim_start().starts_with("socks") {
        true => "is a SOCKS proxy's address, and shifterimg talks to HTTP proxies only",
        false => "is no proxy's address",
    }
}

/// Nothing if it is none that we can talk to.
fn build(url: &str, direct: &[String]) -> Option<Proxy> {
    let parsed = Proxy::new(url).ok()?;
    let known = matches!(parsed.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    let mut builder = Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(user) = parsed.username() {
        builder = builder.username(user);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    for name in direct {
        // A port is left out: whoever names one has one registry on that host.
        let name = match name.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => name,
        };
        if name.is_empty() {
            continue;
        }
        builder = builder.no_proxy(name);
        // As curl has it, a name stands for all below it.
        if !name.starts_with(['.', '*']) {
            builder = builder.no_proxy(&format!(".{name}"));
        }
    }
    if known { builder.build().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], site: Option<&str>) -> Result<Option<Proxy>> {
        let config = ImagesConfig {
            proxy: site.unwrap_or("").to_owned(),
            no_proxy: vec!["site.org".into()],
            ..ImagesConfig::default()
        };
        Ok(proxy(&config, &Environment::made_of(variables))?.map(|(proxy, is_sites)| {
            assert_eq!(
                is_sites,
                !variables.iter().any(|(name, _)| name.eq_ignore_ascii_case("https_proxy"))
            );
            proxy
        }))
    }

    fn direct(proxy: &Proxy, host: &str) -> bool {
        proxy.is_no_proxy(&format!("https://{host}/v2/").parse().unwrap())
    }

    #[test]
    fn the_users_proxy_goes_before_the_sites() {
        assert_eq!(of(&[], None).unwrap(), None);
        let sites = of(&[], Some("http://proxy.site.org:3128")).unwrap().unwrap();
        assert_eq!((sites.host(), sites.port()), ("proxy.site.org", 3128));
        assert!(direct(&sites, "site.org") && direct(&sites, "r.site.org"));
        assert!(!direct(&sites, "othersite.org") && !direct(&sites, "r.io"));
        let variables =
            [("HTTPS_PROXY", "http://me:p%40ss@mine:8080"), ("no_proxy", "r.io:5000, .x.org,")];
        let mine = of(&variables, Some("http://proxy.site.org:3128")).unwrap().unwrap();
        assert_eq!((mine.host(), mine.port()), ("mine", 8080));
        assert_eq!((mine.username(), mine.password()), (Some("me"), Some("p@ss")));
        assert!(
            direct(&mine, "r.io:5000") && direct(&mine, "a.x.org") && !direct(&mine, "site.org")
        );
        // Alone it says where the site's is not needed.
        let sites = of(&[("NO_PROXY", "*")], Some("http://proxy:3128")).unwrap().unwrap();
        assert!(direct(&sites, "r.io"));
    }

    #[test]
    fn a_proxy_that_is_none_is_told_without_its_password() {
        for bad in ["socks5://me:hush@x:1", "http://", "me:hush@", "http://me:hush@[x"] {
            let error = of(&[("https_proxy", bad)], None).unwrap_err();
            assert!(!error.lines().join("\n").contains("hush"), "{bad}");
            assert_eq!(error.what().contains("HTTP proxies only"), bad.starts_with("socks"));
        }
        let error = of(&[], Some("ftp://x")).unwrap_err();
        assert_eq!(error.blame(), udi::Blame::Admin);
    }
}
