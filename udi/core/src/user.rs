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
    /// Other accounts that shall be known inside.
    pub others: Vec<Account>,
}

/// An account besides root and the job's user, such as a service's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Login name.
    pub login: String,
    /// Name of the primary group.
    pub group: String,
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
        for Account { uid, gid, login, .. } in self.others() {
            let login = field(login);
            text += &format!("{login}:x:{uid}:{gid}:{login}:/nonexistent:/usr/sbin/nologin\n");
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
        for Account { gid, group, .. } in self.others() {
            let known = *gid == 0 || names.iter().any(|(known, _)| known == gid);
            if !known && !text.contains(&format!(":x:{gid}:")) {
                text += &format!("{}:x:{gid}:\n", field(group));
            }
        }
        for (gid, name) in names {
            let member = if *gid == self.gid { String::new() } else { field(&self.login) };
            text += &format!("{}:x:{gid}:{member}\n", field(name));
        }
        if !self.group_names.iter().any(|(gid, _)| *gid == 65534) {
            text += "nogroup:x:65534:\n";
        }
        text
    }

    /// The accounts whose lines are not there already.
    fn others(&self) -> impl Iterator<Item = &Account> {
        let fixed = |uid: u32| matches!(uid, 0 | 65534) || uid == self.uid;
        self.others.iter().filter(move |other| !fixed(other.uid))
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
            others: vec![Account {
                uid: 64030,
                gid: 64030,
                login: "slurm".into(),
                group: "slurm".into(),
            }],
        };
        assert!(alice.passwd().contains("\nslurm:x:64030:64030:slurm:/nonexistent:"));
        assert!(alice.passwd().contains("\nalice:x:1001:1001:Alice_ A_:/home/alice:/bin/bash\n"));
        assert_eq!(
            alice.group(),
            "root:x:0:\nslurm:x:64030:\nalice:x:1001:\nscience:x:2001:alice\nnogroup:x:65534:\n"
        );
    }
}
