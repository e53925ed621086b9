//! Where each mount and file of a plan comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{CachePlan, Flags, Mount, Origin, Plan, Rights, SiteFile, Source, devices};
use crate::request::cache_directory;
use crate::{
    Config, Error, GuestPath, Home, HooksConfig, Module, Permissions, Request, Result, Scratch,
    SiteMount, User, Volume, What,
};

const HOST_TREE: Flags = Flags {
    read_only: false,
    dev: false,
    recursive: true,
    slave: true,
    optional: false,
    yields: false,
    per_job: true,
};

/// The program `shifter`, which runs its arguments: for scripts that were written for the original.
const PROGRAM: Flags = Flags {
    read_only: true,
    recursive: false,
    slave: false,
    optional: true,
    yields: true,
    per_job: false,
    ..HOST_TREE
};

/// What every UDI with these modules has.
pub(super) fn of_the_site(modules: &[(String, &Module)], site: &Config) -> Result<Vec<Mount>> {
    let mut mounts = builtin(site)?;
    for mount in &site.mount {
        mounts.push(site_mount(mount, Origin::Site)?);
    }
    for (name, module) in modules {
        for mount in &module.mount {
            mounts.push(site_mount(mount, Origin::Module(name.clone()))?);
        }
        mounts.extend(devices::mounts(name, module));
    }
    Ok(mounts)
}

/// What a rank needs of the host in any image.
fn builtin(site: &Config) -> Result<Vec<Mount>> {
    let spool = site.node.spool.to_string_lossy();
    let plain = HOST_TREE;
    let host = |path: &str, flags| (path.to_owned(), Source::Host(path.into()), flags);
    let scratch = |path: &str, policy| match policy {
        Scratch::Job => host(path, Flags { optional: true, ..plain }),
        Scratch::Host => host(path, Flags { per_job: false, optional: true, ..plain }),
        Scratch::Tmpfs(size) => (path.to_owned(), Source::Tmpfs { size, shared: true }, plain),
    };
    let program = Source::Host(Plan::PROGRAM.into());
    [
        host("/proc", plain),
        host("/sys", plain),
        host("/dev", Flags { dev: true, ..plain }),
        scratch("/tmp", site.inside.tmp),
        scratch("/var/tmp", site.inside.var_tmp),
        // Munge's socket, the PMIx directories and the batch script's copy are Slurm's own.
        host(&spool, Flags { optional: true, ..plain }),
        ("/usr/bin/shifter".to_owned(), program, PROGRAM),
    ]
    .into_iter()
    .map(|(path, source, flags)| {
        let (target, rights) = (GuestPath::parse(&path)?, Rights::Root);
        Ok(Mount { source, target, rights, flags, origin: Origin::Builtin })
    })
    .collect()
}

/// The user's home directory, where the site arranges one.
pub(super) fn home(site: &Config, user: &User) -> Result<Option<Mount>> {
    let (source, rights) = match site.inside.home {
        Home::Site => return Ok(None),
        Home::Mount => (Source::Host(user.home.clone().into()), Rights::User),
        Home::Tmpfs(size) => (Source::Tmpfs { size, shared: false }, Rights::Root),
    };
    let target = GuestPath::parse(&user.home)?;
    let flags = Flags { optional: true, ..HOST_TREE };
    Ok(Some(Mount { source, target, rights, flags, origin: Origin::Site }))
}

