//! Who may read a file of the store: its mode and its POSIX access list.
//!
//! Linux keeps an access list in the attribute `system.posix_acl_access`: a version and
//! (tag, permissions, id) triples, little-endian, sorted (linux/posix_acl_xattr.h).

use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::AsFd;

use udi::{Error, Result};

pub(crate) const ATTRIBUTE: &str = "system.posix_acl_access";
const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;
const READ: u16 = 4;
/// More entries than any kernel stores.
const MAX_BYTES: usize = 64 << 10;

/// Who may read an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// The store's owner and these users only.
    Users(BTreeSet<u32>),
}

/// The rights somebody comes with.
#[derive(Clone, Copy, Debug)]
pub struct Principal<'a> {
    /// The user.
    pub uid: u32,
    /// All groups, the primary one too.
    pub groups: &'a [u32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner = 1,
    User = 2,
    Group = 4,
    NamedGroup = 8,
    Mask = 16,
    Other = 32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ace {
    tag: Tag,
    id: u32,
    permissions: u16,
}

/// An access list as the kernel stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl(Vec<Ace>);

impl Access {
    /// Lets `self` and nobody else read the open file.
    pub(crate) fn apply(&self, file: impl AsFd, name: &str) -> Result<()> {
        let cannot = |error| Error::admin(format!("cannot set who may read {name}")).because(error);
        match self {
            Self::Public => {
                match rustix::fs::fremovexattr(&file, ATTRIBUTE) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                    Err(error) => return Err(cannot(error)),
                }
                rustix::fs::fchmod(&file, 0o644.into()).map_err(cannot)
            }
            Self::Users(users) if users.is_empty() => {
                match rustix::fs::fremovexattr(&file, ATTRIBUTE) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                    Err(error) => return Err(cannot(error)),
                }
                rustix::fs::fchmod(&file, 0o600.into()).map_err(cannot)
            }
            Self::Users(users) => {
                let bytes = Acl::readable_by(users).encode();
                let set = rustix::fs::XattrFlags::empty();
                rustix::fs::fsetxattr(&file, ATTRIBUTE, &bytes, set).map_err(|error| match error {
                    Errno::OPNOTSUPP => Error::admin(
                        "the image store's file system keeps no access lists (POSIX ACLs), \
                         so it cannot hold private images",
                    )
                    .hint("pull it with --public if everybody may have it"),
                    error => cannot(error),
                })
            }
        }
    }
}

impl Acl {
    fn readable_by(users: &BTreeSet<u32>) -> Self {
        let plain = |tag, permissions| Ace { tag, id: NO_ID, permissions };
        let mut list = vec![plain(Tag::Owner, READ | 2)];
        list.extend(users.iter().map(|&id| Ace { tag: Tag::User, id, permissions: READ }));
        list.extend([plain(Tag::Group, 0), plain(Tag::Mask, READ), plain(Tag::Other, 0)]);
        Self(list)
    }

    /// What a file without access list has.
    pub(crate) fn of_mode(mode: u32) -> Self {
        let plain =
            |tag, shift: u32| Ace { tag, id: NO_ID, permissions: (mode >> shift & 7) as u16 };
        Self(vec![plain(Tag::Owner, 6), plain(Tag::Group, 3), plain(Tag::Other, 0)])
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for ace in &self.0 {
            bytes.extend((ace.tag as u16).to_le_bytes());
            bytes.extend(ace.permissions.to_le_bytes());
            bytes.extend(ace.id.to_le_bytes());
        }
        bytes
    }

