//! Landlock: what each of the two processes can reach, where the kernel has it.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope, path_beneath_rules,
};
use std::os::fd::BorrowedFd;
use std::path::Path;

use udi::{Error, Result};

/// What the resolver of names and TLS read; all of it root's.
const SYSTEM: [&str; 10] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/dev/null",
    "/dev/urandom",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/var/lib/ca-certificates",
];

/// The reader reads the system's files and those below `layers`, and writes nothing.
pub(crate) fn reader(layers: Option<BorrowedFd<'_>>) -> Result<()> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let paths = SYSTEM.iter().map(Path::new);
    let rules =
        [(paths.collect(), read), (vec![Path::new("/dev/null")], AccessFs::WriteFile.into())];
    restrict(&rules, layers.map(|layers| (layers, read)), false)
}

/// The reader of files has them open already. It reads below `directory`, if there is one, and
/// has no network.
pub(crate) fn reader_of_files(directory: Option<BorrowedFd<'_>>) -> Result<()> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    restrict(&[], directory.map(|directory| (directory, read)), true)
}

/// Who receives a copy has what arrived open already, and removes it from `directory` in the end.
pub(crate) fn receiver(directory: BorrowedFd<'_>) -> Result<()> {
    restrict(&[], Some((directory, AccessFs::RemoveFile.into())), true)
}

/// Who exports has the image open already, and writes below `directory`, if it is a file.
pub(crate) fn exporter(directory: Option<BorrowedFd<'_>>) -> Result<()> {
    let write = AccessFs::from_all(ABI::V3) & !AccessFs::Execute;
    restrict(&[], directory.map(|directory| (directory, write)), true)
}

/// The writer writes below the store and looks at its own kind in /proc. It has no network
/// and runs no program.
pub(crate) fn writer(store: &Path) -> Result<()> {
    let all = AccessFs::from_all(ABI::V3) & !AccessFs::Execute;
    let rules =
        [(vec![store], all), (vec![Path::new("/proc")], AccessFs::ReadFile | AccessFs::ReadDir)];
    restrict(&rules, None, true)
}

/// The writer that makes other file systems runs the system's programs, and writes below the
/// store and the scratch directory.
pub(crate) fn converter(store: &Path, scratch: &Path) -> Result<()> {
    let all = AccessFs::from_all(ABI::V3) & !AccessFs::Execute;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let programs = ["/usr", "/bin", "/sbin", "/lib", "/lib64"].map(Path::new).to_vec();
    let rules = [
        (vec![store, scratch], all),
        (programs, read | AccessFs::Execute),
        (vec![Path::new("/proc"), Path::new("/etc"), Path::new("/dev")], read),
        (vec![Path::new("/dev/null")], read | AccessFs::WriteFile),
    ];
    restrict(&rules, None, true)
}

fn restrict(
    rules: &[(Vec<&Path>, BitFlags<AccessFs>)],
    directory: Option<(BorrowedFd<'_>, BitFlags<AccessFs>)>,
    no_network: bool,
) -> Result<()> {
    let failed = |e| Error::bug("cannot confine the process").because(e);
    let result = (|| {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V5))?
            .scope(Scope::from_all(ABI::V6))?;
        if no_network {
            ruleset = ruleset.handle_access(AccessNet::from_all(ABI::V4))?;
        }
        let mut created = ruleset.create()?;
        for (paths, access) in rules {
            // Paths that do not exist are left out.
            created = created.add_rules(path_beneath_rules(paths, *access))?;
        }
        if let Some((directory, access)) = directory {
            created = created.add_rule(PathBeneath::new(directory, access))?;
        }
        created.restrict_self()
    })();
    // Not enforced means an old kernel: users' rights and no_new_privs still hold.
    result.map(drop).map_err(failed)
}