pub(super) fn volumes(
    request: &Request,
    site: &Config,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<Mount>> {
    request.volumes().iter().map(|volume| volume_mount(volume, site, variables)).collect()
}

fn volume_mount(
    volume: &Volume,
    site: &Config,
    variables: &BTreeMap<String, String>,
) -> Result<Mount> {
    let refuse = |why: String| Error::user(format!("--volume={volume}: {why}"));
    let flags = Flags { read_only: volume.read_only, ..HOST_TREE };
    let alone = Flags { recursive: false, slave: false, ..flags };
    let (source, rights, flags) = match &volume.what {
        What::Host(path) => {
            let path = path.expand(|name| variables.get(name).cloned()).map_err(|why| {
                refuse(why).hint("set it in the job to an absolute path, or write the path itself")
            })?;
            (Source::Host(path.into()), Rights::User, flags)
        }
        What::Tmpfs(size) => (Source::Tmpfs { size: *size, shared: false }, Rights::Root, alone),
        What::Cache { near, size, fs } => {
            let directory = cache_directory(near.as_deref(), site).map_err(refuse)?;
            let cache = CachePlan { directory, size: *size, fs: fs.unwrap_or(site.cache.fs) };
            (Source::Cache(cache), Rights::Root, alone)
        }
        What::Image(image) => {
            let digest = image.digest().ok_or_else(|| {
                refuse("nobody pinned the image to its digest".into()).hint(
                    "name the digest: NAME:TAG@sha256:… (shifterimg lookup NAME:TAG prints it)",
                )
            })?;
            (Source::Image(digest.clone()), Rights::User, alone)
        }
    };
    let origin = Origin::Volume(volume.to_string());
    Ok(Mount { source, target: volume.to.clone(), rights, flags, origin })
}

fn site_mount(mount: &SiteMount, origin: Origin) -> Result<Mount> {
    Ok(Mount {
        source: Source::Host(mount.from.clone()),
        target: mount.target()?,
        rights: Rights::Root,
        flags: Flags {
            read_only: mount.read_only,
            slave: mount.slave,
            recursive: mount.recursive,
            optional: mount.optional,
            ..HOST_TREE
        },
        origin,
    })
}

/// Files that lie over the image's, below none of the `mounts`.
pub(super) fn files(
    modules: &[(String, &Module)],
    site: &Config,
    user: &User,
    mounts: &[Mount],
) -> Result<Vec<SiteFile>> {
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
                    protocols: files\nservices: files\nethers: files\nrpc: files\n";
    let mut files = Vec::new();
    for (path, content) in [
        ("/etc/passwd", user.passwd()),
        ("/etc/group", user.group()),
        ("/etc/nsswitch.conf", nsswitch.to_owned()),
    ] {
        files.push(SiteFile::Made { path: GuestPath::parse(path)?, content });
    }
    let copies = site.etc.copy.iter().map(|path| (path, PathBuf::from(path.as_str()), true));
    let replaced = site.etc.replace.iter().map(|(path, from)| (path, from.clone(), false));
    for (path, from, optional) in copies.chain(replaced) {
        // The site's own wins over what we would make.
        files.retain(|file: &SiteFile| file.path() != path);
        files.push(SiteFile::Copied {
            path: path.clone(),
            from,
            optional,
            mode: Some(Permissions::PLAIN),
            origin: Origin::Builtin,
        });
    }
    for (name, module) in modules {
        for copy in &module.copy {
            let path = copy.target()?;
            if let Some(mount) = mounts.iter().find(|mount| path.is_within(&mount.target)) {
                return Err(Error::admin(format!(
                    "modules.{name}.copy: {path} would not be seen below the line `{mount}`"
                )));
            }
            files.retain(|file: &SiteFile| *file.path() != path);
            let (from, optional, mode) = (copy.from.clone(), copy.optional, copy.mode);
            let origin = Origin::Module(name.clone());
            files.push(SiteFile::Copied { path, from, optional, mode, origin });
        }
    }
    Ok(files)
}

/// The site's hooks, and behind them those of each module.
pub(super) fn hooks(modules: &[(String, &Module)], site: &Config) -> HooksConfig {
    let mut hooks = site.hooks.clone();
    for (_, module) in modules {
        hooks.before.extend(module.hooks.before.iter().cloned());
        hooks.after.extend(module.hooks.after.iter().cloned());
    }
    hooks
}