    /// Nothing if the bytes are no access list.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        let (entries, rest) = rest.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() || bytes.len() > MAX_BYTES {
            return None;
        }
        entries.iter().map(Ace::decode).collect::<Option<Vec<Ace>>>().map(Self)
    }

    /// Who may read, besides the owner; groups never get a right of ours.
    pub(crate) fn readers(&self) -> Access {
        let readable =
            |tag| self.0.iter().filter(move |a| a.tag == tag && a.permissions & READ != 0);
        if readable(Tag::Other).next().is_some() {
            Access::Public
        } else {
            Access::Users(readable(Tag::User).map(|ace| ace.id).collect())
        }
    }

    /// Whether the kernel would let `who` read a file of `owner` and `group` with this list
    /// (acl(5), "ACCESS CHECK ALGORITHM").
    pub(crate) fn may_read(&self, owner: u32, group: u32, who: Principal<'_>) -> bool {
        let allows = |ace: &Ace| ace.permissions & READ != 0;
        let one = |tag| self.0.iter().find(|ace| ace.tag == tag).is_some_and(allows);
        let unmasked = !self.0.iter().any(|ace| ace.tag == Tag::Mask) || one(Tag::Mask);
        if who.uid == owner {
            return one(Tag::Owner);
        }
        if let Some(ace) = self.0.iter().find(|ace| ace.tag == Tag::User && ace.id == who.uid) {
            return allows(ace) && unmasked;
        }
        let mut matching = self.0.iter().filter(|ace| match ace.tag {
            Tag::Group => who.groups.contains(&group),
            Tag::NamedGroup => who.groups.contains(&ace.id),
            _ => false,
        });
        match matching.next() {
            Some(first) => (allows(first) || matching.any(allows)) && unmasked,
            None => one(Tag::Other),
        }
    }
}

impl Ace {
    fn decode(bytes: &[u8; 8]) -> Option<Self> {
        let [t0, t1, p0, p1, i0, i1, i2, i3] = *bytes;
        let tag = match u16::from_le_bytes([t0, t1]) {
            1 => Tag::Owner,
            2 => Tag::User,
            4 => Tag::Group,
            8 => Tag::NamedGroup,
            16 => Tag::Mask,
            32 => Tag::Other,
            _ => return None,
        };
        let permissions = u16::from_le_bytes([p0, p1]);
        Some(Self { tag, id: u32::from_le_bytes([i0, i1, i2, i3]), permissions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn alice() -> Access {
        Access::Users([1000].into())
    }

    fn read_back(file: &std::fs::File) -> Vec<u8> {
        let mut buffer = [0; 256];
        let n = rustix::fs::fgetxattr(file, ATTRIBUTE, &mut buffer[..]).unwrap();
        buffer[..n].to_vec()
    }

    #[test]
    fn the_kernel_takes_our_access_lists_and_gives_back_the_same() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        alice().apply(&file, "x").unwrap();
        let bytes = read_back(&file);
        assert_eq!(Acl::decode(&bytes).unwrap(), Acl::readable_by(&[1000].into()));
        // The group bits of the mode show the mask, and nobody else has any right.
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        Access::Public.apply(&file, "x").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        Access::Users([].into()).apply(&file, "x").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_private_file_is_read_by_its_users_and_its_owner_only() {
        let acl = Acl::readable_by(&[1000, 1001].into());
        let may = |uid, groups: &[u32]| acl.may_read(900, 900, Principal { uid, groups });
        assert!(may(1000, &[]) && may(1001, &[]) && may(900, &[]));
        assert!(!may(1002, &[]) && !may(1002, &[900]) && !may(1002, &[1000]));
        assert!(Acl::of_mode(0o644).may_read(900, 900, Principal { uid: 5, groups: &[5] }));
        assert!(!Acl::of_mode(0o600).may_read(900, 900, Principal { uid: 5, groups: &[900] }));
        // A member of the owning group without rights is not "other": acl(5).
        assert!(!Acl::of_mode(0o604).may_read(900, 900, Principal { uid: 5, groups: &[900] }));
    }

    proptest! {
        #[test]
        fn no_attribute_is_a_crash(bytes: Vec<u8>) {
            if let Some(acl) = Acl::decode(&bytes) {
                prop_assert_eq!(Acl::decode(&acl.encode()).unwrap(), acl);
            }
        }

        #[test]
        fn lists_of_users_survive_the_round_trip(users: BTreeSet<u32>) {
            let acl = Acl::readable_by(&users);
            prop_assert_eq!(&Acl::decode(&acl.encode()).unwrap(), &acl);
            for uid in users {
                let may = acl.may_read(0, 0, Principal { uid, groups: &[] });
                prop_assert!(may);
            }
        }
    }
}
