//! The mount table of a namespace, as proc_pid_mountinfo(5) has it.

use std::collections::HashSet;
use std::os::fd::AsFd;

use udi::Result;

use crate::fault;

/// The mounts of one namespace.
#[derive(Debug)]
pub(crate) struct Table(Vec<Line>);

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The kernel's number for it, by which other mounts name their parent.
    pub id: u64,
    parent: u64,
    device: String,
    root: String,
    /// Where it is, seen from the root of whoever reads the table.
    pub point: String,
    kind: String,
}

/// A file or directory by what it is, not by where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    device: String,
    path: String,
}

impl Table {
    /// Reads an open table from its start, also one that others have read from.
    pub(crate) fn read(file: impl AsFd) -> Result<Self> {
        let (mut text, mut part) = (Vec::new(), [0_u8; 4096]);
        loop {
            let at = u64::try_from(text.len()).unwrap_or(u64::MAX);
            let length = rustix::io::pread(&file, &mut part, at)
                .map_err(fault::site("cannot read the table of mounts"))?;
            match part.get(..length) {
                Some(read) if length > 0 => text.extend_from_slice(read),
                _ => return Ok(Self::parse(&String::from_utf8_lossy(&text))),
            }
        }
    }

    /// Lines that are not understood are left out.
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Line::parse).collect())
    }

    /// The mount that one sees at `path`.
    pub(crate) fn mount_of(&self, path: &str) -> Option<&Line> {
        let ids: HashSet<u64> = self.0.iter().map(|line| line.id).collect();
        // The root of a diskless node (rootfs) is its own parent.
        let is_top = |line: &&Line| line.parent == line.id || !ids.contains(&line.parent);
        let mut here = self.0.iter().filter(|line| line.point == "/").find(is_top)?;
        loop {
            // The shortest first: what hangs deeper at the same parent is covered by it.
            let below = |line: &&Line| {
                line.parent == here.id && line.id != here.id && is_within(path, &line.point)
            };
            match self.0.iter().filter(below).min_by_key(|line| line.point.len()) {
                Some(next) => here = next,
                None => return Some(here),
            }
        }
    }

    /// What one sees at `path`.
    pub(crate) fn place_of(&self, path: &str) -> Option<Place> {
        let mount = self.mount_of(path)?;
        let below = path.strip_prefix(mount.point.trim_end_matches('/'))?;
        let whole = format!("{}{below}", mount.root.trim_end_matches('/'));
        let path = if whole.is_empty() { "/".to_owned() } else { whole };
        Some(Place { device: mount.device.clone(), path })
    }

    /// The topmost mounts that `host` does not have: what a job has for itself.
    ///
    /// What `host` mounts when it is asked for (autofs) is nobody's own.
    pub(crate) fn own(&self, host: &Table) -> Vec<&Line> {
        let known: HashSet<_> = host.0.iter().map(Line::what).collect();
        let is_own = |line: &&Line| {
            line.point != "/"
                && self.mount_of(&line.point) == Some(*line)
                && self.place_of(&line.point) != host.place_of(&line.point)
                && host.mount_of(&line.point).is_none_or(|mount| mount.kind != "autofs")
        };
        let unknown = self.0.iter().filter(|line| !known.contains(&line.what()));
        let mut own: Vec<&Line> = unknown.filter(is_own).collect();
        own.sort_by_key(|line| line.point.len());
        let mut topmost: Vec<&Line> = Vec::new();
        for line in own {
            if !topmost.iter().any(|above| is_within(&line.point, &above.point)) {
                topmost.push(line);
            }
        }
        topmost
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        Some(Self {
            id: fields.next()?.parse().ok()?,
            parent: fields.next()?.parse().ok()?,
            device: fields.next()?.to_owned(),
            root: unescape(fields.next()?),
            point: unescape(fields.next()?),
            kind: file_system.split(' ').next()?.to_owned(),
        })
    }

    fn what(&self) -> (&str, &str, &str) {
        (&self.device, &self.root, &self.point)
    }
}

