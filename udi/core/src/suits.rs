//! Whether a module suits an image: by its architecture, and by its C library.

use crate::{Error, Libc, Module};

/// The program by which the kernel starts every dynamic program of an image. It tells which C
/// library the image has, and for which processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loader {
    /// Where every such image has it.
    pub path: &'static str,
    /// Whose it is.
    pub libc: Libc,
    /// For which processors, as images name them.
    pub arch: &'static str,
}

const fn loader(libc: Libc, arch: &'static str, path: &'static str) -> Loader {
    Loader { path, libc, arch }
}

/// Those that are looked for.
pub const LOADERS: [Loader; 12] = [
    loader(Libc::Glibc, "amd64", "/lib64/ld-linux-x86-64.so.2"),
    loader(Libc::Glibc, "arm64", "/lib/ld-linux-aarch64.so.1"),
    loader(Libc::Glibc, "ppc64le", "/lib64/ld64.so.2"),
    loader(Libc::Glibc, "riscv64", "/lib/ld-linux-riscv64-lp64d.so.1"),
    loader(Libc::Glibc, "s390x", "/lib/ld64.so.1"),
    loader(Libc::Glibc, "386", "/lib/ld-linux.so.2"),
    loader(Libc::Musl, "amd64", "/lib/ld-musl-x86_64.so.1"),
    loader(Libc::Musl, "arm64", "/lib/ld-musl-aarch64.so.1"),
    loader(Libc::Musl, "ppc64le", "/lib/ld-musl-powerpc64le.so.1"),
    loader(Libc::Musl, "riscv64", "/lib/ld-musl-riscv64.so.1"),
    loader(Libc::Musl, "s390x", "/lib/ld-musl-s390x.so.1"),
    loader(Libc::Musl, "386", "/lib/ld-musl-i386.so.1"),
];

/// The architecture in an image's `os/architecture[/variant]`.
pub fn architecture(platform: &str) -> Option<&str> {
    platform.split('/').nth(1).filter(|arch| !arch.is_empty())
}

/// What a module needs of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    module: String,
    arch: Vec<String>,
    libc: Option<Libc>,
}

impl Needs {
    /// What the modules need, of those that need anything.
    pub(crate) fn of(modules: &[(String, &Module)]) -> Vec<Self> {
        let all = modules.iter().map(|(name, module)| Self {
            module: name.clone(),
            arch: module.arch.clone(),
            libc: module.libc,
        });
        all.filter(|needs| !needs.arch.is_empty() || needs.libc.is_some()).collect()
    }

    /// Why the module does not suit an image of `platform` (which may be unknown) that has `found`.
    pub fn judge(&self, platform: &str, found: &[Loader]) -> Result<(), Error> {
        let Self { module, arch, libc } = self;
        let mut has: Vec<&str> = architecture(platform).into_iter().collect();
        if has.is_empty() {
            // Its own, before what it may have for programs of another kind besides.
            has.extend(found.iter().map(|loader| loader.arch).take(1));
        }
        let refuse = |why: String, or: String| {
            Error::user(format!("--module={module}: {why}")).hint(format!(
                "{or}, or do without the module: --module=none, or those that you need"
            ))
        };
        if let Some(its) = has.first()
            && !arch.is_empty()
            && !arch.iter().any(|name| name == its)
        {
            let why = format!("it is for images of {}, and this one is of {its}", arch.join(", "));
            return Err(refuse(
                why,
                format!("pull the image for linux/{}", arch.join(" or linux/")),
            ));
        }
        let Some(libc) = libc else { return Ok(()) };
        if found.iter().any(|loader| loader.libc == *libc) {
            return Ok(());
        }
        let what = match found.first().map(|loader| loader.libc) {
            Some(Libc::Musl) => "this one has musl, as Alpine",
            Some(Libc::Glibc) => "this one has glibc, as Debian and most others",
            None => "this one has no C library: its programs are linked statically",
        };
        let (name, example) = match libc {
            Libc::Glibc => ("glibc", "use an image of Debian, Ubuntu, Rocky Linux or the like"),
            Libc::Musl => ("musl", "use an image of Alpine"),
        };
        Err(refuse(format!("it is for images with {name}, and {what}"), example.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(arch: &[&str], libc: Option<Libc>) -> Needs {
        let arch = arch.iter().map(|name| name.to_string()).collect();
        Needs { module: "gpu".into(), arch, libc }
    }

    fn judged(needs: &Needs, platform: &str, libc: Option<Libc>, arch: &str) -> String {
        let found: Vec<Loader> =
            LOADERS.into_iter().filter(|l| Some(l.libc) == libc && l.arch == arch).collect();
        needs.judge(platform, &found).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_module_for_one_c_library_says_what_the_image_has() {
        let glibc = needs(&[], Some(Libc::Glibc));
        assert_eq!(judged(&glibc, "linux/amd64", Some(Libc::Glibc), "amd64"), "");
        let musl = judged(&glibc, "linux/amd64", Some(Libc::Musl), "amd64");
        let said = "--module=gpu: it is for images with glibc, and this one has musl, as Alpine\n";
        assert!(musl.starts_with(said), "{musl}");
        let none = judged(&glibc, "linux/amd64", None, "");
        assert!(none.contains("no C library"), "{none}");
        let other = judged(&needs(&[], Some(Libc::Musl)), "", Some(Libc::Glibc), "amd64");
        assert!(
            other.contains("has glibc") && other.contains("hint: use an image of Alpine, or do")
        );
    }

    #[test]
    fn a_module_for_some_architectures_goes_by_what_the_image_says_and_else_by_what_it_has() {
        let amd64 = needs(&["amd64"], None);
        for (platform, arch, suits) in [
            ("linux/amd64", "amd64", true),
            ("linux/arm64/v8", "arm64", false),
            ("linux/arm64/v8", "amd64", false),
            ("", "amd64", true),
            ("", "arm64", false),
        ] {
            let said = judged(&amd64, platform, Some(Libc::Glibc), arch);
            assert_eq!(said.is_empty(), suits, "{platform} {arch}: {said}");
        }
        // Nothing says what it is.
        assert_eq!(judged(&amd64, "", None, ""), "");
        assert!(
            judged(&amd64, "linux/arm64", None, "")
                .contains("hint: pull the image for linux/amd64,")
        );
    }
}
