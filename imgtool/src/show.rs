//! Commands that look: images, lookup, inspect; and rm.

use serde_json::json;
use std::io::Write;
use std::time::Duration;

use udi::{Config, Digest, Error, ImageRef, Result};
use udi_store::Store;
use udi_store::publish::{Caller, Listed, Removed};

use crate::cli;
use crate::identity::Identity;
use crate::progress::size;

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
    if args.quiet {
        return print(&rows.iter().map(|(l, _)| l.name.clone()).collect::<Vec<_>>().join("\n"));
    }
    let mut table =
        vec![["IMAGE", "PLATFORM", "DIGEST", "SIZE", "PULLED", "BY", "ACCESS"].map(str::to_owned)];
    for (listed, bytes) in rows {
        let access = match listed.private {
            None => "public".to_owned(),
            Some(uid) if uid == identity.uid => "private".to_owned(),
            Some(uid) => format!("private to {uid}"),
        };
        let entry = listed.entry;
        table.push([
            listed.name,
            listed.platform,
            entry.digest.short().to_owned(),
            size(bytes),
            ago(entry.when),
            entry.by,
            access,
        ]);
    }
    print(&aligned(&table))
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
    let record = store
        .manifest(&digest)?
        .ok_or_else(|| Error::user(format!("{digest} was just removed")))?;
    let path = store.path().join(&located.path);
    if args.json {
        let file = json!({ "path": path, "id": located.file_id, "format": located.format, "size": located.size });
        return print(&pretty(&json!({ "image": record.info, "file": file }))?);
    }
    let info = record.info;
    let mut lines = vec![
        format!("digest:      {digest}"),
        format!("platform:    {}", info.platform),
        format!("file:        {}", path.display()),
        format!("size:        {} ({})", size(located.size), located.format),
        format!("workdir:     {}", info.workdir),
        format!("user:        {}", info.user),
        format!("entrypoint:  {}", words(&info.entrypoint)),
        format!("cmd:         {}", words(&info.cmd)),
        format!("layers:      {}", info.layers.len()),
    ];
    lines.extend(info.layers.iter().map(|layer| format!("  {layer}")));
    lines.push("environment:".to_owned());
    lines.extend(info.env.iter().map(|variable| format!("  {variable}")));
    if !info.labels.is_empty() {
        lines.push("labels:".to_owned());
        lines.extend(info.labels.iter().map(|(key, value)| format!("  {key}={value}")));
    }
    print(&lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n"))
}

/// `shifterimg rm`
pub(crate) fn rm(config: &Config, identity: &Identity, args: &cli::Rm) -> Result<()> {
    let names = config.names();
    let images = args
        .images
        .iter()
        .map(|image| ImageRef::parse(image, &names))
        .collect::<Result<Vec<_>>>()?;
    let store = Store::open(&config.store)?;
    identity.check_owner(store.owner())?;
    identity.become_owner(store.owner())?;
    let keeper = store.keeper()?;
    let admin = identity.is_admin(store.owner());
    let caller = Caller { uid: identity.uid, login: identity.login.clone(), admin };
    let mut total = Removed::default();
    for image in &images {
        let removed = keeper.remove(image, &caller)?;
        total.images.extend(removed.images);
        total.bytes += removed.bytes;
    }
    if args.json {
        return print(&pretty(&json!({ "removed": total.images, "bytes": total.bytes }))?);
    }
    match total.images.len() {
        0 => print("removed the name; the image has other names"),
        n => print(&format!(
            "removed {n} image{}, {}",
            if n == 1 { "" } else { "s" },
            size(total.bytes)
        )),
    }
}

/// What `image` means to the user, read with the user's rights alone: what somebody else keeps
/// private is not there.
fn find(
    config: &Config,
    identity: &Identity,
    image: &str,
    platform: Option<&str>,
) -> Result<(Store, Digest)> {
    let parsed = ImageRef::parse(image, &config.names())?;
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
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
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

fn aligned<const N: usize>(table: &[[String; N]]) -> String {
    let width =
        |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}
