//! The image store, its owner, and the tool that writes it.

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::User;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use udi_store::{Access, Store};

use super::apart;
use super::report::{Finding, failed, for_root, of_error, ok, quoted, warning};
use super::{Host, Look};
use crate::progress::size;

/// The store has this long.
const LIMIT: Duration = Duration::from_secs(5);

/// The number of an account, given by name or number.
pub(super) fn uid_of(account: &str) -> Option<u32> {
    let by_name = || Some(User::from_name(account).ok()??.uid.as_raw());
    account.parse().ok().or_else(by_name)
}

/// How much room there is at `path`.
pub(super) fn free(path: &Path) -> String {
    match statvfs(path) {
        Ok(stat) => format!("{} free", size(stat.blocks_available() * stat.fragment_size())),
        Err(error) => format!("free space unknown ({error})"),
    }
}

pub(super) fn account(host: &Host) -> Look {
    let owner = &host.config()?.store.owner;
    let who = quoted(owner);
    let Some(uid) = uid_of(owner) else {
        return Err(failed(format!("there is no account {owner}, which owns the store"))
            .run(format!(
                "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {who}"
            ))
            .task("with the same uid and gid on all hosts (--uid)"));
    };
    if uid == 0 {
        return Err(failed("store.owner is root").task(format!(
            "make an account of its own, and name it in [store] of {}",
            host.config_path.display()
        )));
    }
    let shell = User::from_uid(uid.into()).ok().flatten().map(|user| user.shell);
    let ends = ["nologin", "false"];
    if shell.is_some_and(|shell| !ends.iter().any(|end| shell.ends_with(end))) {
        return Err(warning(format!("somebody can log in as {owner}, who is as good as root"))
            .run(format!("usermod --shell /usr/sbin/nologin {who}")));
    }
    Ok(vec![ok(format!("{owner}, uid {uid}"))])
}

pub(super) fn tool(host: &Host) -> Look {
    let owner = &host.config()?.store.owner;
    let program = std::env::current_exe()
        .map_err(|error| failed(format!("cannot tell which file we are: {error}")))?;
    let meta = std::fs::metadata(&program)
        .map_err(|error| failed(format!("{}: {error}", program.display())))?;
    let (shown, word, who) = (program.display(), quoted(&program), quoted(owner));
    let repair = format!("chown {who} {word} && chmod 4755 {word}");
    let mode = meta.mode();
    if mode & 0o4000 != 0 && meta.uid() == 0 {
        return Err(failed(format!("{shown} is set-user-ID to root")).run(repair));
    }
    if uid_of(owner) != Some(meta.uid()) || mode & 0o4001 != 0o4001 {
        let what = format!("{shown} is not set-user-ID to {owner}: users cannot pull");
        return Err(if mode & 0o4000 == 0 { warning(what) } else { failed(what) }.run(repair));
    }
    if mode & 0o022 != 0 {
        return Err(failed(format!("others than {owner} can write {shown}"))
            .run(format!("chmod go-w {word}")));
    }
    if let Some(directory) = program.parent() {
        udi_store::site::check(directory).map_err(|error| of_error(&error))?;
    }
    if statvfs(&program).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOSUID)) {
        return Err(warning(format!("{shown} is on a nosuid file system: users cannot pull"))
            .task("install it elsewhere"));
    }
    Ok(vec![ok(format!("{shown}, set-user-ID to {owner}"))])
}

pub(super) fn reachable(host: &Host) -> Look {
    let config = host.config()?;
    let path = &config.store.path;
    let seen = apart::run(LIMIT, || look(host).unwrap_or_else(|finding| vec![finding]));
    seen.map_err(|_| {
        failed(format!("{} does not answer within {} s", path.display(), LIMIT.as_secs()))
            .task("is the server of its file system up?")
    })
}

fn look(host: &Host) -> Look {
    let config = host.config()?;
    let path = &config.store.path;
    let (shown, who, word) = (path.display(), quoted(&config.store.owner), quoted(path));
    let store = Store::open(&config.store).map_err(|error| {
        let found = of_error(&error);
        if found.run.is_some() || found.task.is_some() {
            return found;
        }
        found.task(format!(
            "mount its file system here; a new store: install -d -o {who} -g {who} -m 2711 {word}"
        ))
    })?;
    for place in path.ancestors() {
        if std::fs::metadata(place).is_ok_and(|meta| meta.mode() & 0o001 == 0) {
            return Err(failed(format!("users cannot pass {}", place.display()))
                .run(format!("chmod o+x {}", quoted(place))));
        }
    }
    let mode = std::fs::metadata(path).map(|meta| meta.mode()).unwrap_or_default();
    if mode & 0o2000 == 0 {
        let what = format!("{shown} has no set-group-ID bit: nobody can pull");
        return Err(failed(what).run(format!("chmod 2711 {word}")));
    }
    if mode & 0o044 != 0 {
        let what = format!("users can list {shown}, and so see names of private images");
        return Err(failed(what).run(format!("chmod 2711 {word}")));
    }
    Ok(vec![ok(format!("{shown}, of uid {}; {}", store.owner(), free(path)))])
}

pub(super) fn writable(host: &Host) -> Look {
    let config = host.config()?;
    let shown = config.store.path.display();
    let may = uid_of(&config.store.owner).is_some_and(|owner| host.identity.is_admin(owner));
    if !may {
        return Err(for_root(format!("whether {shown} can be written")));
    }
    let seen = apart::run(LIMIT, || rehearse(host).unwrap_or_else(|finding| vec![finding]));
    seen.map_err(|_| failed(format!("{shown} does not answer")))
}

/// In a process of its own, which becomes the store's owner.
fn rehearse(host: &Host) -> Look {
    let failed = |error: udi::Error| -> Finding { of_error(&error) };
    let config = host.config()?;
    let store = Store::open(&config.store).map_err(failed)?;
    host.identity.become_owner(store.owner()).map_err(failed)?;
    let keeper = store.keeper().map_err(failed)?;
    keeper.rehearse(&Access::Public).map_err(failed)?;
    let one = BTreeSet::from([host.identity.uid]);
    if let Err(error) = keeper.rehearse(&Access::Users(one)) {
        let what = format!("public images only: {}", error.what());
        return Err(warning(what).task("keep the store on a file system with POSIX ACLs"));
    }
    Ok(vec![ok(format!("{} can write the store, and keep images private", config.store.owner))])
}
