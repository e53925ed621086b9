//! The job's user.

/// Who the job runs as, from Slurm's credential and the node's account database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All group ids, as Slurm gives them to the tasks.
    pub groups: Vec<u32>,
    /// Login name.
    pub login: String,
    /// Full name or the like (the gecos field).
    pub gecos: String,
    /// Home directory on the node.
    pub home: String,
    /// Login shell on the host.
    pub shell: String,
    /// Names of the groups that have one.
    pub group_names: Vec<(u32, String)>,
}

/// A field of passwd(5) or group(5): no separator may get into it.
fn field(text: &str) -> String {
    text.chars().map(|c| if c == ':' || c.is_control() { '_' } else { c }).collect()
}

impl User {
    /// `/etc/passwd` for inside the image: root, nobody and the user.
    pub fn passwd(&self) -> String {
        let mut text = String::from("root:x:0:0:root:/root:/bin/sh\n");
        if self.uid != 0 {
            let (login, gecos) = (field(&self.login), field(&self.gecos));
            let (home, shell) = (field(&self.home), field(&self.shell));
            text += &format!("{login}:x:{}:{}:{gecos}:{home}:{shell}\n", self.uid, self.gid);
        }
        if self.uid != 65534 {
            text += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
        }
        text
    }

    /// `/etc/group` for inside the image: root, nogroup and the user's groups that have a
    /// name, with the user as a member.
    pub fn group(&self) -> String {
        let mut text = String::from("root:x:0:\n");
        let mut names: Vec<_> = self.group_names.iter().filter(|(gid, _)| *gid != 0).collect();
        names.sort();
        names.dedup_by_key(|(gid, _)| *gid);
        for (gid, name) in names {
            let member = if *gid == self.gid { String::new() } else { field(&self.login) };
            text += &format!("{}:x:{gid}:{member}\n", field(name));
        }
        if !self.group_names.iter().any(|(gid, _)| *gid == 65534) {
            text += "nogroup:x:65534:\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_inside_shows_the_user_with_all_groups() {
        let alice = User {
            uid: 1001,
            gid: 1001,
            groups: vec![1001, 2001],
            login: "alice".into(),
            gecos: "Alice: A\n".into(),
            home: "/home/alice".into(),
            shell: "/bin/bash".into(),
            group_names: vec![(2001, "science".into()), (1001, "alice".into())],
        };
        assert!(alice.passwd().contains("\nalice:x:1001:1001:Alice_ A_:/home/alice:/bin/bash\n"));
        assert_eq!(
            alice.group(),
            "root:x:0:\nalice:x:1001:\nscience:x:2001:alice\nnogroup:x:65534:\n"
        );
    }
}
