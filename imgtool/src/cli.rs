//! The command line.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are the help text, where brackets mean: optional"
)]

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

use udi::{Config, Error, ImageFormat, ImageRef, Modes, Result};

use crate::source::manifest::is_platform;

/// The image that somebody typed: here without `--image=`, of which the parser speaks.
pub(crate) fn image(typed: &str, config: &Config) -> Result<ImageRef> {
    ImageRef::parse(typed, &config.names()).map_err(|error| {
        let what = error.what();
        Error::user(what.strip_prefix("--image=").unwrap_or(&what))
            .hint("use NAME:TAG, for example ubuntu:24.04")
    })
}

fn platform(text: &str) -> std::result::Result<String, String> {
    match is_platform(text) {
        true => Ok(text.to_owned()),
        false => Err("a platform is OS/ARCHITECTURE[/VARIANT], for example linux/arm64".to_owned()),
    }
}

fn format(text: &str) -> std::result::Result<ImageFormat, String> {
    ImageFormat::of(text).ok_or_else(|| "a format is squashfs, ext4 or erofs".to_owned())
}

/// Imports container images into the site's image store.
#[derive(Debug, Parser)]
#[command(
    name = "shifterimg",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// Use another shifter.toml (if set-user-ID: root only).
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch an image from its registry into the store.
    Pull(Pull),
    /// Bring an image from a file or directory into the store.
    Import(Import),
    /// Write an image of the store to a file.
    Export(Export),
    /// Send an image to another site's store, by ssh.
    Copy(Copy),
    /// Take an image that another site's copy sends.
    #[command(hide = true)]
    Receive(Receive),
    /// Log in to a registry, for images that it does not give to everybody.
    Login(Login),
    /// Forget the login to a registry.
    Logout(Logout),
    /// List the images that you can use.
    Images(Images),
    /// Print the digest that a name means.
    Lookup(Lookup),
    /// Show what the store knows of an image.
    Inspect(Inspect),
    /// Remove names that you pulled, and images that no name is left for.
    Rm(Rm),
    /// Look whether this host is fit for images, and say how to repair it.
    Doctor(Doctor),
}

/// What can be said of every image that is brought into the store.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Let everybody use it, not only yourself.
    #[arg(long)]
    pub(crate) public: bool,
    /// Let users read files that only root could.
    #[arg(long)]
    pub(crate) readable: bool,
    /// Pack it as this file system, too: squashfs, ext4 or erofs.
    #[arg(long, value_name = "FORMAT", default_value = "squashfs", value_parser = format)]
    pub(crate) format: ImageFormat,
    /// OS/ARCHITECTURE[/VARIANT], if not the compute nodes'; of a pull, several.
    #[arg(long = "platform", value_name = "PLATFORM", value_parser = platform, value_delimiter = ',')]
    platforms: Vec<String>,
    /// Print the digest only.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// Whether files are made readable here.
    pub(crate) fn is_readable(&self, config: &Config) -> bool {
        self.readable || config.images.modes == Modes::Readable
    }

    /// The platforms that are wanted, each once: at least one.
    pub(crate) fn platforms<'a>(&'a self, config: &'a Config) -> Vec<&'a str> {
        let mut wanted: Vec<&str> = Vec::new();
        for platform in &self.platforms {
            if !wanted.contains(&platform.as_str()) {
                wanted.push(platform);
            }
        }
        if wanted.is_empty() { vec![&config.images.platform] } else { wanted }
    }

    /// The platform that is wanted, where there can be only one.
    pub(crate) fn platform<'a>(&'a self, config: &'a Config) -> Result<&'a str> {
        match self.platforms(config)[..] {
            [one] => Ok(one),
            _ => Err(Error::user("--platform: an import is for one platform")
                .hint("import it once for each")),
        }
    }

    /// What was typed of it, to be typed once more for `platform`: but for how to print, and
    /// `--readable`.
    pub(crate) fn again(&self, platform: &str) -> String {
        let mut words = String::new();
        if self.public {
            words.push_str("--public ");
        }
        if self.format != ImageFormat::default() {
            words.push_str(&format!("--format {} ", self.format.name()));
        }
        if !self.platforms.is_empty() {
            words.push_str(&format!("--platform {platform} "));
        }
        words
    }
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Let only yourself see and use it.
    #[arg(long, conflicts_with = "public")]
    pub(crate) private: bool,
    #[command(flatten)]
    pub(crate) options: Options,
    /// [REGISTRY/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Sources:\n  \
    docker-archive:FILE[:NAME:TAG]  what docker save, podman save and buildah write\n  \
    docker-daemon:NAME[:TAG]        what docker or podman has on this machine\n  \
    oci-archive:FILE[:TAG]          an OCI layout in an archive\n  \
    oci:DIRECTORY[:TAG]             an OCI layout, as skopeo and buildah write it\n  \
    dir:DIRECTORY                   the root of a file system\n  \
    tar:FILE, tar:-                 an archive of one, also from standard input\n  \
    squashfs:FILE                   a squashfs file, or Apptainer's image (SIF)")]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Where to keep what a daemon sends, until the image is there.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/tmp")]
    pub(crate) tmpdir: PathBuf,
    /// Where it is: KIND:PATH (see below).
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// How to call it: NAME[:TAG], to be used as user:LOGIN/NAME:TAG.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Who you are there; asked for if left out.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Read the password from standard input, instead of asking for it.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// HOST[:PORT][/PATH], if not the site's default.
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// HOST[:PORT][/PATH], if not the site's default.
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Targets (FILE may be -, standard output):\n  \
    oci-archive:FILE[:TAG]  for docker, podman, skopeo and umoci: an image with one layer\n  \
    squashfs:FILE           a copy of the file that compute nodes mount")]
