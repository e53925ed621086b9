//! Image names as users type them.

use std::fmt;

use crate::{Digest, Error, GuestPath, ImageType, Result};

/// What a short image name means at this site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The registry of a name without one.
    pub registry: String,
    /// The tag of a name without tag and digest.
    pub tag: String,
}

/// An image by name or by digest. [`ImageRef::parse`] is the only way to make one, so its
/// parts hold no character that is special in a path, a URL or a shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageRef {
    /// An image of a registry.
    Docker(DockerRef),
    /// An image by digest alone: `id:sha256:…`.
    Id(Digest),
    /// An image that a user imported or tagged: `user:LOGIN/NAME[:TAG]`.
    User(UserRef),
    /// A directory or file of the nodes', below one that the site lists: `local:PATH`.
    Local(GuestPath),
}

/// `REGISTRY/REPOSITORY[:TAG][@DIGEST]`; at least one of tag and digest is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DockerRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// `LOGIN/NAME:TAG[@DIGEST]`: a name that only LOGIN may write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserRef {
    login: String,
    name: String,
    tag: String,
    digest: Option<Digest>,
}

/// How many characters of what is no name a message repeats.
const SHOWN: usize = 100;

impl ImageRef {
    /// Parses what a user typed after `--image=`.
    pub fn parse(text: &str, names: &Names) -> Result<Self> {
        parse(text, names).map_err(|why| {
            let shown = match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text.to_owned(),
            };
            Error::user(format!("--image={shown}: not an image name: {why}"))
                .hint("use NAME:TAG, for example --image=docker:ubuntu:24.04")
        })
    }

    /// The digest, if the name carries one: then it means the same image for ever.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Docker(docker) => docker.digest.as_ref(),
            Self::Id(digest) => Some(digest),
            Self::User(user) => user.digest.as_ref(),
            Self::Local(_) => None,
        }
    }

    /// The same name, pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> Self {
        let digest = Some(digest.clone());
        match self.clone() {
            Self::Docker(docker) => Self::Docker(DockerRef { digest, ..docker }),
            Self::User(user) => Self::User(UserRef { digest, ..user }),
            other @ (Self::Id(_) | Self::Local(_)) => other,
        }
    }

    /// Where the store keeps the reference, below `refs/`; nothing for a name without a tag.
    ///
    /// The tag gets a leading colon, which no repository component can have: else the tag
    /// `app:cache` and the repository `app/cache` would want the same path.
    pub fn ref_path(&self) -> Option<String> {
        match self {
            Self::Docker(d) => {
                d.tag.as_ref().map(|tag| format!("{}/{}/:{tag}", d.registry, d.repository))
            }
            Self::Id(_) | Self::Local(_) => None,
            Self::User(u) => Some(format!("user/{}/{}/:{}", u.login, u.name, u.tag)),
        }
    }

    /// The name without the digest, for messages.
    pub fn name(&self) -> String {
        match self {
            Self::Docker(d) => DockerRef { digest: None, ..d.clone() }.to_string(),
            Self::Id(digest) => format!("id:{digest}"),
            Self::User(u) => UserRef { digest: None, ..u.clone() }.to_string(),
            Self::Local(path) => format!("local:{path}"),
        }
    }

    /// What kind of name it is.
    pub fn kind(&self) -> ImageType {
        match self {
            Self::Docker(_) => ImageType::Docker,
            Self::Id(_) => ImageType::Id,
            Self::User(_) => ImageType::User,
            Self::Local(_) => ImageType::Local,
        }
    }
}

impl DockerRef {
    /// Host and port of the registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path on the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if any.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if any.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl UserRef {
    /// Who may write this name.
    pub fn login(&self) -> &str {
        &self.login
    }
}

type Parsed<T> = std::result::Result<T, String>;

fn parse(text: &str, names: &Names) -> Parsed<ImageRef> {
    if text.len() > 1024 {
        return Err("it is longer than 1024 bytes".into());
    }
    if let Some(id) = text.strip_prefix("id:") {
        return Ok(ImageRef::Id(parse_digest(id)?));
    }
    if let Some(rest) = text.strip_prefix("user:") {
        return parse_user(rest, names).map(ImageRef::User);
    }
    if let Some(path) = text.strip_prefix("local:") {
        return parse_local(path).map(ImageRef::Local);
    }
    // Other tools have it with two slashes.
    let name = text.strip_prefix("docker://").or(text.strip_prefix("docker:")).unwrap_or(text);
    parse_docker(name, names).map(ImageRef::Docker)
}

