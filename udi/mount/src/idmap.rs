//! Owners of an image's files, as a mount of it shows them.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use udi::User;

use crate::{kernel, sys};

/// Shows what root owns on a detached mount as the user's, and the user's as root's; so for the
/// primary group. Everything else stays.
///
/// The kernel must allow it for the mount's file system (squashfs since 6.2), and overlay must
/// take such a layer.
pub(crate) fn exchange_with_root(mount: &OwnedFd, user: &User) -> std::result::Result<(), Errno> {
    if user.uid == 0 {
        return Ok(());
    }
    if !kernel::is_at_least(OVERLAY_TAKES_THEM) {
        return Err(Errno::OPNOTSUPP);
    }
    let namespace = sys::user_namespace(&exchange(user.uid), &exchange(user.gid))?;
    sys::mount_idmap(mount, &namespace)
}

/// The first kernel in which a layer of an overlay may be id-mapped. Until then mounting the
/// overlay fails.
const OVERLAY_TAKES_THEM: (u32, u32) = (5, 19);

/// A map of user_namespaces(7) in which 0 and `id` have changed places.
fn exchange(id: u32) -> String {
    let same = |first: u32, end: u32| {
        let count = end.saturating_sub(first);
        if count > 0 { format!("{first} {first} {count}\n") } else { String::new() }
    };
    match id {
        0 => same(0, u32::MAX),
        id => format!("0 {id} 1\n{id} 0 1\n{}{}", same(1, id), same(id + 1, u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_but_the_two_stays_and_none_is_lost() {
        for (id, map) in [
            (0, "0 0 4294967295\n"),
            (1, "0 1 1\n1 0 1\n2 2 4294967293\n"),
            (1001, "0 1001 1\n1001 0 1\n1 1 1000\n1002 1002 4294966293\n"),
            (u32::MAX - 1, "0 4294967294 1\n4294967294 0 1\n1 1 4294967293\n"),
        ] {
            assert_eq!(exchange(id), map);
            let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
            assert_eq!(map.lines().map(count).sum::<u64>(), u64::from(u32::MAX));
        }
    }
}
