//! Keeping layers: within a limit, the one used longest ago goes first.

use rustix::fs::{AtFlags, Timespec, Timestamps};

use udi::{Digest, Result};

use super::Keeper;
use super::lease::Lease;
use super::write::Temp;
use crate::acl::Access;
use crate::layers;

impl Keeper<'_> {
    /// An empty file for the `nth` layer of a pull, of `size` bytes, under `lease`. Others go
    /// until all together have at most `limit`.
    pub fn layer(&self, lease: &Lease, nth: u32, size: u64, limit: u64) -> Result<Temp> {
        self.shrink_layers(limit.saturating_sub(size))?;
        self.temp_file(lease.nonce(), &format!("layer-{nth}"))
    }

    /// Keeps a layer, whose bytes are what `digest` says.
    pub fn keep_layer(&self, layer: Temp, digest: &Digest) -> Result<()> {
        self.place(layer, &format!("layers/{}", layers::path(digest)), &Access::Public)
    }

    /// A layer was of use.
    pub fn used_layer(&self, digest: &Digest) {
        let Ok(dir) = self.directory("layers") else { return };
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // If it has gone meanwhile it need not be remembered.
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let _ = rustix::fs::utimensat(&dir, layers::path(digest), &times, flags);
    }

    /// Removes layers until they have at most `limit` bytes together.
    fn shrink_layers(&self, limit: u64) -> Result<()> {
        let mut all = Vec::new();
        for (part, _) in self.names("layers")? {
            let part = format!("layers/{part}");
            let dir = self.directory(&part)?;
            for (name, _) in self.names(&part)? {
                // Others remove some at the same time.
                if let Ok(stat) = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    let used = (stat.st_mtime, stat.st_mtime_nsec);
                    all.push((used, stat.st_size as u64, part.clone(), name));
                }
            }
        }
        all.sort();
        let mut total: u64 = all.iter().map(|(_, size, ..)| size).sum();
        for (_, size, part, name) in all {
            if total <= limit {
                break;
            }
            let dir = self.directory(&part)?;
            let _ = rustix::fs::unlinkat(&dir, &name, AtFlags::empty());
            total -= size;
        }
        Ok(())
    }
}
