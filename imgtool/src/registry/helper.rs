//! Credential helpers: programs of the user's that keep logins, as docker and podman run them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use udi::{Error, Result};

use super::credentials::Credentials;
use crate::identity::Environment;

/// No login is longer.
const MAX_BYTES: u64 = 1 << 20;

/// `docker-credential-NAME`, to be run with the user's rights and environment.
#[derive(Debug)]
pub(crate) struct Helper<'a> {
    name: &'a str,
    environment: &'a Environment,
}

impl<'a> Helper<'a> {
    pub(crate) fn new(name: &'a str, environment: &'a Environment) -> Self {
        Self { name, environment }
    }

    /// What people know it as.
    pub(crate) fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    /// The login of `host`, if it has one.
    pub(crate) fn get(&self, host: &str) -> Result<Option<Credentials>> {
        for server in servers(host) {
            // Whether it failed or knows nothing is told in words, which differ.
            let (answer, _) = self.run("get", server.as_bytes())?;
            if let Some(login) = Credentials::from_helper(&answer) {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    /// Keeps the login of `host`.
    pub(crate) fn store(&self, host: &str, login: &Credentials) -> Result<()> {
        let server = servers(host)[0];
        let input = login.to_helper(server).ok_or_else(|| Error::bug("a login cannot be told"))?;
        match self.run("store", &input)? {
            (_, true) => Ok(()),
            (said, false) => Err(Error::user(format!(
                "{} did not keep the login{}",
                self.program(),
                words(&said)
            ))
            .hint("repair it, or take it out of credHelpers and credsStore in ~/.docker/config.json and auth.json")),
        }
    }

    /// Forgets the login of `host`; gives whether there was one.
    pub(crate) fn erase(&self, host: &str) -> Result<bool> {
        if self.get(host)?.is_none() {
            return Ok(false);
        }
        for server in servers(host) {
            self.run("erase", server.as_bytes())?;
        }
        match self.get(host)? {
            None => Ok(true),
            Some(_) => Err(Error::user(format!("{} did not forget the login", self.program()))
                .hint(format!("see whether {} erase works", self.program()))),
        }
    }

    /// Gives what it wrote, and whether it succeeded. Secrets go through pipes only.
    fn run(&self, action: &str, input: &[u8]) -> Result<(Vec<u8>, bool)> {
        let program = self.find()?;
        let cannot = |e| Error::user(format!("{} cannot be run", program.display())).because(e);
        let mut child = Command::new(&program)
            .arg(action)
            .env_clear()
            .envs(self.environment.variables())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read has said something instead.
            let _ = stdin.write_all(input);
        }
        let mut answer = Vec::new();
        let read = child.stdout.take().map(|out| out.take(MAX_BYTES).read_to_end(&mut answer));
        let status = child.wait().map_err(cannot)?;
        read.transpose().map_err(cannot)?;
        Ok((answer, status.success()))
    }

    /// Looked for where the user's shell would look.
    fn find(&self) -> Result<PathBuf> {
        let program = self.program();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.chars().all(plain) {
            let path = self.environment.get("PATH").unwrap_or_default();
            let directories = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
            if let Some(found) = directories.map(|dir| dir.join(&program)).find(|p| is_program(p)) {
                return Ok(found);
            }
        }
        Err(Error::user(format!("there is no {program:?} in your PATH")).hint(
            "install it, or take it out of credHelpers and credsStore in ~/.docker/config.json and auth.json",
        ))
    }
}

fn is_program(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// What helpers know a registry as: of the Docker Hub docker kept its oldest address.
fn servers(host: &str) -> Vec<&str> {
    match host {
        "docker.io" => vec!["https://index.docker.io/v1/", "docker.io"],
        host => vec![host],
    }
}

/// What it said of its failure: one short line.
fn words(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().next().unwrap_or("").trim();
    let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}
