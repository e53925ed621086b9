//! What tells whether a library of one system runs with those of another: the machine, the
//! versions in names of files, and glibc's.

use std::cmp::Ordering;
use std::fmt;

/// What an ELF file is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Whether it is of 64 bits.
    pub wide: bool,
    /// `e_machine`.
    pub number: u16,
    /// `e_flags`.
    pub flags: u32,
}

/// A kind of compute node, as glibc sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// As Rust and the kernel name it.
    pub name: &'static str,
    /// Where every program made for glibc says that its dynamic loader is.
    pub loader: &'static str,
    /// The same for programs made for musl.
    pub musl: &'static str,
    /// Its libraries' flags in a cache of the loader's.
    pub flags: u32,
    /// Where glibc looks a library up that the cache does not have, on any distribution.
    pub directories: &'static [&'static str],
    number: u16,
}

const PLATFORMS: [Platform; 4] = [
    Platform {
        name: "x86_64",
        loader: "/lib64/ld-linux-x86-64.so.2",
        musl: "/lib/ld-musl-x86_64.so.1",
        flags: 0x0303,
        directories: &[
            "/lib/x86_64-linux-gnu",
            "/usr/lib/x86_64-linux-gnu",
            "/lib64",
            "/usr/lib64",
            "/lib",
            "/usr/lib",
        ],
        number: 62,
    },
    Platform {
        name: "aarch64",
        loader: "/lib/ld-linux-aarch64.so.1",
        musl: "/lib/ld-musl-aarch64.so.1",
        flags: 0x0a03,
        directories: &[
            "/lib/aarch64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/lib64",
            "/usr/lib64",
            "/lib",
            "/usr/lib",
        ],
        number: 183,
    },
    Platform {
        name: "powerpc64",
        loader: "/lib64/ld64.so.2",
        musl: "/lib/ld-musl-powerpc64le.so.1",
        flags: 0x0503,
        directories: &[
            "/lib/powerpc64le-linux-gnu",
            "/usr/lib/powerpc64le-linux-gnu",
            "/lib64",
            "/usr/lib64",
            "/lib",
            "/usr/lib",
        ],
        number: 21,
    },
    Platform {
        name: "riscv64",
        loader: "/lib/ld-linux-riscv64-lp64d.so.1",
        musl: "/lib/ld-musl-riscv64.so.1",
        flags: 0x1003,
        directories: &[
            "/lib/riscv64-linux-gnu",
            "/usr/lib/riscv64-linux-gnu",
            "/lib64/lp64d",
            "/usr/lib64/lp64d",
            "/lib64",
            "/usr/lib64",
            "/lib",
            "/usr/lib",
        ],
        number: 243,
    },
];

impl Platform {
    /// The one of this name (`std::env::consts::ARCH`).
    pub fn of(name: &str) -> Option<Self> {
        PLATFORMS.into_iter().find(|platform| platform.name == name)
    }

    /// Whether its programs can load a library that is made for `machine`.
    pub fn loads(&self, machine: Machine) -> bool {
        machine.wide && machine.number == self.number
    }
}

/// Numbers with dots between: `12.2.1`.
#[derive(Clone, Debug, Default)]
pub struct Version(Vec<u64>);

impl Version {
    /// The version that `text` is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| {
            let digits = (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        };
        let numbers: Option<Vec<u64>> = text.split('.').map(number).collect();
        numbers.map(Self)
    }

    /// That of a library's file: `12.2.1` of `libmpich.so.12.2.1`.
    pub fn of_file(name: &str) -> Option<Self> {
        name.split_once(".so.").and_then(|(_, version)| Self::parse(version))
    }

    /// Of glibc, that a symbol version tells: `2.34` of `GLIBC_2.34`.
    pub fn of_glibc(symbols: &str) -> Option<Self> {
        match symbols {
            // What a library says whose relocations only glibc 2.36 can read.
            "GLIBC_ABI_DT_RELR" => Self::parse("2.36"),
            other => other.strip_prefix("GLIBC_").and_then(Self::parse),
        }
    }

    /// Of glibc, that the name of its libc's file tells, as it did before 2.34: `libc-2.31.so`.
    pub fn of_libc_file(name: &str) -> Option<Self> {
        name.strip_prefix("libc-")?.strip_suffix(".so").and_then(Self::parse)
    }

    /// The second number, which libtool counts up with each addition to an ABI; nothing for a
    /// version of one number, which says nothing of it.
    pub fn minor(&self) -> Option<u64> {
        self.0.get(1).copied()
    }
}

impl Ord for Version {
    /// By number; `2` is `2.0`.
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |version: &Self, nth: usize| version.0.get(nth).copied().unwrap_or(0);
        let each = 0..self.0.len().max(other.0.len());
        each.map(|nth| number(self, nth).cmp(&number(other, nth)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// The libraries that are glibc: all of one release, so that they go only together.
pub const GLIBC: [&str; 24] = [
    "libc.so.6",
    "libm.so.6",
    "libmvec.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
    "libanl.so.1",
    "libnsl.so.1",
    "libBrokenLocale.so.1",
    "libthread_db.so.1",
    "libc_malloc_debug.so.0",
    "libnss_compat.so.2",
    "libnss_db.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libnss_hesiod.so.2",
    "libnss_nis.so.2",
    "libnss_nisplus.so.2",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "ld64.so.2",
    "ld-linux-riscv64-lp64d.so.1",
];

/// Whether the library is part of glibc.
pub fn is_glibc(soname: &str) -> bool {
    GLIBC.contains(&soname)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_numbers() {
        assert!(version("2.9") < version("2.31") && version("2.31") < version("12"));
        assert!(version("12.1.10") < version("12.2"));
        assert_eq!(version("2.0"), version("2"));
        assert_eq!(Version::of_file("libmpich.so.12.2.1"), Some(version("12.2.1")));
        assert_eq!(Version::of_glibc("GLIBC_2.2.5"), Some(version("2.2.5")));
        assert_eq!(Version::of_glibc("GLIBC_ABI_DT_RELR"), Some(version("2.36")));
        assert_eq!(version("12").minor(), None);
        for none in ["libmpich.so", "libc-2.31.so", "libx.so.1a", "libx.so.", "libx.so.1..2"] {
            assert_eq!(Version::of_file(none), None, "{none}");
        }
        assert_eq!(Version::of_glibc("GLIBC_PRIVATE"), None);
        assert_eq!(Version::of_libc_file("libc-2.31.so"), Some(version("2.31")));
        assert_eq!(Version::of_libc_file("libc.so.6"), None);
    }

    #[test]
    fn glibc_is_known_with_every_platforms_loader() {
        for platform in PLATFORMS {
            let (_, name) = platform.loader.rsplit_once('/').unwrap();
            assert!(is_glibc(name), "{name}");
        }
        assert!(!is_glibc("libcrypt.so.1") && !is_glibc("libgcc_s.so.1"));
    }

    proptest! {
        #[test]
        fn a_version_is_as_it_prints(numbers in prop::collection::vec(0_u64..1000, 1..5)) {
            let made = Version(numbers);
            prop_assert_eq!(Version::parse(&made.to_string()), Some(made));
        }
    }
}
