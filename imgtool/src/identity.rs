//! Who runs us, with which rights, and giving them up for good.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, User, getresgid, getresuid, setgroups, setresgid, setresuid};
use std::ffi::{OsStr, OsString};

use udi::{Error, Result};

/// nobody: it owns nothing.
const NOBODY: u32 = 65534;

/// The user's environment as it was, for what runs with the user's rights only.
#[derive(Clone, Default)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment(…)")
    }
}

impl Environment {
    /// What a variable says.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str())
    }

    #[cfg(test)]
    pub(crate) fn made_of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

/// Who asked for what we do.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Who typed the command.
    pub(crate) uid: u32,
    pub(crate) login: String,
    gid: u32,
    /// Whose rights the file mode gave us, or the user's own.
    effective: u32,
    pub(crate) environment: Environment,
}

impl Identity {
    /// Looks, before anything else happens.
    pub(crate) fn look() -> Result<Self> {
        let cannot = |e| Error::admin("cannot find out who runs this").because(e);
        let uids = getresuid().map_err(cannot)?;
        let gids = getresgid().map_err(cannot)?;
        let uid = uids.real.as_raw();
        if uids.effective.is_root() && uid != 0 {
            return Err(Error::admin("shifterimg is installed set-user-ID to root")
                .hint("it must belong to the store's owner: chown shifter shifterimg; chmod 4755 shifterimg"));
        }
        if uid == 0 {
            // Root is not made less by the file's mode: only root can become somebody else.
            setresuid(uids.real, uids.real, uids.real)
                .map_err(|e| Error::bug("root cannot be root").because(e))?;
        }
        let login = match User::from_uid(uids.real) {
            Ok(Some(user)) => user.name,
            _ => uid.to_string(),
        };
        Ok(Self {
            uid,
            login,
            gid: gids.real.as_raw(),
            effective: if uid == 0 { 0 } else { uids.effective.as_raw() },
            environment: Environment(std::env::vars_os().collect()),
        })
    }

    /// Whether the file mode gave us rights that the user does not have.
    pub(crate) fn is_elevated(&self) -> bool {
        self.effective != self.uid
    }

    /// Whether the user may do everything in the store.
    pub(crate) fn is_admin(&self, owner: u32) -> bool {
        self.uid == 0 || self.uid == owner
    }

    /// Whether we can act as the store's owner.
    pub(crate) fn check_owner(&self, owner: u32) -> Result<()> {
        if self.uid == 0 || self.effective == owner {
            return Ok(());
        }
        Err(Error::user("you may not write to the image store: this shifterimg is not installed set-user-ID")
            .hint("ask a store administrator to do this for you, or to make shifterimg set-user-ID to the store's owner"))
    }

    /// Becomes the store's owner, and nothing else, for good.
    pub(crate) fn become_owner(&self, owner: u32) -> Result<()> {
        self.check_owner(owner)?;
        if self.uid == 0 {
            let gid = User::from_uid(Uid::from_raw(owner))
                .ok()
                .flatten()
                .map_or(NOBODY, |u| u.gid.as_raw());
            drop_groups(gid)?;
        }
        become_uid(owner)
    }

    /// As [`become_user`](Self::become_user); but root goes on being able to read all files, and
    /// to do nothing else: for reading a tree that is root's own.
    pub(crate) fn become_user_who_reads(&self) -> Result<()> {
        if self.uid != 0 {
            return self.become_user();
        }
        let cannot = |e| Error::bug("cannot keep the right to read").because(e);
        rustix::thread::set_keep_capabilities(true).map_err(cannot)?;
        self.become_user()?;
        let read = rustix::thread::CapabilitySet::DAC_READ_SEARCH;
        let none = rustix::thread::CapabilitySet::empty();
        let sets =
            rustix::thread::CapabilitySets { effective: read, permitted: read, inheritable: none };
        rustix::thread::set_capabilities(None, sets).map_err(cannot)
    }

    /// Becomes the user who typed the command, and nothing else, for good; root becomes
    /// nobody, because what comes next parses what strangers wrote.
    pub(crate) fn become_user(&self) -> Result<()> {
        if self.uid == 0 {
            drop_groups(NOBODY)?;
            return become_uid(NOBODY);
        }
        let gid = Gid::from_raw(self.gid);
        setresgid(gid, gid, gid).map_err(|e| Error::bug("cannot give up a group").because(e))?;
        become_uid(self.uid)
    }
}

fn drop_groups(gid: u32) -> Result<()> {
    let cannot = |e| Error::bug("cannot give up groups").because(e);
    let gid = Gid::from_raw(gid);
    setgroups(&[gid]).map_err(cannot)?;
    setresgid(gid, gid, gid).map_err(cannot)
}

/// Real, effective and saved: there is no way back, and we check that there is none.
fn become_uid(uid: u32) -> Result<()> {
    let uid = Uid::from_raw(uid);
    let before = getresuid().map_err(|e| Error::bug("cannot look at our own ids").because(e))?;
    setresuid(uid, uid, uid).map_err(|e| Error::bug("cannot change the user").because(e))?;
    for old in [before.real, before.effective, before.saved] {
        if old != uid && setresuid(old, old, old).is_ok() {
            return Err(Error::bug("rights that were given up came back"));
        }
    }
    // Changing ids makes a process readable by its new user (prctl(2), PR_SET_DUMPABLE), who
    // could then put words into its mouth.
    prctl::set_dumpable(false).map_err(|e| Error::bug("cannot close the process").because(e))?;
    prctl::set_no_new_privs().map_err(|e| Error::bug("cannot set no_new_privs").because(e))
}

/// What every set-user-ID program does first.
pub(crate) fn harden() -> Result<()> {
    open_standard_files()?;
    // Directories of the store are 0711, and every file is created 0600 and opened up later.
    umask(Mode::from_bits_truncate(0o066));
    let cannot = |e| Error::bug("cannot secure the process").because(e);
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(cannot)?;
    prctl::set_dumpable(false).map_err(cannot)
}

/// A caller may have closed 0, 1 or 2: then a file of the store would get that number, and
/// messages would be written into it.
fn open_standard_files() -> Result<()> {
    loop {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|e| Error::admin("cannot open /dev/null").because(e))?;
        if std::os::fd::AsRawFd::as_raw_fd(&null) > 2 {
            return Ok(());
        }
        // It stays open as the standard file that was missing.
        std::mem::forget(null);
    }
}
