//! Accounts of this node.

use nix::unistd::{Gid, Group, Uid};
use udi::{Error, Result, User};

/// The user who runs this process.
pub fn own_uid() -> u32 {
    Uid::current().as_raw()
}

/// What the node knows of the job's user. `groups` are those of Slurm's credential; the names
/// of unknown ones are left out.
pub fn user(uid: u32, gid: u32, groups: Vec<u32>) -> Result<User> {
    let failed =
        |error| Error::admin(format!("cannot look up uid {uid} on this node")).because(error);
    let account = nix::unistd::User::from_uid(Uid::from_raw(uid))
        .map_err(failed)?
        .ok_or_else(|| Error::admin(format!("this node does not know uid {uid}")))?;
    let mut names = Vec::new();
    for group in groups.iter().chain([&gid]) {
        if let Some(known) = Group::from_gid(Gid::from_raw(*group)).map_err(failed)? {
            names.push((*group, known.name));
        }
    }
    Ok(User {
        uid,
        gid,
        groups,
        login: account.name,
        gecos: account.gecos.to_string_lossy().into_owned(),
        home: account.dir.to_string_lossy().into_owned(),
        shell: account.shell.to_string_lossy().into_owned(),
        group_names: names,
        others: Vec::new(),
    })
}