pub(crate) struct Export {
    /// Replace the file if it is there.
    #[arg(long)]
    pub(crate) force: bool,
    /// OS/ARCHITECTURE[/VARIANT], if not the compute nodes'.
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    pub(crate) platform: Option<String>,
    /// Print the digest only.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The image, as in --image=.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Where to: KIND:FILE (see below).
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// Let everybody there use it, not only yourself.
    #[arg(long)]
    pub(crate) public: bool,
    /// OS/ARCHITECTURE[/VARIANT], if not the compute nodes'.
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    pub(crate) platform: Option<String>,
    /// Where shifterimg is there, if not where programs are.
    #[arg(long, value_name = "PATH", default_value = "shifterimg")]
    pub(crate) program: String,
    /// Print the digest only.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The image, as in --image=.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// [LOGIN@]HOST[:NAME[:TAG]], a host of the other site; there it is user:LOGIN/NAME:TAG.
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,
}

#[derive(Debug, Args)]
pub(crate) struct Receive {
    /// Let everybody use it, not only yourself.
    #[arg(long)]
    pub(crate) public: bool,
    /// OS/ARCHITECTURE[/VARIANT], if not the compute nodes'.
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    pub(crate) platform: Option<String>,
    /// Show no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to call it: NAME[:TAG].
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Print names only.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Lookup {
    /// Look for another platform than the compute nodes'.
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    pub(crate) platform: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The image, as in --image=.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Look for another platform than the compute nodes'.
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    pub(crate) platform: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The image, as in --image=.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The images, as in --image=.
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_malformed_name_is_called_what_was_typed() {
        let config = Config::parse("[store]\npath = \"/x\"\n", std::path::Path::new("x")).unwrap();
        let error = image("Debian:12", &config).unwrap_err();
        assert!(error.what().starts_with("Debian:12: not an image name"), "{error}");
        assert_eq!(error.next_steps(), ["hint: use NAME:TAG, for example ubuntu:24.04"]);
    }

    #[test]
    fn the_manual_page_has_every_command_and_every_option() {
        let page = include_str!("../man/shifterimg.1").replace("\\-", "-");
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            assert!(page.contains(&format!(".SS {}", sub.get_name())), "{}", sub.get_name());
        }
        let commands = command.get_subcommands().chain([&command]);
        for arg in commands.flat_map(|c| c.get_arguments()) {
            if let Some(long) = arg.get_long() {
                assert!(page.contains(&format!("--{long}")), "--{long}");
            }
            if let Some(short) = arg.get_short() {
                assert!(page.contains(&format!("-{short}")), "-{short}");
            }
        }
    }
}
