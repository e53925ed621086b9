//! Which contents not to send, because an upper layer hides them.
//!
//! Layers are read from the top down, so that most hidden contents are known in time. The
//! filter looks at names as written and may err: it does not see through symbolic links, and
//! remembers hashes only. What it wrongly kept is a few dead bytes in the image; what it
//! wrongly left out, `merge` notices, and the layer is read once more.

use std::collections::HashSet;

use super::record::What;

#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Names that an upper layer has or whites out: the same and what is below is hidden.
    closed: HashSet<u64>,
    /// Directories of upper layers: a file of the same name is hidden, what is below is not.
    directories: HashSet<u64>,
    /// Directories that an upper layer made opaque: what is below is hidden.
    opaque: HashSet<u64>,
    /// Names that a hard link of an upper layer needs, whoever hides them.
    wanted: HashSet<u64>,
    /// What the layer being read says, which is for the layers below it only.
    layer: Said,
    /// Whether that is the lowest one.
    is_base: bool,
}

#[derive(Debug, Default)]
struct Said {
    closed: Vec<u64>,
    directories: Vec<u64>,
    opaque: Vec<u64>,
    /// Targets of hard links.
    targets: Vec<u64>,
}

impl Filter {
    /// Takes note of an entry; gives whether its contents are needed.
    pub(crate) fn see(&mut self, path: &[u8], what: &What<'_>) -> bool {
        let here = hash(path);
        match what {
            // Of the base nobody will ask.
            _ if self.is_base => {}
            What::Opaque => self.layer.opaque.push(here),
            What::Whiteout => self.layer.closed.push(here),
            What::Directory => self.layer.directories.push(here),
            What::File(_) | What::Symlink(_) | What::Special(_) | What::Device => {
                self.layer.closed.push(here);
            }
            What::Hardlink(target) => {
                self.layer.targets.push(hash(target));
                self.layer.closed.push(here);
            }
        }
        self.wanted.remove(&here) || !self.is_hidden(path, here)
    }

    /// The layer that comes now has no other below it: nothing of it needs to be remembered.
    pub(crate) fn begin_base(&mut self) {
        self.is_base = true;
    }

    /// The layer is read; the next is the one below it.
    pub(crate) fn end_layer(&mut self) {
        let said = std::mem::take(&mut self.layer);
        // A link's target may be hidden for others, but not for this link.
        let mut targets: HashSet<u64> = said.targets.into_iter().collect();
        if !targets.is_empty() {
            for name in said.closed.iter().chain(&said.directories) {
                targets.remove(name);
            }
        }
        self.wanted.extend(targets);
        self.closed.extend(said.closed);
        self.directories.extend(said.directories);
        self.opaque.extend(said.opaque);
    }

    fn is_hidden(&self, path: &[u8], here: u64) -> bool {
        if self.closed.contains(&here) || self.directories.contains(&here) {
            return true;
        }
        let mut above =
            path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(end, _)| hash(&path[..end]));
        above.any(|dir| self.closed.contains(&dir) || self.opaque.contains(&dir))
            || self.opaque.contains(&hash(b""))
    }
}

/// FNV-1a: the same in every build, for what is left out decides where contents stand in the
/// image, and the same image must always be packed to the same bytes.
fn hash(path: &[u8]) -> u64 {
    path.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(layers: &[&[(&str, What<'_>)]]) -> Vec<bool> {
        let mut filter = Filter::default();
        let mut needed = Vec::new();
        for layer in layers {
            for (path, what) in *layer {
                let needs = filter.see(path.as_bytes(), what);
                if matches!(what, What::File(_)) {
                    needed.push(needs);
                }
            }
            filter.end_layer();
        }
        needed
    }

    const FILE: What<'_> = What::File(None);

    #[test]
    fn what_upper_layers_hide_is_not_sent() {
        let top: &[_] =
            &[("a", FILE), ("d", What::Directory), ("w", What::Whiteout), ("o", What::Opaque)];
        let low: &[_] = &[
            ("a", FILE),
            ("a/x", FILE),
            ("d/x", FILE),
            ("d", FILE),
            ("w/x/y", FILE),
            ("o/x", FILE),
            ("ox", FILE),
        ];
        assert_eq!(needed(&[top, low]), [true, false, false, true, false, false, false, true]);
    }

    #[test]
    fn a_layer_hides_nothing_of_its_own() {
        let only: &[_] = &[("w", What::Whiteout), ("w", FILE), ("", What::Opaque), ("x", FILE)];
        assert_eq!(needed(&[only, &[("y", FILE)]]), [true, true, false]);
    }

    #[test]
    fn a_hard_link_keeps_what_a_higher_layer_hides() {
        let top: &[_] = &[("a", What::Whiteout)];
        let middle: &[_] = &[("b", What::Hardlink(b"a"))];
        assert_eq!(needed(&[top, middle, &[("a", FILE)], &[("a", FILE)]]), [true, false]);
    }
}
