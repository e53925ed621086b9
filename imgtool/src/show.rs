//! Commands that look: images, lookup, inspect; and rm.

use serde_json::json;
use std::io::Write;
use std::time::Duration;

use udi::{Config, Digest, Error, ImageRef, Result};
use udi_store::publish::{Caller, Listed, Removed};
use udi_store::{Store, Unreadable};

use crate::cli;
use crate::identity::Identity;
use crate::progress::size;
use crate::table::{aligned, labelled, terminal_width};

/// `shifterimg images`
pub(crate) fn images(config: &Config, identity: &Identity, args: &cli::Images) -> Result<()> {
    let store = Store::open(&config.store)?;
    identity.check_owner(store.owner())?;
    identity.become_owner(store.owner())?;
    let keeper = store.keeper()?;
    let admin = identity.is_admin(store.owner());
    let mut rows: Vec<(Listed, u64)> = Vec::new();
    for listed in keeper.list()? {
        if admin || listed.visible_to(identity.uid) {
            let record = store.manifest(&listed.entry.digest)?;
            let bytes = record.as_ref().and_then(|r| r.preferred()).map_or(0, |file| file.size);
            rows.push((listed, bytes));
        }
    }
    if args.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(l, bytes)| {
                json!({
                    "image": l.name, "platform": l.platform, "digest": l.entry.digest, "size": bytes,
                    "pulled": l.entry.when, "by": l.entry.by, "from": l.entry.from, "private": l.private.is_some(),
                })
            })
            .collect();
        return print(&pretty(&json!(list))?);
    }
    let mut names = rows.iter().map(|(l, _)| short(&l.name, config));
    if args.quiet {
        return print(&names.collect::<Vec<_>>().join("\n"));
    }
    // Images for other platforms are rare, and most sites have one.
    let usual = rows.iter().all(|(l, _)| l.platform == config.images.platform);
    let mut table = vec![["IMAGE", "DIGEST", "SIZE", "PULLED", "BY", "ACCESS"].map(str::to_owned)];
    for (listed, bytes) in &rows {
        let name = names.next().unwrap_or_default();
        table.push([
            if usual { name } else { format!("{name} ({})", listed.platform) },
            listed.entry.digest.short().to_owned(),
            size(*bytes),
            ago(listed.entry.when),
            listed.entry.by.clone(),
            if listed.private.is_some() { "private" } else { "public" }.to_owned(),
        ]);
    }
    print(&aligned(&table, terminal_width()))
}

/// `shifterimg lookup`
pub(crate) fn lookup(config: &Config, identity: &Identity, args: &cli::Lookup) -> Result<()> {
    let (_, digest) = find(config, identity, &args.image, args.platform.as_deref())?;
    if args.json {
        return print(&pretty(&json!({ "digest": digest }))?);
    }
    print(digest.as_str())
}

/// `shifterimg inspect`
pub(crate) fn inspect(config: &Config, identity: &Identity, args: &cli::Inspect) -> Result<()> {
    let (store, digest) = find(config, identity, &args.image, args.platform.as_deref())?;
    let located = store.locate(&digest)?;
    let command = if args.image.starts_with("user:") { "import" } else { "pull" };
    let record = store
        .manifest(&digest)?
        .ok_or_else(|| Error::user(format!("{digest} was just removed")))?;
    let path = store.path().join(&located.path);
    let readable = record.is_made_readable();
    let unreadable = record.preferred().map(|file| file.unreadable.clone()).unwrap_or_default();
    if args.json {
        let file = json!({
            "path": path, "id": located.file_id, "format": located.format, "size": located.size,
            "readable": readable, "unreadable": unreadable,
        });
        return print(&pretty(&json!({ "image": record.info, "file": file }))?);
    }
    let info = record.info;
    let width = terminal_width();
    let mut lines = Vec::new();
    let mut line = |label: &str, value: &str| {
        lines.push(labelled(label, &printable(value), width));
    };
    line("digest:      ", digest.as_str());
    line("platform:    ", &info.platform);
    line("file:        ", &path.display().to_string());
    line("size:        ", &format!("{} ({})", size(located.size), located.format));
    match (readable, unreadable.files) {
        (true, _) => {
            line("modes:       ", &format!("made readable for everybody ({command} --readable)"))
        }
        (false, 0) => line("modes:       ", "the image's own"),
        (false, _) => {
            line("modes:       ", "the image's own");
            line(
                "unreadable:  ",
                &format!("{}; {command} --readable helps", some_files(&unreadable)),
            );
        }
    }
    line("workdir:     ", &info.workdir);
    line("user:        ", &info.user);
    line("entrypoint:  ", &words(&info.entrypoint));
    line("cmd:         ", &words(&info.cmd));
    line("layers:      ", &info.layers.len().to_string());
    info.layers.iter().for_each(|layer| line("  ", layer.as_str()));
    line("environment:", "");
    info.env.iter().for_each(|variable| line("  ", variable));
    if !info.labels.is_empty() {
        line("labels:", "");
        info.labels.iter().for_each(|(key, value)| line("  ", &format!("{key}={value}")));
    }
    print(&lines.join("\n"))
}

