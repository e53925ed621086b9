//! Files that ordinary users cannot read, and making them readable.
//!
//! Images are made by root, for root. Here everybody is an ordinary user who owns none of the
//! files, so what the image's maker closed by accident is closed for good.

use std::collections::BTreeSet;

use udi_store::Unreadable;

use super::tree::{Inode, Kind};
use super::{Image, ROOT};

/// Below these every distribution has closed files, which no user misses.
const SYSTEM: [&str; 3] = ["/etc", "/var", "/boot"];
/// What programs leave in root's home directory besides the shell's own dot files.
const ROOTS: [&str; 2] = ["/root/.cache", "/root/.config"];
/// Secrets: they stay closed.
const SECRET: [&str; 13] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/security/opasswd",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/munge",
    "/etc/krb5.keytab",
    "/var/cache/debconf/passwords.dat",
    "/var/spool/cron",
    "/var/spool/at",
];
/// Directories of secrets, wherever they are: their programs refuse them when they are open.
const SECRET_DIRECTORIES: [&str; 2] = [".ssh", ".gnupg"];
/// Host keys: `/etc/ssh/ssh_host_rsa_key`.
const SECRET_KEYS: (&str, &str) = ("/etc/ssh/", "_key");

const SET_ID: u16 = 0o6000;
/// As many are named.
const EXAMPLES: usize = 3;

impl Image {
    /// The files that others than owner and group cannot read, because of their own mode or
    /// that of a directory above, as far as somebody could want to: not the system's own
    /// ([`SYSTEM`]), secrets, set-user-ID programs, and root's dot files.
    pub(crate) fn unreadable(&self) -> Unreadable {
        let mut found = Unreadable::default();
        let mut last = String::new();
        self.walk_files(ROOT, &mut String::new(), false, &mut |path, inode, shut| {
            let mode = self.tree.meta(inode).mode;
            if mode & SET_ID != 0 || !(shut || mode & 0o004 == 0) || is_expected(path) {
                return;
            }
            found.files += 1;
            // One of a directory says enough about it.
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            if found.examples.len() < EXAMPLES && (found.files == 1 || directory != last) {
                found.examples.push(path.to_owned());
                last = directory.to_owned();
            }
        });
        found
    }

    /// Lets everybody read files and enter directories, as `chmod -R a+rX` does; but secrets
    /// stay as they are, and so do set-user-ID programs.
    pub(crate) fn make_readable(&mut self) {
        let mut secret = BTreeSet::new();
        self.walk_files(ROOT, &mut String::new(), false, &mut |path, inode, _| {
            if is_secret(path) {
                secret.insert(inode);
            }
        });
        for inode in self.tree.inodes() {
            let mut meta = self.tree.meta(inode);
            match self.tree.kind(inode) {
                Kind::Directory => meta.mode |= 0o555,
                Kind::File(_) | Kind::Missing(_)
                    if meta.mode & SET_ID == 0 && !secret.contains(&inode) =>
                {
                    meta.mode |= if meta.mode & 0o111 == 0 { 0o444 } else { 0o555 };
                }
                _ => continue,
            }
            self.tree.set_meta(inode, meta);
        }
    }

    /// Calls `see` with path and inode of each file, and whether a directory above shuts
    /// others out.
    fn walk_files(
        &self,
        directory: Inode,
        path: &mut String,
        shut: bool,
        see: &mut impl FnMut(&str, Inode, bool),
    ) {
        let shut = shut || self.tree.meta(directory).mode & 0o001 == 0;
        for entry in self.tree.children(directory) {
            let length = path.len();
            path.push('/');
            path.push_str(&String::from_utf8_lossy(self.tree.name(entry)));
            let inode = self.tree.inode(entry);
            match self.tree.kind(inode) {
                Kind::Directory => self.walk_files(inode, path, shut, see),
                Kind::File(_) | Kind::Missing(_) => see(path, inode, shut),
                _ => {}
            }
            path.truncate(length);
        }
    }
}

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_secret(path: &str) -> bool {
    let (directory, end) = SECRET_KEYS;
    SECRET.iter().any(|secret| is_below(path, secret))
        || path.split('/').any(|component| SECRET_DIRECTORIES.contains(&component))
        || (path.starts_with(directory) && path.ends_with(end))
}