fn parse_docker(text: &str, names: &Names) -> Parsed<DockerRef> {
    let (name, tag, digest) = split(text)?;
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => (names.registry.as_str(), name),
    };
    check_registry(registry)?;
    // Docker Hub keeps its official images below library/: `ubuntu` is `library/ubuntu`.
    let repository = if registry == "docker.io" && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    check_path(&repository)?;
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some(names.tag.clone()),
    };
    Ok(DockerRef { registry: registry.to_owned(), repository, tag, digest })
}

fn parse_user(text: &str, names: &Names) -> Parsed<UserRef> {
    let (path, tag, digest) = split(text)?;
    let (login, name) = path.split_once('/').ok_or("user: needs LOGIN/NAME")?;
    check_login(login)?;
    check_path(name)?;
    let tag = tag.unwrap_or(&names.tag).to_owned();
    Ok(UserRef { login: login.to_owned(), name: name.to_owned(), tag, digest })
}

fn parse_local(text: &str) -> Parsed<GuestPath> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
    if !text.bytes().all(plain) {
        return Err("local: takes letters, digits and /._+- only".into());
    }
    match GuestPath::parse(text) {
        Ok(path) if path.as_str() != "/" => Ok(path),
        Ok(_) => Err("/ is not an image".into()),
        Err(_) => Err("local: needs an absolute path without ..".into()),
    }
}

/// Splits `NAME[:TAG][@DIGEST]`; a colon before the last slash is a registry's port.
fn split(text: &str) -> Parsed<(&str, Option<&str>, Option<Digest>)> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
        None => (text, None),
    };
    let tail = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[tail..].find(':') {
        Some(colon) => (&rest[..tail + colon], Some(&rest[tail + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    Ok((name, tag, digest))
}

fn parse_digest(text: &str) -> Parsed<Digest> {
    text.parse().map_err(|_| format!("{text:?} is not sha256: and 64 hexadecimal digits"))
}

fn check_tag(tag: &str) -> Parsed<()> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = matches!(tag.as_bytes(), [first, rest @ ..]
        if word(*first) && rest.len() < 128 && rest.iter().all(|&b| word(b) || b == b'.' || b == b'-'));
    if ok { Ok(()) } else { Err(format!("{tag:?} is not a tag")) }
}

/// No longer than registries take it; then the whole name, with all that was left out, fits too.
fn check_path(path: &str) -> Parsed<()> {
    if path.len() > 255 {
        return Err("it is longer than 255 characters".into());
    }
    path.split('/').try_for_each(check_component)
}

/// A path component of a repository, as the OCI distribution specification has it:
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn check_component(component: &str) -> Parsed<()> {
    let plain = |b: &u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    let bytes = component.as_bytes();
    let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
    let separators_fit = bytes.split(plain).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
    });
    if ends && separators_fit {
        return Ok(());
    }
    Err(match component {
        "" => "an empty name".into(),
        c if c.bytes().any(|b| b.is_ascii_uppercase()) => {
            format!("{c:?} has upper-case letters, which registries do not allow")
        }
        c => format!("{c:?} has characters that a name cannot have there"),
    })
}

fn check_registry(host: &str) -> Parsed<()> {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric();
        let bytes = label.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if plain(a) && plain(z))
            && bytes.iter().all(|&b| plain(b) || b == b'-')
    };
    let port_fits =
        port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok());
    // A host is compared and stored as typed: one spelling only.
    let lower = !host.bytes().any(|b| b.is_ascii_uppercase());
    if name.len() <= 253 && name.split('.').all(label) && port_fits && lower {
        Ok(())
    } else {
        Err(format!("{host:?} is not a registry's host[:port] in lower case"))
    }
}

fn check_login(login: &str) -> Parsed<()> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = matches!(login.as_bytes(), [first, rest @ ..]
        if word(*first) && rest.len() < 64 && rest.iter().all(|&b| word(b) || b"-.@".contains(&b)));
    if ok { Ok(()) } else { Err(format!("{login:?} is not a login name")) }
}

