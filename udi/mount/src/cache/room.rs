//! How much caches a user, and a node, may have at a time.
//!
//! What is there is asked of the kernel: each cache's loop device carries whose it is. So
//! nothing is written down that a crash could leave behind, and a cache that outlives its job
//! in some process is counted like any other.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use udi::{CacheConfig, Error, Result, Size, User};

use crate::fault;
use crate::loopdev::LoopDevice;
use crate::node::{self, Node};

/// How long to wait for the caches of a step or job that just ended: the kernel first writes
/// down what is in them.
const PATIENCE: Duration = Duration::from_secs(3);

/// The right to make one cache.
pub(super) struct Claim {
    /// What its loop device must carry to be counted.
    pub(super) label: String,
    /// Nobody else on this node counts or makes one meanwhile.
    _lock: OwnedFd,
}

/// Whose a cache is, and on which node: containers that are nodes share loop devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label {
    node: u64,
    uid: u32,
}

impl Label {
    const PREFIX: &str = "shifter-cache";

    fn parse(text: &str) -> Option<Self> {
        let (node, uid) = text.strip_prefix(Self::PREFIX)?.trim_start().split_once(' ')?;
        Some(Self { node: node.parse().ok()?, uid: uid.parse().ok()? })
    }

    fn text(self) -> String {
        format!("{} {} {}", Self::PREFIX, self.node, self.uid)
    }
}

/// Waits for its turn, and for room for `size` within the site's limits.
pub(super) fn claim(
    node: &Node,
    size: Size,
    limits: &CacheConfig,
    user: &User,
    owner: u32,
) -> Result<Claim> {
    let jobs = node.path("jobs");
    let place = rustix::fs::stat(&jobs).map_err(fault::site(format!("cannot look at {jobs}")))?;
    let ours = Label { node: place.st_dev, uid: user.uid };
    let end = Instant::now() + PATIENCE;
    loop {
        let lock = node::lock_directory(&jobs)?;
        match is_within(limits, size, ours, &alive(ours.node, owner)?) {
            Ok(()) => return Ok(Claim { label: ours.text(), _lock: lock }),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => drop(lock),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Caches of this node and their sizes.
fn alive(node: u64, owner: u32) -> Result<Vec<(Label, u64)>> {
    let all = LoopDevice::writable(owner)?.into_iter();
    let ours = all.filter_map(|(text, bytes)| Some((Label::parse(&text)?, bytes)));
    Ok(ours.filter(|(label, _)| label.node == node).collect())
}

/// Whether `size` more is allowed besides `alive`.
fn is_within(limits: &CacheConfig, size: Size, ours: Label, alive: &[(Label, u64)]) -> Result<()> {
    let sum = |of: &dyn Fn(&Label) -> bool| {
        let those = alive.iter().filter(|(label, _)| of(label));
        those.fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes))
    };
    let too_much = |there: u64, most: Size| there.saturating_add(size.bytes()) > most.bytes();
    let (yours, all) = (sum(&|label| label.uid == ours.uid), sum(&|_| true));
    if too_much(yours, limits.max_user) {
        let most = limits.max_user;
        let what = match yours {
            0 => format!("this site allows {most} of caches per user and node"),
            _ => format!(
                "you have {} of caches on this node already, and this site allows {most}",
                Size::from_bytes(yours)
            ),
        };
        return Err(Error::user(what).hint("ask for a smaller one, or wait for your other job"));
    }
    if too_much(all, limits.max_node) {
        let what = match all {
            0 => format!("this site allows {} of caches per node", limits.max_node),
            _ => format!(
                "all users together have {} of caches on this node already, and this site allows {}",
                Size::from_bytes(all),
                limits.max_node
            ),
        };
        return Err(Error::user(what)
            .hint("ask for a smaller one, or for a node of your own (--exclusive)"));
    }
    Ok(())
}
