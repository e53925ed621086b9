//! The user's logins: which files and helpers have them, and in which order they are asked.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use udi::{Error, Result};

use super::auth_file::AuthFile;
use super::credentials::Credentials;
use super::helper::Helper;
use crate::identity::Environment;

/// Larger files are no lists of logins.
const MAX_BYTES: u64 = 1 << 20;

/// Where the user's logins are. Use it with the user's rights only: the user's environment says
/// which files and programs these are.
#[derive(Debug)]
pub(crate) struct Logins<'a> {
    environment: &'a Environment,
    /// Podman's files and then docker's; the first is the one to write to.
    paths: Vec<PathBuf>,
    /// Docker's own, which docker alone writes.
    dockers: Option<PathBuf>,
    /// Whether the user said which file to write to.
    is_chosen: bool,
}

/// What was found for a registry.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) credentials: Option<Credentials>,
    /// Why there may be a login that we could not get.
    pub(crate) trouble: Option<String>,
}

impl<'a> Logins<'a> {
    pub(crate) fn of(environment: &'a Environment) -> Self {
        let variable = |name| environment.get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let docker =
            variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let runtime = variable("XDG_RUNTIME_DIR").filter(|dir| dir.is_dir());
        let chosen = variable("REGISTRY_AUTH_FILE");
        let is_chosen = chosen.is_some();
        let paths = [
            chosen,
            runtime.map(|dir| dir.join("containers/auth.json")),
            home.map(|home| home.join(".config/containers/auth.json")),
        ];
        let paths = paths.into_iter().flatten().collect();
        let dockers = docker.map(|dir| dir.join("config.json"));
        Self { environment, paths, dockers, is_chosen }
    }

    /// The login for `host`, or for the part of it that has `repository`. A helper of the
    /// registry's own is asked first, one for all registries last.
    pub(crate) fn find(&self, host: &str, repository: &str) -> Found {
        let files: Vec<AuthFile> = self.files().map(|(_, file)| file).collect();
        let mut found = Found::default();
        let mut ask = |name: &str| match Helper::new(name, self.environment).get(host) {
            Ok(login) => login,
            Err(error) => {
                found.trouble.get_or_insert(error.what());
                None
            }
        };
        let own = files.iter().find_map(|file| file.helper(host)).and_then(&mut ask);
        let plain = || files.iter().find_map(|file| file.find(host, repository));
        let login = own.or_else(plain);
        let all = || files.iter().find_map(|file| file.store()).and_then(&mut ask);
        let login = login.or_else(all);
        Found { credentials: login, ..found }
    }

    /// Keeps a login to `place`, a registry or part of one, where docker and podman would; gives
    /// where that is.
    pub(crate) fn keep(&self, place: &str, login: &Credentials) -> Result<String> {
        let name = self.keeper(place)?;
        let first = self.paths.first().ok_or_else(|| {
            Error::user("it is not known where your logins are kept: HOME is not set")
                .hint("set HOME, or REGISTRY_AUTH_FILE to a file")
        })?;
        let Some(name) = name else {
            change(first, |file| {
                file.put(place, login);
                true
            })?;
            return Ok(first.display().to_string());
        };
        let helper = Helper::new(&name, self.environment);
        helper.store(place, login)?;
        // An older one in a file would be found before it.
        self.forget_in_files(place)?;
        Ok(helper.program())
    }

    /// The helper that is to keep a login to `place`. Helpers keep logins of registries only: that
    /// of a part is in the file, which is looked at before a helper for all registries.
    fn keeper(&self, place: &str) -> Result<Option<String>> {
        let files = self
            .files()
            .filter(|(path, _)| !self.is_chosen || self.paths.first().is_some_and(|p| p == path));
        let files: Vec<AuthFile> = files.map(|(_, file)| file).collect();
        let host = host_of(place);
        let own = files.iter().find_map(|file| file.helper(host).map(str::to_owned));
        match own {
            Some(name) if host != place => {
                let program = Helper::new(&name, self.environment).program();
                Err(Error::user(format!(
                    "{program} keeps the login of {host}, and none for a part of it"
                ))
                .hint(format!("log in to {host}, or take {host} out of credHelpers")))
            }
            None if host == place => {
                Ok(files.iter().find_map(|file| file.store().map(str::to_owned)))
            }
            own => Ok(own),
        }
    }

    /// Forgets the login to `place`; gives where there was one.
    pub(crate) fn forget(&self, place: &str) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for (_, file) in self.files().filter(|_| host_of(place) == place) {
            names.extend(file.helper(place).map(str::to_owned));
            names.extend(file.store().map(str::to_owned));
        }
        names.dedup();
        let mut places = self.forget_in_files(place)?;
        for name in names {
            let helper = Helper::new(&name, self.environment);
            if helper.erase(place)? {
                places.push(helper.program());
            }
        }
        Ok(places)
    }

    fn forget_in_files(&self, place: &str) -> Result<Vec<String>> {
        let mut places = Vec::new();
        for path in self.paths.iter().filter(|path| path.exists()) {
            if change(path, |file| file.remove(place))? {
                places.push(path.display().to_string());
            }
        }
        Ok(places)
    }

    /// Docker's file, if it has a login to `place` in it.
    pub(crate) fn left_to_docker(&self, place: &str) -> Option<&Path> {
        let path = self.dockers.as_deref()?;
        AuthFile::parse(&read(path)?)?.has(place).then_some(path)
    }

    /// All files that there are and that can be understood.
    fn files(&self) -> impl Iterator<Item = (&Path, AuthFile)> {
        let paths = self.paths.iter().chain(&self.dockers);
        paths.filter_map(|path| Some((path.as_path(), AuthFile::parse(&read(path)?)?)))
    }
}

/// The registry of `REGISTRY[/PATH]`.
pub(crate) fn host_of(place: &str) -> &str {
    place.split_once('/').map_or(place, |(host, _)| host)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    // Not a pipe, which would have us wait.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Writes `path` anew, as a whole, if `edit` changed something; gives whether it did.
fn change(path: &Path, edit: impl FnOnce(&mut AuthFile) -> bool) -> Result<bool> {
    let cannot = |what: &str| {
        let what = format!("cannot {what} {}", path.display());
        |e: std::io::Error| {
            Error::user(what).hint("see whether it and its directory are yours to write").because(e)
        }
    };
    // Who links it to another place wants it there.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(cannot("make the directory of"))?;
    // Two logins at once do not lose each other's; where a file system has no locks, they may.
    let lock = std::fs::File::open(directory).map_err(cannot("read the directory of"))?;
    let _ = lock.lock();
    let mut file = match path.exists() {
        false => AuthFile::default(),
        true => read(&path).as_deref().and_then(AuthFile::parse).ok_or_else(|| {
            Error::user(format!("{} is no file of logins that can be understood", path.display()))
                .hint("repair it, or move it away")
        })?,
    };
    if !edit(&mut file) {
        return Ok(false);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = directory.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut options = std::fs::File::options();
        let mut out = options.write(true).create_new(true).mode(0o600).open(&new)?;
        out.write_all(&file.bytes())?;
        out.sync_all()?;
        std::fs::rename(&new, &path)
    })();
    written.map(|()| true).map_err(|error| {
        let _ = std::fs::remove_file(&new);
        cannot("write")(error)
    })
}