/// `shifterimg rm`
pub(crate) fn rm(config: &Config, identity: &Identity, args: &cli::Rm) -> Result<()> {
    // A mistake in the last name is told before the first one is gone.
    let images = args
        .images
        .iter()
        .map(|typed| Ok((typed, cli::image(typed, config)?)))
        .collect::<Result<Vec<_>>>()?;
    let store = Store::open(&config.store)?;
    identity.check_owner(store.owner())?;
    identity.become_owner(store.owner())?;
    let keeper = store.keeper()?;
    let admin = identity.is_admin(store.owner());
    let caller = Caller { uid: identity.uid, login: identity.login.clone(), admin };
    let mut total = Removed::default();
    for (typed, image) in &images {
        let removed = keeper.remove(typed, image, &caller)?;
        if !args.json {
            print(&match removed.images.len() {
                0 => format!("removed the name {typed}; the image has other names"),
                _ => format!("removed {typed}, {}", size(removed.bytes)),
            })?;
        }
        total.images.extend(removed.images);
        total.bytes += removed.bytes;
    }
    if args.json {
        return print(&pretty(&json!({ "removed": total.images, "bytes": total.bytes }))?);
    }
    Ok(())
}

/// What `image` means to the user, read with the user's rights alone: what somebody else keeps
/// private is not there.
pub(crate) fn find(
    config: &Config,
    identity: &Identity,
    image: &str,
    platform: Option<&str>,
) -> Result<(Store, Digest)> {
    let parsed = cli::image(image, config)?;
    let store = Store::open(&config.store)?;
    if identity.uid != 0 {
        identity.become_user()?;
    }
    let platform = platform.unwrap_or(&config.images.platform);
    let digest = store.resolve_as(image, &parsed, platform, identity.uid)?;
    // A pinned name is answered without looking at the file's rights.
    store.open_image(&digest)?;
    Ok((store, digest))
}

/// Prints a result; a reader that has gone away is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::user("cannot write the output").because(error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn pretty(value: &serde_json::Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::bug("cannot write JSON").because(e))
}

/// Labels and variables are an image's: nothing in them may reach a terminal as a command.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// `1,234 files (/app/data, /opt/x, …)`
pub(crate) fn some_files(unreadable: &Unreadable) -> String {
    let files = if unreadable.files == 1 { "file" } else { "files" };
    let more = unreadable.files > unreadable.examples.len() as u64;
    let examples = printable(&unreadable.examples.join(", "));
    format!(
        "{} {files} ({examples}{})",
        indicatif::HumanCount(unreadable.files),
        if more { ", …" } else { "" }
    )
}

fn words(words: &[String]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
}

fn ago(when: u64) -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let age = now.saturating_sub(Duration::from_secs(when));
    format!("{} ago", indicatif::HumanDuration(age))
}

/// A name as people type it here: without what this site adds by itself.
fn short(name: &str, config: &Config) -> String {
    let names = config.names();
    let mut best = name.to_owned();
    for part in ["docker:", &format!("{}/", names.registry), "library/"] {
        if let Some(rest) = best.strip_prefix(part) {
            let same = ImageRef::parse(rest, &names).is_ok_and(|image| image.to_string() == name);
            best = if same { rest.to_owned() } else { best };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_people_type_it_and_means_the_same() {
        let config = |more: &str| {
            Config::parse(&format!("[store]\npath = \"/x\"\n{more}"), std::path::Path::new("x"))
                .unwrap()
        };
        let hub = config("");
        for (full, shown) in [
            ("docker:docker.io/library/ubuntu:14.04", "ubuntu:14.04"),
            ("docker:docker.io/library/ubuntu:latest", "ubuntu:latest"),
            ("docker:docker.io/nersc/app:1", "nersc/app:1"),
            ("docker:registry.site:5000/library/app:1", "registry.site:5000/library/app:1"),
            ("user:alice/app:1", "user:alice/app:1"),
        ] {
            assert_eq!(short(full, &hub), shown);
            assert_eq!(ImageRef::parse(shown, &hub.names()).unwrap().to_string(), full);
        }
        let other = config("[images]\ndefault_registry = \"r.io\"\n");
        assert_eq!(short("docker:docker.io/library/a:1", &other), "docker.io/library/a:1");
        assert_eq!(short("docker:r.io/a:1", &other), "a:1");
    }
}