/// Whether `path` is `directory` or below it; both absolute and clean.
pub(crate) fn is_within(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Blanks, tabs, newlines and backslashes are written in octal.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
21 20 0:5 / /dev rw - devtmpfs devtmpfs rw
22 21 0:6 / /dev/shm rw - tmpfs tmpfs rw
23 20 0:7 / /tmp rw - tmpfs tmpfs rw
24 23 0:8 / /tmp/below rw - fuse mine rw
25 20 0:9 / /home rw - autofs auto rw
26 20 8:2 / /a\\040b rw - ext4 /dev/sdb1 rw
";
    const JOB: &str = "\
30 2 8:1 / / rw - ext4 /dev/sda1 rw
31 30 0:5 / /dev rw - devtmpfs devtmpfs rw
32 31 0:20 / /dev/shm rw - tmpfs tmpfs rw
33 30 0:7 / /tmp rw - tmpfs tmpfs rw
34 33 0:8 / /tmp/below rw - fuse mine rw
35 30 0:9 / /home rw - autofs auto rw
36 30 8:2 / /a\\040b rw - ext4 /dev/sdb1 rw
37 33 8:1 /var/jobs/7 /tmp rw - ext4 /dev/sda1 rw
38 37 0:21 / /tmp/mine rw - fuse mine rw
39 30 8:1 /var/jobs/8 /var/tmp rw - ext4 /dev/sda1 rw
40 35 0:22 / /home/bob rw - nfs4 server:/bob rw
";

    #[test]
    fn what_one_sees_at_a_path_is_the_topmost_mount() {
        let job = Table::parse(JOB);
        let id = |path| job.mount_of(path).unwrap().id;
        for (path, expected) in
            [("/", 30), ("/tmpfoo", 30), ("/tmp", 37), ("/tmp/below/x", 37), ("/tmp/mine/x", 38)]
        {
            assert_eq!(id(path), expected, "{path}");
        }
        assert_eq!((id("/a b/x"), id("/dev/shm"), id("/dev/null")), (36, 32, 31));
        let place = |path| job.place_of(path).unwrap().path;
        assert_eq!((place("/tmp/x").as_str(), place("/").as_str()), ("/var/jobs/7/x", "/"));
        assert_eq!((place("/etc").as_str(), place("/a b").as_str()), ("/etc", "/"));
    }

    #[test]
    fn a_jobs_own_directories_are_those_that_the_host_shows_differently() {
        let (host, job) = (Table::parse(HOST), Table::parse(JOB));
        let own: Vec<&str> = job.own(&host).iter().map(|line| line.point.as_str()).collect();
        assert_eq!(own, ["/tmp", "/dev/shm", "/var/tmp"]);
        assert!(host.own(&host).is_empty());
    }

    #[test]
    fn a_diskless_nodes_root_is_its_own_parent() {
        let host = "1 1 0:2 / / rw - rootfs rootfs rw\n20 1 0:7 / /tmp rw - tmpfs tmpfs rw\n";
        let job = "9 9 0:2 / / rw - rootfs rootfs rw\n30 9 0:7 / /tmp rw - tmpfs tmpfs rw\n\
                   31 30 0:8 /jobs/7 /tmp rw - tmpfs local rw\n";
        let (host, job) = (Table::parse(host), Table::parse(job));
        let own: Vec<&str> = job.own(&host).iter().map(|line| line.root.as_str()).collect();
        assert_eq!(own, ["/jobs/7"]);
        assert_eq!(host.mount_of("/etc").unwrap().id, 1);
    }

    #[test]
    fn nonsense_is_an_empty_table() {
        for text in ["", "x", "1 2 3 - ", "a b c d e f - ext4 x rw", "1 1 0:1 / / - x\n\\"] {
            let table = Table::parse(text);
            assert!(table.place_of("/tmp").is_none_or(|place| place.path == "/tmp"), "{text}");
        }
        assert_eq!(unescape("a\\134b\\0c\\"), "a\\b\\0c\\");
    }
}