impl fmt::Display for ImageRef {
    /// The whole name, as `--image=` takes it: parsing it gives the same image again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(docker) => docker.fmt(f),
            Self::Id(digest) => write!(f, "id:{digest}"),
            Self::User(user) => user.fmt(f),
            Self::Local(path) => write!(f, "local:{path}"),
        }
    }
}

impl fmt::Display for DockerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker:{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl fmt::Display for UserRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user:{}/{}:{}", self.login, self.name, self.tag)?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names { registry: "docker.io".into(), tag: "latest".into() }
    }

    fn full(text: &str) -> String {
        ImageRef::parse(text, &names()).unwrap().to_string()
    }

    #[test]
    fn a_short_name_means_what_docker_users_expect() {
        let hex = "a".repeat(64);
        for (typed, meant) in [
            ("ubuntu", "docker:docker.io/library/ubuntu:latest"),
            ("docker:ubuntu:14.04", "docker:docker.io/library/ubuntu:14.04"),
            ("docker://ubuntu:14.04", "docker:docker.io/library/ubuntu:14.04"),
            ("nersc/app:1", "docker:docker.io/nersc/app:1"),
            ("ghcr.io/a/b/c:x", "docker:ghcr.io/a/b/c:x"),
            ("localhost/x", "docker:localhost/x:latest"),
            ("reg:5000/x:1", "docker:reg:5000/x:1"),
            ("user:alice/app", "user:alice/app:latest"),
        ] {
            assert_eq!(full(typed), meant);
        }
        let pinned = format!("ubuntu:14.04@sha256:{hex}");
        assert_eq!(full(&pinned), format!("docker:docker.io/library/{pinned}"));
        assert_eq!(
            full(&format!("x@sha256:{hex}")),
            format!("docker:docker.io/library/x@sha256:{hex}")
        );
        assert_eq!(full(&format!("id:sha256:{hex}")), format!("id:sha256:{hex}"));
    }

    #[test]
    fn illegal_names_are_refused_never_repaired() {
        for bad in [
            "",
            ":",
            "docker:",
            "../x",
            "/x",
            "x/",
            "a//b",
            "Ubuntu",
            "a b",
            "x:",
            "x:-a",
            "x@sha256:1",
            "x:a@",
            "a;b",
            "a\n",
            "user:alice",
            "user:../x",
            "user:a/..",
            "reg:99999/x",
            "-a.b/x",
            "a.b:/x",
            "x.",
            ".x",
            "a..b",
            "a___b",
            "é",
            "id:",
            "x:1:2",
            "http://x",
            "REG.io/x",
        ] {
            let error = ImageRef::parse(bad, &names()).unwrap_err();
            assert_eq!(error.blame(), crate::Blame::User, "{bad}");
            assert!(error.to_string().contains("hint: "), "{bad}");
        }
    }

    #[test]
    fn a_tag_and_a_repository_never_share_a_path_in_the_store() {
        let tag = ImageRef::parse("a.io/app:cache", &names()).unwrap().ref_path().unwrap();
        let repository = ImageRef::parse("a.io/app/cache:1", &names()).unwrap().ref_path().unwrap();
        assert_eq!(tag, "a.io/app/:cache");
        assert!(!repository.starts_with(&format!("{tag}/")));
    }

    #[test]
    fn a_message_does_not_repeat_all_of_a_long_name() {
        let error = ImageRef::parse(&"é".repeat(5000), &names()).unwrap_err().to_string();
        assert!(error.contains("longer than 1024 bytes") && error.len() < 400, "{error}");
    }

    #[test]
    fn the_longest_name_fits_with_all_that_was_left_out() {
        for longest in [format!("{}x", "x/".repeat(127)), "x".repeat(247)] {
            full(&full(&longest));
            assert!(ImageRef::parse(&format!("{longest}x"), &names()).is_err());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_prints_as_something_that_means_the_same(text in "[a-z0-9./:@_-]{0,40}") {
            if let Ok(image) = ImageRef::parse(&text, &names()) {
                prop_assert_eq!(ImageRef::parse(&image.to_string(), &names()).unwrap(), image);
            }
        }

        #[test]
        fn no_reference_leaves_its_place_in_the_store(text in "\\PC{0,40}") {
            if let Some(path) = ImageRef::parse(&text, &names()).ok().and_then(|i| i.ref_path()) {
                prop_assert!(path.split('/').all(|c| !matches!(c, "" | "." | "..") && !c.starts_with('.')));
            }
        }
    }
}
