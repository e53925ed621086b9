//! One writer at a time, on a file system without locks, and none for ever.
//!
//! A lease is a file made by link(2), which is atomic on NFS, Lustre and GPFS alike. It says
//! which process holds it. A holder on this machine that is dead loses it at once; one on
//! another machine when it has not touched the file for [`EXPIRY`].

use nix::sys::signal::kill;
use nix::unistd::Pid;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use udi::{Error, Result};

use super::Keeper;
use crate::beneath;

/// How long a lease of another machine lives untouched.
const EXPIRY: Duration = Duration::from_secs(600);
/// How often a holder touches its lease.
const RENEWAL: Duration = Duration::from_secs(30);
const MAX_BYTES: u64 = 4096;

/// The outcome of asking for a lease.
#[derive(Debug)]
pub enum Claim {
    /// It is ours.
    Mine(Lease),
    /// Somebody is at work.
    Held(Holder),
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Unique to this lease; names its temporary files.
    pub nonce: String,
    /// Host name.
    pub host: String,
    /// Boot and process namespace: where `pid` means something.
    place: String,
    /// Process id.
    pub pid: i32,
    /// When the process started, in clock ticks: ids come round.
    started: String,
    /// The login for whom it works.
    pub login: String,
}

/// The right to work on one thing, until dropped.
#[derive(Debug)]
pub struct Lease {
    dir: OwnedFd,
    key: String,
    holder: Holder,
    renewed: Instant,
}

impl Keeper<'_> {
    /// Asks for the lease of `key` (a file name), on behalf of `login`.
    pub fn lease(&self, key: &str, login: &str) -> Result<Claim> {
        let dir = self.directory("leases")?;
        let failed = |error| self.cannot_write(&format!("leases/{key}"), error);
        let holder = Holder::this_process(login)?;
        let candidate = format!(".{}", holder.nonce);
        let now = put(&dir, &candidate, &holder).map_err(failed)?;
        let claim = contest(&dir, key, &candidate, now);
        let _ = rustix::fs::unlinkat(&dir, &candidate, AtFlags::empty());
        Ok(match claim.map_err(failed)? {
            None => {
                Claim::Mine(Lease { dir, key: key.to_owned(), holder, renewed: Instant::now() })
            }
            Some(other) => Claim::Held(other),
        })
    }

    /// Asks until the lease is ours, for at most `patience`.
    pub(super) fn lease_soon(&self, key: &str, login: &str, patience: Duration) -> Result<Lease> {
        let start = Instant::now();
        loop {
            match self.lease(key, login)? {
                Claim::Mine(lease) => return Ok(lease),
                Claim::Held(_) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Claim::Held(other) => {
                    return Err(Error::user(format!(
                        "{} on {} is at work on the same image",
                        other.login, other.host
                    ))
                    .hint("try again in a minute"));
                }
            }
        }
    }

    /// Removes what writers that are no more left behind. Never an error: it is no part of
    /// what the user asked for.
    pub fn tidy(&self) {
        let Ok(dir) = self.directory("leases") else { return };
        // Temporary files first: each was made under a lease that was there before it.
        let temps = self.names("tmp").unwrap_or_default();
        let Ok(Some(now)) = clock(&dir) else { return };
        let mut alive = Vec::new();
        for (key, _) in self.names("leases").unwrap_or_default() {
            if key.starts_with('.') {
                if mtime(&dir, &key).is_ok_and(|then| now.saturating_sub(then) > EXPIRY.as_secs()) {
                    let _ = rustix::fs::unlinkat(&dir, &key, AtFlags::empty());
                }
                continue;
            }
            match look(&dir, &key) {
                Ok(Some((holder, then))) if holder.is_dead(now, then) => {
                    // Taking and dropping it removes it, in step with everybody else.
                    drop(self.lease(&key, "tidy"));
                }
                Ok(Some((holder, _))) => alive.push(holder.nonce),
                Ok(None) => {}
                Err(_) => return,
            }
        }
        for (temp, _) in temps {
            let nonce = temp.split('.').next().unwrap_or("");
            if !alive.iter().any(|a| a == nonce)
                && let Ok(tmp) = self.directory("tmp")
            {
                let _ = rustix::fs::unlinkat(&tmp, &temp, AtFlags::empty());
            }
        }
    }
}