fn is_expected(path: &str) -> bool {
    let dot_file = path.strip_prefix("/root/.").is_some_and(|rest| !rest.contains('/'));
    dot_file
        || is_secret(path)
        || SYSTEM.iter().chain(&ROOTS).any(|directory| is_below(path, directory))
}

#[cfg(test)]
mod tests {
    use squashfs::Meta;

    use super::super::tests::image_of;
    use super::*;

    fn modes(image: &Image) -> Vec<(String, u16)> {
        let mut modes = Vec::new();
        image.walk_files(ROOT, &mut String::new(), false, &mut |path, inode, _| {
            modes.push((path.to_owned(), image.tree.meta(inode).mode));
        });
        modes
    }

    fn image(files: &[(&str, u16)]) -> Image {
        image_of(
            files
                .iter()
                .map(|&(path, mode)| (path, Meta { mode, uid: 0, gid: 0, mtime: 0, xattrs: 0 })),
        )
    }

    #[test]
    fn what_every_distribution_closes_is_not_worth_a_word() {
        let image = image(&[
            ("root/", 0o700),
            ("root/.bashrc", 0o644),
            ("root/.bash_history", 0o600),
            ("root/.cache/", 0o700),
            ("root/.cache/pip/http/a", 0o600),
            ("root/.ssh/id_rsa", 0o600),
            ("etc/shadow", 0o640),
            ("etc/shadow-", 0o640),
            ("etc/.pwd.lock", 0o600),
            ("etc/sudoers", 0o440),
            ("var/cache/ldconfig/", 0o700),
            ("var/cache/ldconfig/aux-cache", 0o600),
            ("var/cache/apt/archives/partial/", 0o700),
            ("var/log/btmp", 0o660),
            ("lost+found/", 0o700),
            ("boot/System.map", 0o600),
            ("usr/bin/sudo", 0o4111),
            ("usr/bin/ls", 0o755),
            ("home/u/.gnupg/key", 0o600),
        ]);
        assert_eq!(image.unreadable(), Unreadable::default());
    }

    #[test]
    fn files_closed_by_their_own_mode_or_by_a_directorys_are_counted() {
        let image = image(&[
            ("app/", 0o750),
            ("app/main.py", 0o644),
            ("app/lib/a.py", 0o644),
            ("app/lib/b.py", 0o600),
            ("etcetera", 0o600),
            ("opt/data", 0o640),
            ("opt/fine", 0o604),
            ("root/", 0o700),
            ("root/.local/bin/tool", 0o755),
            ("root/data/x", 0o644),
            ("variable/x", 0o600),
        ]);
        let found = image.unreadable();
        assert_eq!(found.files, 8);
        assert_eq!(found.examples, ["/app/lib/a.py", "/app/main.py", "/etcetera"]);
    }

    #[test]
    fn making_readable_leaves_nothing_to_count_and_gives_no_other_right() {
        let mut image = image(&[
            ("app/", 0o700),
            ("app/tool", 0o700),
            ("app/group-tool", 0o650),
            ("app/data", 0o600),
            ("app/writable", 0o622),
            ("app/nothing", 0o000),
            ("app/set", 0o4710),
            ("etc/shadow", 0o640),
            ("etc/ssh/ssh_host_rsa_key", 0o600),
            ("etc/ssh/sshd_config", 0o600),
            ("root/.ssh/id_rsa", 0o600),
        ]);
        assert_eq!(image.unreadable().files, 5);
        image.make_readable();
        assert_eq!(image.unreadable(), Unreadable::default());
        let expected = [
            ("/app/data", 0o644),
            ("/app/group-tool", 0o755),
            ("/app/nothing", 0o444),
            ("/app/set", 0o4710),
            ("/app/tool", 0o755),
            ("/app/writable", 0o666),
            ("/etc/shadow", 0o640),
            ("/etc/ssh/ssh_host_rsa_key", 0o600),
            ("/etc/ssh/sshd_config", 0o644),
            ("/root/.ssh/id_rsa", 0o600),
        ];
        assert_eq!(modes(&image), expected.map(|(path, mode)| (path.to_owned(), mode)));
        let before = modes(&image);
        image.make_readable();
        assert_eq!(modes(&image), before);
    }
}
