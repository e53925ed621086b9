//! Slurm as its own commands tell it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apart;

/// Where sites put Slurm's commands.
const DIRECTORIES: [&str; 5] = [
    "/usr/bin",
    "/usr/local/bin",
    "/opt/slurm/bin",
    "/opt/slurm/current/bin",
    "/usr/local/slurm/bin",
];
/// A controller that does not answer by then is as good as none.
const LIMIT: Duration = Duration::from_secs(5);

/// What Slurm says of itself.
#[derive(Debug, Default)]
pub(super) struct Slurm {
    /// Where its commands are.
    pub(super) commands: Option<PathBuf>,
    /// `24.11.5`
    pub(super) release: Option<String>,
    /// `scontrol show config`, if the controller answers.
    pub(super) settings: Option<BTreeMap<String, String>>,
}

impl Slurm {
    /// Looks beside the daemon that runs here first.
    pub(super) fn look(daemon: Option<&Path>) -> Self {
        let beside = daemon.and_then(Path::parent).map(|sbin| match sbin.parent() {
            Some(above) if sbin.ends_with("sbin") => above.join("bin"),
            _ => sbin.to_owned(),
        });
        let mut places = beside.into_iter().chain(DIRECTORIES.map(PathBuf::from));
        // We may be root: a command that others can replace is not run.
        let found = places.find(|place| udi_store::site::check(&place.join("scontrol")).is_ok());
        let Some(commands) = found else { return Self::default() };
        let mut slurm = Self { commands: Some(commands), ..Self::default() };
        // Of the daemon that loads our plugins, if there is one; else of the commands.
        slurm.release = daemon
            .filter(|daemon| udi_store::site::check(daemon).is_ok())
            .and_then(|daemon| apart::output(daemon, &["-V"], LIMIT).ok())
            .or_else(|| slurm.ask("scontrol", &["-V"]))
            .and_then(|text| release(&text));
        slurm.settings = slurm.ask("scontrol", &["show", "config"]).map(|text| settings(&text));
        slurm
    }

    /// Whether the controller knows a node of that name.
    pub(super) fn has_node(&self, name: &str) -> bool {
        self.settings.is_some() && self.ask("scontrol", &["show", "node", name]).is_some()
    }

    /// A setting as the controller has it.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.settings.as_ref()?.get(key).map(String::as_str)
    }

    fn ask(&self, command: &str, args: &[&str]) -> Option<String> {
        apart::output(&self.commands.as_ref()?.join(command), args, LIMIT).ok()
    }
}

/// `slurm-wlm 22.05.8`, `slurm 24.11.5`
fn release(text: &str) -> Option<String> {
    let last = text.split_whitespace().last()?;
    last.starts_with(|c: char| c.is_ascii_digit()).then(|| last.to_owned())
}

/// `Key                     = value`
fn settings(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Year and month of a release: plugins fit any other with the same.
pub(super) fn year_and_month(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slurm_prints_is_understood() {
        assert_eq!(release("slurm-wlm 22.05.8\n").as_deref(), Some("22.05.8"));
        assert_eq!(release("slurm 26.05.0-rc1\n").as_deref(), Some("26.05.0-rc1"));
        assert_eq!(release("command not found\n"), None);
        let text = "Configuration data as of x\nPluginDir       = /usr/lib/slurm\nA = b=c\n\nX\n";
        let map = settings(text);
        assert_eq!((map["PluginDir"].as_str(), map["A"].as_str()), ("/usr/lib/slurm", "b=c"));
        assert_eq!(year_and_month("26.05.0-rc1"), Some((26, 5)));
        assert_eq!(year_and_month("x"), None);
    }
}