impl Lease {
    /// Says that we are alive; cheap enough to be called often.
    pub fn renew(&mut self) {
        if self.renewed.elapsed() >= RENEWAL {
            self.renewed = Instant::now();
            let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
            // A lost lease shows in the end as two writers of the same bytes: no harm.
            let _ = rustix::fs::utimensat(&self.dir, &self.key, &times, AtFlags::empty());
        }
    }

    /// What temporary files made under this lease start with.
    pub(super) fn nonce(&self) -> &str {
        &self.holder.nonce
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Ok(Some((holder, _))) = look(&self.dir, &self.key)
            && holder == self.holder
        {
            let _ = rustix::fs::unlinkat(&self.dir, &self.key, AtFlags::empty());
        }
    }
}

/// Links `candidate` to `key`; gives the other holder if there is one that lives.
fn contest(dir: &OwnedFd, key: &str, candidate: &str, now: u64) -> Result2<Option<Holder>> {
    let link = |to: &str| rustix::fs::linkat(dir, candidate, dir, to, AtFlags::empty());
    let unlink = |name: &str| match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        other => other,
    };
    let mut other = None;
    for _ in 0..8 {
        match link(key) {
            Ok(()) => return Ok(None),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let Some((holder, then)) = look(dir, key)? else { continue };
        if !holder.is_dead(now, then) {
            return Ok(Some(holder));
        }
        // Only who holds the guard may remove a dead lease, and looks again first: else of
        // two heirs the slower would remove the faster one's new lease.
        let guard = format!(".takeover-{key}");
        match link(&guard) {
            Ok(()) => {
                let again = look(dir, key)?;
                let removed = match again {
                    Some((again, then)) if again == holder && again.is_dead(now, then) => {
                        unlink(key)
                    }
                    _ => Ok(()),
                };
                unlink(&guard)?;
                removed?;
            }
            Err(Errno::EXIST) => {
                let old = mtime(dir, &guard).is_ok_and(|then| now.saturating_sub(then) > 60);
                if old {
                    unlink(&guard)?;
                } else {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Err(error) => return Err(error),
        }
        other = Some(holder);
    }
    other.map(Some).ok_or(Errno::AGAIN)
}

type Result2<T> = std::result::Result<T, Errno>;

/// Writes `holder` to the new file `name`; gives the file system's idea of now.
fn put(dir: &OwnedFd, name: &str, holder: &Holder) -> Result2<u64> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::from(0o600))?);
    let json = serde_json::to_vec(holder).map_err(|_| Errno::INVAL)?;
    file.write_all(&json)
        .and_then(|()| file.sync_all())
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    mtime(dir, name)
}

/// The holder of the lease and when it was last touched, if there is one. What cannot be
/// read as a lease is one whose holder is unknown.
fn look(dir: &OwnedFd, key: &str) -> Result2<Option<(Holder, u64)>> {
    let bytes = match beneath::read(dir, key, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let then = match mtime(dir, key) {
        Ok(then) => then,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some((serde_json::from_slice(&bytes).unwrap_or_else(|_| Holder::unknown()), then)))
}

fn mtime(dir: &OwnedFd, name: &str) -> Result2<u64> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(u64::try_from(stat.st_mtime).unwrap_or(0))
}

/// Now, by the clock of the machine that keeps the files.
fn clock(dir: &OwnedFd) -> Result2<Option<u64>> {
    let Ok(holder) = Holder::this_process("clock") else { return Ok(None) };
    let name = format!(".{}", holder.nonce);
    let now = put(dir, &name, &holder)?;
    let _ = rustix::fs::unlinkat(dir, &name, AtFlags::empty());
    Ok(Some(now))
}

impl Holder {
    fn this_process(login: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let unknown = |e| Error::admin("cannot find out the host's name").because(e);
        let host = nix::unistd::gethostname().map_err(unknown)?.to_string_lossy().into_owned();
        let pid = Pid::this().as_raw();
        let place = place();
        let started = started(pid);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mixed = fnv(format!("{host} {place} {pid} {started} {count}").as_bytes());
        let nonce = format!("{pid}-{count}-{mixed:016x}");
        Ok(Self { nonce, host, place, pid, started, login: login.to_owned() })
    }

    fn unknown() -> Self {
        let none = String::new;
        Self {
            nonce: none(),
            host: none(),
            place: none(),
            pid: 0,
            started: none(),
            login: "somebody".into(),
        }
    }

