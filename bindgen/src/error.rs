//! What can go wrong between a plugin and Slurm.

use std::{error, fmt};

/// A request that Slurm refused, or text that cannot cross to or from C.
///
/// None of these is a user's mistake by itself: the plugin knows what it asked for and says whose
/// fault it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    what: String,
    kind: ErrorKind,
}

/// The ways in which a call can fail that a plugin may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Slurm does not offer this here: another context, another hook, another time.
    NotAvailable,
    /// There is no such thing (a variable, a task).
    Missing,
    /// The text is not UTF-8.
    NotUtf8,
    /// The text has a NUL byte, or the name of a variable is empty or has an `=`.
    NotAName,
    /// Another answer of Slurm's; the number is Slurm's own.
    Slurm(i32),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Error {
        Error { what: what.into(), kind }
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::NotAvailable => write!(f, "{}: not available here in Slurm", self.what),
            ErrorKind::Missing => write!(f, "{}: there is none", self.what),
            ErrorKind::NotUtf8 => write!(f, "{}: not UTF-8", self.what),
            ErrorKind::NotAName => {
                write!(f, "{}: empty, or has a NUL byte or a \"=\"", self.what)
            }
            ErrorKind::Slurm(code) => write!(f, "{}: Slurm answered {code}", self.what),
        }
    }
}

impl error::Error for Error {}
