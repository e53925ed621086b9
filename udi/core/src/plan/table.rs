//! The plan as people read it: a mount table with the reason of each line.

use std::fmt;

use super::{Base, CachePlan, Mount, Origin, Plan, Rights, SiteFile, Source};
use crate::error::printable;
use crate::{Ldcache, Replacement, Word};

impl fmt::Display for Plan {
    /// A mount table with the origin of each line: what a dry run shows, and what users paste
    /// into tickets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["TARGET", "SOURCE", "TYPE", "OPTIONS", "BECAUSE OF"].map(Into::into)];
        rows.push(self.root());
        if let Some(size) = self.writable {
            let origin = format!("--{}={size}", Word::Writable.option());
            rows.push(row("/", format!("size={size}"), "tmpfs", "rw,over-the-image", origin));
        }
        rows.extend(self.files.iter().map(file_row));
        rows.extend(self.mounts.iter().map(Mount::row));
        rows.extend(self.for_the_loader());
        let mut widths = [0; 5];
        for cells in &rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                // What is longer sticks out, and the other lines stay where they are.
                let length = Some(cell.chars().count()).filter(|length| *length <= WIDEST);
                *width = length.unwrap_or(0).max(*width);
            }
        }
        rows.iter().try_for_each(|cells| {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
        })
    }
}

/// The widest column that others are moved for.
const WIDEST: usize = 40;

/// Where an image comes from: its name, with the digest, is in the last column.
const STORE: &str = "store";

/// Where the loader looks libraries up.
const LDCACHE: &str = "/etc/ld.so.cache";

/// A line of the table: where, what, its type, how, because of whom.
type Row = [String; 5];

fn row(target: &str, source: impl Into<String>, kind: &str, options: &str, origin: String) -> Row {
    let options = if options.is_empty() { "-" } else { options };
    let (target, source) = (printable(target), printable(&source.into()));
    [target, source, kind.into(), options.into(), printable(&origin)]
}

fn file_row(file: &SiteFile) -> Row {
    let (source, options) = match file {
        SiteFile::Made { .. } => ("made".to_owned(), ""),
        SiteFile::Copied { from, optional, .. } => {
            (from.display().to_string(), if *optional { "optional" } else { "" })
        }
    };
    row(file.path().as_str(), source, "file", options, "every image".into())
}

impl Plan {
    fn root(&self) -> Row {
        let source = match &self.image {
            Base::Store(_) => STORE,
            Base::Local(path) => path.as_str(),
        };
        row("/", source, "image", "ro", format!("--{}={}", Word::Image.option(), self.name))
    }

    /// What the image's loader finds; where that is in the image is found out there.
    fn for_the_loader(&self) -> Vec<Row> {
        let because = |module: &str| Origin::Module(module.to_owned()).to_string();
        let mut rows = Vec::new();
        for Replacement { from, optional, module } in &self.libraries {
            let name = from.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
            let options = if *optional { "optional" } else { "" };
            let source = from.display().to_string();
            rows.push(row(&name, source, "library", options, because(module)));
        }
        if let Some(module) = &self.glibc {
            rows.push(row("glibc", "the host's, if newer", "library", "", because(module)));
        }
        for Ldcache { directory, module } in &self.ldcache {
            rows.push(row(LDCACHE, directory.as_str(), "ldcache", "", because(module)));
        }
        rows
    }
}

impl Mount {
    fn row(&self) -> Row {
        let (source, kind) = match &self.source {
            Source::Host(from) => (from.display().to_string(), "bind"),
            Source::Tmpfs { size, .. } => (format!("size={size}"), "tmpfs"),
            Source::Cache(CachePlan { directory, size, fs }) => {
                (format!("size={size} in {}", directory.display()), fs.name())
            }
            Source::Image(_) => (STORE.to_owned(), "image"),
        };
        let flags = [
            (self.flags.read_only, "ro"),
            (self.flags.dev, "dev"),
            (self.flags.recursive, "rec"),
            (self.flags.slave, "slave"),
            (self.flags.optional, "optional"),
            (self.rights == Rights::User, "as-user"),
        ];
        let words: Vec<&str> = flags.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        row(self.target.as_str(), source, kind, &words.join(","), self.origin.to_string())
    }
}

impl fmt::Display for Mount {
    /// On one line of its own, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [target, source, kind, options, origin] = self.row();
        write!(f, "{kind} {source} on {target} {options} [{origin}]")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("every image"),
            Self::Site => f.write_str("site"),
            Self::Module(name) => write!(f, "--module={name}"),
            Self::Volume(typed) => write!(f, "--volume={typed}"),
        }
    }
}