    /// Whether the process is no more; `now` and `then` (last touched) in seconds.
    fn is_dead(&self, now: u64, then: u64) -> bool {
        if self.pid > 0 && self.place == place() {
            let gone = kill(Pid::from_raw(self.pid), None) == Err(nix::errno::Errno::ESRCH);
            return gone || started(self.pid) != self.started;
        }
        now.saturating_sub(then) > EXPIRY.as_secs()
    }
}

/// Boot and process namespace, outside of which a process id says nothing.
fn place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let pids = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), pids.display())
}

/// When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5). Empty
/// if there is no such process.
fn started(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // A zombie has done its work.
    if after_name.starts_with('Z') {
        return String::new();
    }
    after_name.split(' ').nth(19).unwrap_or("").to_owned()
}

/// FNV-1a: the same number on every host and in every release.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::tests::{Fixture, fixture};

    fn mine(claim: Claim) -> Lease {
        match claim {
            Claim::Mine(lease) => lease,
            Claim::Held(holder) => panic!("held by {holder:?}"),
        }
    }

    fn plant(fixture: &Fixture, key: &str, change: impl FnOnce(&mut Holder)) {
        let mut holder = Holder::this_process("bob").unwrap();
        change(&mut holder);
        let path = fixture.path().join("leases").join(key);
        std::fs::write(path, serde_json::to_vec(&holder).unwrap()).unwrap();
    }

    fn age(fixture: &Fixture, key: &str) {
        let file =
            File::options().write(true).open(fixture.path().join("leases").join(key)).unwrap();
        file.set_modified(std::time::SystemTime::now() - EXPIRY - Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn the_second_writer_learns_who_is_at_work() {
        let fixture = fixture();
        let keeper = fixture.store.keeper().unwrap();
        let lease = mine(keeper.lease("k", "alice").unwrap());
        match keeper.lease("k", "bob").unwrap() {
            Claim::Held(holder) => assert_eq!(holder.login, "alice"),
            Claim::Mine(_) => panic!("two hold one lease"),
        }
        drop(lease);
        drop(mine(keeper.lease("k", "bob").unwrap()));
        assert_eq!(keeper.names("leases").unwrap(), []);
    }

    #[test]
    fn a_dead_writer_on_this_machine_loses_its_lease_at_once_and_its_files_go() {
        let fixture = fixture();
        let keeper = fixture.store.keeper().unwrap();
        plant(&fixture, "k", |h| h.started = "1".into());
        let nonce = look(&keeper.directory("leases").unwrap(), "k").unwrap().unwrap().0.nonce;
        std::fs::write(fixture.path().join(format!("tmp/{nonce}.image")), "x").unwrap();
        let alive = mine(keeper.lease("other", "alice").unwrap());
        std::fs::write(fixture.path().join(format!("tmp/{}.image", alive.nonce())), "x").unwrap();
        keeper.tidy();
        assert_eq!(keeper.names("tmp").unwrap(), [(format!("{}.image", alive.nonce()), false)]);
        assert_eq!(keeper.names("leases").unwrap(), [("other".to_owned(), false)]);
    }

    #[test]
    fn a_silent_writer_on_another_machine_loses_its_lease_after_a_while() {
        let fixture = fixture();
        let keeper = fixture.store.keeper().unwrap();
        plant(&fixture, "k", |h| h.place = "elsewhere".into());
        assert!(matches!(keeper.lease("k", "a").unwrap(), Claim::Held(_)));
        age(&fixture, "k");
        drop(mine(keeper.lease("k", "a").unwrap()));
    }

    #[test]
    fn a_broken_lease_expires_too() {
        let fixture = fixture();
        let keeper = fixture.store.keeper().unwrap();
        std::fs::write(fixture.path().join("leases/k"), "{").unwrap();
        assert!(matches!(keeper.lease("k", "a").unwrap(), Claim::Held(_)));
        age(&fixture, "k");
        drop(mine(keeper.lease("k", "a").unwrap()));
    }

    #[test]
    fn of_many_heirs_of_a_dead_writer_only_one_inherits() {
        let fixture = fixture();
        fixture.store.keeper().unwrap();
        for _ in 0..20 {
            plant(&fixture, "k", |h| h.started = "1".into());
            let leases: Vec<Claim> = std::thread::scope(|scope| {
                let heirs: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| fixture.store.keeper().unwrap().lease("k", "a")))
                    .collect();
                heirs.into_iter().filter_map(|heir| heir.join().unwrap().ok()).collect()
            });
            assert_eq!(leases.iter().filter(|claim| matches!(claim, Claim::Mine(_))).count(), 1);
        }
    }
}
