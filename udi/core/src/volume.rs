//! `--volume=FROM:TO[:FLAG…]`.

use std::fmt;

use crate::host_path::HostPath;
use crate::{Config, Error, GuestPath, ImageRef, Result, Size};

/// Something that the user wants inside the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Volume {
    /// Where it appears inside. First, so that volumes sort by target: parents first.
    pub to: GuestPath,
    /// What appears.
    pub what: What,
    /// Whether it can only be read inside.
    pub read_only: bool,
}

/// What a volume shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A file or directory of the node, opened with the user's own rights.
    Host(HostPath),
    /// `tmpfs=size=SIZE`: memory, empty, as long as the UDI.
    Tmpfs(Size),
    /// `perNodeCache=size=SIZE[,fs=FS]`: a file system of the node's own, as long as the UDI.
    Cache {
        /// A path on the storage that shall hold its file; any of the site's if none.
        near: Option<String>,
        /// How much fits.
        size: Size,
        /// The file system, if the user named one.
        fs: Option<CacheFs>,
    },
    /// `squashfs`: a data image of the store.
    Image(ImageRef),
}

/// The file system in a per-node cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheFs {
    /// XFS.
    Xfs,
    /// ext4.
    Ext4,
}

impl CacheFs {
    /// Its name, as mount(8) has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
        }
    }

    /// The smallest one. Its own program refuses less.
    pub fn least(self) -> Size {
        match self {
            Self::Xfs => Size::from_bytes(300 << 20),
            Self::Ext4 => Size::from_bytes(1 << 20),
        }
    }
}

/// Why an image of the node's own is no data image.
const LOCAL: &str = "a local: image cannot be a volume; mount its directory";

/// FROM of what comes from nowhere.
const NONE: &str = "none";

impl Volume {
    /// Parses what a user typed after `--volume=`: one volume, or several separated by `;`.
    /// A backslash keeps the `:`, `;`, `$` or backslash after it.
    pub fn parse_list(text: &str, site: &Config) -> Result<Vec<Self>> {
        let refuse = |one: &str, why: &str| {
            Error::user(format!("--volume={one}: {why}"))
                .hint("use FROM:TO or FROM:TO:ro, for example --volume=/scratch/me:/data")
        };
        let mut volumes = Vec::new();
        for one in split(text, ';').map_err(|why| refuse(text, why))? {
            if one.is_empty() {
                continue;
            }
            volumes.push(Self::parse(one, site).map_err(|why| refuse(one, &why))?);
        }
        if volumes.is_empty() { Err(refuse(text, "no volume")) } else { Ok(volumes) }
    }

    fn parse(one: &str, site: &Config) -> std::result::Result<Self, String> {
        let parts = split(one, ':')?;
        // An image's name has colons of its own, but none of its parts begins with a slash.
        let is_image = parts.get(2..).is_some_and(|rest| rest.contains(&"squashfs"));
        if is_image && parts.first() == Some(&"local") {
            return Err(LOCAL.into());
        }
        let to = if is_image {
            parts.iter().skip(1).position(|part| part.starts_with('/'))
        } else {
            None
        };
        let (from, rest) = parts.split_at(1 + to.unwrap_or(0));
        let from = from.join(":");
        let [to, flags @ ..] = rest else { return Err("TO is missing".into()) };
        let to = GuestPath::parse(&unescape(to)).map_err(|e| e.what())?;
        let (mut read_only, mut what) = (false, None);
        for flag in flags {
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            let kind = match name {
                "ro" if value.is_empty() => {
                    read_only = true;
                    continue;
                }
                "tmpfs" => tmpfs(&from, value)?,
                "perNodeCache" => cache(&from, value)?,
                "squashfs" if value.is_empty() => image(&from, site)?,
                "rec" | "slave" | "private" => {
                    return Err(format!("the flag {flag} is for the site's own mounts"));
                }
                _ => return Err(format!("unknown flag {flag:?}")),
            };
            if what.replace(kind).is_some() {
                return Err(format!("{flag} and another flag say what it is"));
            }
        }
        let what = match what {
            Some(what) => what,
            None if from == NONE => {
                return Err("none needs tmpfs=size=SIZE or perNodeCache=size=SIZE".into());
            }
            None => What::Host(HostPath::parse(&from, &site.volumes)?),
        };
        match what {
            What::Tmpfs(_) | What::Cache { .. } if read_only => {
                Err("it begins empty, so ro is of no use".into())
            }
            What::Image(_) => Ok(Self { to, what, read_only: true }),
            what => Ok(Self { to, what, read_only }),
        }
    }

