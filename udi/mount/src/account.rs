//! Accounts of this node.

use nix::unistd::{Gid, Group, Uid};
use udi::{Account, Error, Result, User};

use crate::node::Node;

/// The user who runs this process.
pub fn own_uid() -> u32 {
    Uid::current().as_raw()
}

/// The user who runs this process, as this machine knows them.
pub fn own_user() -> Result<User> {
    let groups = nix::unistd::getgroups()
        .map_err(|error| Error::bug("cannot read the groups of this process").because(error))?;
    user(own_uid(), Gid::current().as_raw(), groups.into_iter().map(Gid::as_raw).collect())
}

fn user(uid: u32, gid: u32, groups: Vec<u32>) -> Result<User> {
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

impl Node {
    /// What the node knows of the job's user. `groups` are those of Slurm's credential; the names
    /// of unknown ones are left out. `others` are accounts that shall be known inside as well:
    /// no job fails for one that the node lacks, but the node's log says so.
    pub fn user(&self, uid: u32, gid: u32, groups: Vec<u32>, others: &[String]) -> Result<User> {
        let others = others.iter().filter_map(|login| self.account(login)).collect();
        Ok(User { others, ..user(uid, gid, groups)? })
    }

    fn account(&self, login: &str) -> Option<Account> {
        let unknown = |why: &str| self.log(&format!("users: {login} is left out: {why}"));
        let account = match nix::unistd::User::from_name(login) {
            Ok(Some(account)) => account,
            Ok(None) => {
                unknown("this node does not know it");
                return None;
            }
            Err(error) => {
                unknown(&error.to_string());
                return None;
            }
        };
        let gid = account.gid;
        // A group without a name is called like its account.
        let group = Group::from_gid(gid).ok().flatten().map_or(account.name.clone(), |g| g.name);
        Some(Account { uid: account.uid.as_raw(), gid: gid.as_raw(), login: account.name, group })
    }
}
