//! Listing names: for the tool only, since users cannot list the store's directories.

use udi::Result;

use super::Keeper;
use crate::reference::{Entry, PRIVATE};

/// Deeper directories are not ours.
const MAX_DEPTH: usize = 64;

/// One meaning of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name as users type it, with its type.
    pub name: String,
    /// The one user who sees it; everybody if none.
    pub private: Option<u32>,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// What it means, and who says so.
    pub entry: Entry,
    /// Its path below `refs/`.
    pub(super) path: String,
}

impl Listed {
    /// Whether `uid` may know of it.
    pub fn visible_to(&self, uid: u32) -> bool {
        self.private.is_none_or(|owner| owner == uid)
    }
}

impl Keeper<'_> {
    /// All names of the store, sorted. The caller must leave out what its user may not see:
    /// [`Listed::visible_to`].
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        self.walk("", 0, &mut listed)?;
        Ok(listed)
    }

    fn walk(&self, below: &str, depth: usize, listed: &mut Vec<Listed>) -> Result<()> {
        if depth > MAX_DEPTH {
            return Ok(());
        }
        for (name, is_dir) in self.names(&format!("refs{below}"))? {
            let path = format!("{below}/{name}");
            if is_dir {
                self.walk(&path, depth + 1, listed)?;
            } else if name.starts_with([':', '@']) {
                let path = path.trim_start_matches('/');
                // Removed since the directory was read: then there is nothing to list.
                let Some(reference) = self.store.reference(path)? else { continue };
                let Some((private, shown)) = shown(path) else { continue };
                listed.extend(reference.platforms.into_iter().map(|(platform, entry)| Listed {
                    name: shown.clone(),
                    private,
                    platform,
                    entry,
                    path: path.to_owned(),
                }));
            }
        }
        Ok(())
    }
}

/// The name that a path below `refs/` stands for, and the one user who sees it.
fn shown(path: &str) -> Option<(Option<u32>, String)> {
    let (private, path) = match path.strip_prefix(PRIVATE).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) => {
            let (uid, path) = rest.split_once('/')?;
            (Some(uid.parse().ok()?), path)
        }
        None => (None, path),
    };
    let (repository, tag) = path.rsplit_once('/')?;
    let shown = match repository.strip_prefix("user/") {
        Some(user) => format!("user:{user}{tag}"),
        None => format!("docker:{repository}{tag}"),
    };
    Some((private, shown))
}