    /// Volumes in the order in which they are mounted; two on one target are refused.
    pub fn in_order(mut volumes: Vec<Self>) -> Result<Vec<Self>> {
        volumes.sort();
        volumes.dedup();
        for pair in volumes.windows(2) {
            if let [a, b] = pair
                && a.to == b.to
            {
                let what = format!("--volume: both {} and {} want to be {}", a.what, b.what, a.to);
                return Err(Error::user(what).hint("give each volume a target of its own"));
            }
        }
        Ok(volumes)
    }
}

/// `size=SIZE[,fs=FS]`.
fn settings(value: &str) -> std::result::Result<(Size, Option<CacheFs>), String> {
    let (mut size, mut fs) = (None, None);
    for setting in value.split(',') {
        match setting.split_once('=') {
            Some(("size", text)) => size = Some(text.parse()?),
            Some(("fs", "xfs")) => fs = Some(CacheFs::Xfs),
            Some(("fs", "ext4")) => fs = Some(CacheFs::Ext4),
            Some(("fs", other)) => return Err(format!("{other:?} is not xfs or ext4")),
            _ => return Err(format!("unknown setting {setting:?}")),
        }
    }
    Ok((size.ok_or("size=SIZE is missing")?, fs))
}

fn tmpfs(from: &str, value: &str) -> std::result::Result<What, String> {
    if from != NONE {
        return Err("a tmpfs comes from nowhere: write none as FROM".into());
    }
    match settings(value)? {
        (size, None) => Ok(What::Tmpfs(size)),
        _ => Err("a tmpfs has no fs=".into()),
    }
}

fn cache(from: &str, value: &str) -> std::result::Result<What, String> {
    let (size, fs) = settings(value)?;
    let from = unescape(from);
    if from != NONE && !from.starts_with('/') {
        return Err(
            "FROM must be an absolute path on the storage that shall hold it, or none".into()
        );
    }
    Ok(What::Cache { near: (from != NONE).then_some(from), size, fs })
}

fn image(from: &str, site: &Config) -> std::result::Result<What, String> {
    match ImageRef::parse(&unescape(from), &site.names()).map_err(|e| e.what())? {
        ImageRef::Local(_) => Err(LOCAL.into()),
        image => Ok(What::Image(image)),
    }
}

/// Splits at `separator` where no backslash precedes it; the escapes stay in the parts.
fn split(text: &str, separator: char) -> std::result::Result<Vec<&str>, &'static str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == separator {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    if escaped {
        return Err("a backslash at the end");
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn unescape(text: &str) -> String {
    let (mut plain, mut escaped) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            plain.push(c);
        }
    }
    plain
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if matches!(c, ':' | ';' | '\\') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

impl fmt::Display for What {
    /// FROM, as `--volume=` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(path) => write!(f, "{path}"),
            // Its colons are no separators: see `Volume::parse`.
            Self::Image(image) => write!(f, "{image}"),
            Self::Cache { near: Some(path), .. } => f.write_str(&escape(path)),
            Self::Tmpfs(_) | Self::Cache { near: None, .. } => f.write_str(NONE),
        }
    }
}

impl fmt::Display for Volume {
    /// As `--volume=` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.what, escape(self.to.as_str()))?;
        match &self.what {
            What::Host(_) if self.read_only => f.write_str(":ro"),
            What::Host(_) => Ok(()),
            What::Image(_) => f.write_str(":squashfs"),
            What::Tmpfs(size) => write!(f, ":tmpfs=size={size}"),
            What::Cache { size, fs, .. } => {
                write!(f, ":perNodeCache=size={size}")?;
                fs.map_or(Ok(()), |fs| write!(f, ",fs={}", fs.name()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
