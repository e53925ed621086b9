//! Giving all files to root, for sites that want no other owners in images.

use super::Image;

const SET_USER_ID: u16 = 0o4000;
const SET_GROUP_ID: u16 = 0o2000;

impl Image {
    /// Makes root the owner, and root's group the group, of everything. What was set-user-ID to
    /// somebody else is not to root then: a copy of the image may be unpacked somewhere.
    pub(crate) fn give_to_root(&mut self) {
        for inode in self.tree.inodes() {
            let mut meta = self.tree.meta(inode);
            if meta.uid != 0 {
                meta.mode &= !SET_USER_ID;
            }
            if meta.gid != 0 {
                meta.mode &= !SET_GROUP_ID;
            }
            (meta.uid, meta.gid) = (0, 0);
            self.tree.set_meta(inode, meta);
        }
    }
}

#[cfg(test)]
mod tests {
    use squashfs::Meta;

    use super::super::tests::image_of;

    #[test]
    fn what_was_somebody_elses_is_roots_without_their_rights() {
        let file = |mode, uid, gid| Meta { mode, uid, gid, mtime: 7, xattrs: 0 };
        let mut image = image_of(
            [
                ("games/", file(0o2755, 0, 60)),
                ("games/chess", file(0o6755, 5, 60)),
                ("sudo", file(0o6755, 0, 0)),
                ("wall", file(0o6755, 5, 0)),
            ]
            .into_iter(),
        );
        image.give_to_root();
        let metas: Vec<Meta> = image.tree.inodes().map(|inode| image.tree.meta(inode)).collect();
        assert_eq!(metas[1..], [0o755, 0o755, 0o6755, 0o2755].map(|mode| file(mode, 0, 0)));
    }
}
