use std::fs;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use udi::{
    Ask, Base, Blame, Config, Digest, Elf, Facts, LdcacheEntry, LoaderCache, Platform, Request,
    Texts,
};

use super::*;
use crate::guest::Tree;
use crate::made::Made;
use crate::proc::Proc;

const LIB: &str = "usr/lib/anywhere";

fn platform() -> Platform {
    Platform::of(std::env::consts::ARCH).unwrap()
}

fn libc(newest: &str) -> Vec<u8> {
    let version = |text: &&str| Version::of_glibc(text).unwrap();
    let mut defines = vec!["GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_2.30", "GLIBC_2.34", "GLIBC_2.36"];
    defines.retain(|older| version(older) < version(&newest));
    defines.extend([newest, "libc.so.6", "GLIBC_PRIVATE"]);
    Made { soname: "libc.so.6", defines: &defines, ..Made::default() }.file()
}

/// The image's files by name, with what its cache calls them; `""` is not in the cache.
struct Image {
    top: tempfile::TempDir,
    cache: LoaderCache,
}

impl Image {
    fn new(glibc: &str) -> Self {
        let image = Self { top: tempfile::tempdir().unwrap(), cache: LoaderCache::default() };
        image.file(platform().loader, &Made { soname: "ld", ..Made::default() }.file());
        image.with("libc-old.so", "libc.so.6", &libc(glibc))
    }

    fn file(&self, path: &str, content: &[u8]) {
        let path = self.top.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn with(mut self, file: &str, soname: &str, content: &[u8]) -> Self {
        self.file(&format!("{LIB}/{file}"), content);
        let link = self.top.path().join(LIB).join(soname);
        if file != soname {
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(file, link).unwrap();
        }
        let entry = LdcacheEntry::new(soname.into(), format!("/{LIB}/{soname}"), platform().flags);
        self.cache.put(vec![entry]);
        self
    }

    fn choose(&self, host: &Gathered, plan: &Plan) -> Result<Chosen> {
        self.file("etc/ld.so.cache", &self.cache.write());
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let top = rustix::fs::openat(CWD, self.top.path(), flags, Mode::empty()).unwrap();
        let proc = Proc::open()?;
        let tree = Tree::new(top, &proc);
        choose(host, &OfImage::look(&tree, platform())?, plan)
    }
}

/// The host's libraries: the first is the module's.
fn host(libraries: &[(&str, Vec<u8>)]) -> Gathered {
    let mut gathered = Gathered::default();
    for (file, content) in libraries {
        let elf = Elf::read(content.as_slice()).unwrap();
        let soname = elf.soname().unwrap();
        if gathered.replacements.is_empty() {
            gathered.replacements.push(soname.clone());
        }
        let library = HostLibrary {
            path: format!("/host/{file}").into(),
            needed: elf.needed(),
            needs: elf.needs(),
            defines: elf.defines(),
            symbols: elf.symbols(),
            search: vec![],
            tree: None,
        };
        gathered.libraries.insert(soname, library);
    }
    gathered
}

fn plan(more: &str, of_library: &str) -> Plan {
    let text = format!(
        "[store]\npath = \"/x\"\n[modules.mpich]\n{more}\n[[modules.mpich.library]]
         from = \"/host/libmpi.so.12\"\n{of_library}"
    );
    let site = Config::parse(&text, Path::new("shifter.toml")).unwrap();
    let Ask::Image(request) = Request::parse(&Texts::of("x:1", "", "mpich"), &site).unwrap() else {
        panic!("no request");
    };
    let image = Base::Store(Digest::from_bytes(&[1; 32]));
    let user = crate::tests::world::user(1000);
    Plan::make(&request, &site, &Facts { image, user, variables: BTreeMap::new() }).unwrap()
}

fn mpi<'a>(needed: &'a [&str], needs: &'a [(&str, &str)]) -> Vec<u8> {
    Made { soname: "libmpi.so.12", needed, needs, ..Made::default() }.file()
}

fn library(soname: &str) -> Vec<u8> {
    Made { soname, ..Made::default() }.file()
}

/// What goes where, with the image's directory left out.
fn places(chosen: &Chosen) -> Vec<String> {
    let place = |path: &GuestPath| path.as_str().replace(&format!("/{LIB}/"), "");
    chosen.placed.values().flatten().map(place).collect()
}

#[test]
fn the_hosts_library_takes_the_place_of_an_older_one() {
    let image = Image::new("GLIBC_2.31").with("libmpi.so.12.1.10", "libmpi.so.12", &mpi(&[], &[]));
    let host = host(&[("libmpi.so.12.2.0", mpi(&["libc.so.6"], &[("libc.so.6", "GLIBC_2.14")]))]);
    let chosen = image.choose(&host, &plan("", "")).unwrap();
    assert_eq!(places(&chosen), ["libmpi.so.12"]);
    assert!(!chosen.adds);
}

#[test]
fn one_whose_abi_is_older_than_the_images_is_refused_with_both_versions() {
    let image = Image::new("GLIBC_2.31").with("libmpi.so.12.3.1", "libmpi.so.12", &mpi(&[], &[]));
    let host = host(&[("libmpi.so.12.2.0", mpi(&[], &[]))]);
    let error = image.choose(&host, &plan("", "")).unwrap_err();
    assert_eq!(error.blame(), Blame::User);
    let said = error.to_string();
    for word in [
        "--module=mpich: the image's libmpi.so.12 has ABI version 12.3.1 (/usr/lib/anywhere/libmpi.so.12)",
        "only 12.2.0 (/host/libmpi.so.12.2.0)",
        "\nhint: ",
    ] {
        assert!(said.contains(word), "{said}");
    }
    // A newer repair of the same interfaces is none of their business.
    let image = Image::new("GLIBC_2.31").with("libmpi.so.12.2.9", "libmpi.so.12", &mpi(&[], &[]));
    image.choose(&host, &plan("", "")).unwrap();
}

#[test]
fn an_image_without_such_a_library_says_so_unless_that_is_fine() {
    let image =
        Image::new("GLIBC_2.31").with("libmpi.so.40.1", "libmpi.so.40", &library("libmpi.so.40"));
    let host = host(&[("libmpi.so.12.2.0", mpi(&[], &[("libc.so.6", "GLIBC_2.99")]))]);
    let said = image.choose(&host, &plan("", "")).unwrap_err().to_string();
    assert!(said.contains("the image has no libmpi.so.12"), "{said}");
    assert!(said.contains("(it has libmpi.so.40)"), "{said}");
    let chosen = image.choose(&host, &plan("", "optional = true")).unwrap();
    assert_eq!(places(&chosen), [""; 0]);
}

#[test]
fn of_what_it_needs_only_what_the_image_lacks_or_has_too_old_comes_along() {
    let symbols = |soname, gives| Made { soname, gives, ..Made::default() }.file();
    let versions = |soname, defines| Made { soname, defines, ..Made::default() }.file();
    let image = Image::new("GLIBC_2.31")
        .with("libmpi.so.12.1.10", "libmpi.so.12", &mpi(&[], &[]))
        // Of the same version by its name, as UCX's always are.
        .with("libucp.so.0.0.0", "libucp.so.0", &symbols("libucp.so.0", &["old"]))
        .with("libnew.so.1.9.0", "libnew.so.1", &symbols("libnew.so.1", &["new", "newer"]))
        .with("libver.so.1.0.0", "libver.so.1", &versions("libver.so.1", &["VER_1"]))
        .with("libgcc_s.so.1", "libgcc_s.so.1", &versions("libgcc_s.so.1", &["GCC_3.0"]));
    let deeper = Made { soname: "liblacks.so.1", needed: &["libdeep.so.2"], ..Made::default() };
    let needed = &["liblacks.so.1", "libucp.so.0", "libnew.so.1", "libver.so.1", "libgcc_s.so.1"];
    let needs = &[("libver.so.1", "VER_2"), ("libgcc_s.so.1", "GCC_3.0")];
    let takes = &["old", "added", "new", "malloc"];
    let soname = "libmpi.so.12";
    let host = host(&[
        ("libmpi.so.12.2.0", Made { soname, needed, needs, takes, ..Made::default() }.file()),
        ("liblacks.so.1.0", deeper.file()),
        ("libdeep.so.2.0", library("libdeep.so.2")),
        ("libucp.so.0.0.0", symbols("libucp.so.0", &["old", "added"])),
        ("libnew.so.1.3.0", symbols("libnew.so.1", &["new", "unused"])),
        ("libver.so.1.0.0", versions("libver.so.1", &["VER_1", "VER_2"])),
        ("libgcc_s.so.1", versions("libgcc_s.so.1", &["GCC_3.0", "GCC_14"])),
    ]);
    let chosen = image.choose(&host, &plan("", "")).unwrap();
    assert!(chosen.adds);
    assert_eq!(
        places(&chosen),
        [
            "/.shifter/lib/libdeep.so.2",
            "/.shifter/lib/liblacks.so.1",
            "libmpi.so.12",
            "libucp.so.0",
            "libver.so.1",
        ]
    );
}

#[test]
fn an_image_whose_glibc_is_too_old_says_so_or_gets_the_hosts_all_of_it() {
    let old = Made { soname: "libm.so.6", ..Made::default() }.file();
    let gone = Made { soname: "libnsl.so.1", ..Made::default() }.file();
    let image = Image::new("GLIBC_2.31")
        .with("libmpi.so.12.1.10", "libmpi.so.12", &mpi(&[], &[]))
        .with("libm-2.31.so", "libm.so.6", &old)
        .with("libnsl-2.31.so", "libnsl.so.1", &gone);
    let needs = [("libc.so.6", "GLIBC_2.34"), ("libm.so.6", "GLIBC_2.29")];
    let host = host(&[
        ("libmpi.so.12.2.0", mpi(&["libmvec.so.1"], &needs)),
        ("libc.so.6", libc("GLIBC_2.36")),
        ("libm.so.6", library("libm.so.6")),
        ("libmvec.so.1", library("libmvec.so.1")),
        ("ld.so", library(platform().loader.rsplit_once('/').unwrap().1)),
    ]);
    let said = image.choose(&host, &plan("", "")).unwrap_err().to_string();
    assert!(
        said.contains("--module=mpich does not suit this image: the host's libmpi.so.12 needs glibc 2.34, and the image has glibc 2.31"),
        "{said}"
    );
    // 2.31 added no symbols, but its file's name tells.
    let named = Image::new("GLIBC_2.30")
        .with("libmpi.so.12.1.10", "libmpi.so.12", &mpi(&[], &[]))
        .with("libc-2.31.so", "libc.so.6", &libc("GLIBC_2.30"));
    let said = named.choose(&host, &plan("", "")).unwrap_err().to_string();
    assert!(said.contains("and the image has glibc 2.31"), "{said}");
    let chosen = image.choose(&host, &plan("glibc = true", "")).unwrap();
    let places = places(&chosen);
    let loader = platform().loader;
    for place in ["libc.so.6", "libm.so.6", loader, "/.shifter/lib/libmvec.so.1", "libmpi.so.12"] {
        assert!(places.iter().any(|it| it == place), "{place} is not in {places:?}");
    }
    assert_eq!(places.len(), 5, "{places:?}");
    assert!(chosen.notes[0].contains("libnsl.so.1"), "{:?}", chosen.notes);
    // libcrypt was part of glibc once.
    let host = {
        let mut host = host;
        let crypt = self::host(&[("libcrypt.so.1.1.0", library("libcrypt.so.1"))]);
        host.libraries.extend(crypt.libraries);
        host
    };
    for (needs, goes) in [("GLIBC_2.4", false), ("GLIBC_PRIVATE", true)] {
        let (soname, needs) = ("libcrypt.so.1", &[("libc.so.6", needs)]);
        let crypt = Made { soname, needs, ..Made::default() }.file();
        let image = Image::new("GLIBC_2.19")
            .with("libmpi.so.12.1.10", "libmpi.so.12", &mpi(&[], &[]))
            .with("libcrypt-2.19.so", soname, &crypt);
        let chosen = image.choose(&host, &plan("glibc = true", "")).unwrap();
        assert_eq!(chosen.placed.contains_key(soname), goes, "{needs:?}");
    }
    // One that is as new keeps its own.
    let image = Image::new("GLIBC_2.36").with("libmpi.so.12.1.10", "libmpi.so.12", &mpi(&[], &[]));
    let chosen = image.choose(&host, &plan("glibc = true", "")).unwrap();
    assert!(!chosen.placed.contains_key("libc.so.6"));
}

#[test]
fn a_module_does_not_suit_an_image_of_musl_or_of_another_architecture() {
    let host = host(&[("libmpi.so.12.2.0", mpi(&[], &[]))]);
    for (file, why) in [(platform().musl, "is made with musl"), ("/bin/x", "has no /lib")] {
        let image = Image { top: tempfile::tempdir().unwrap(), cache: LoaderCache::default() };
        image.file(file, b"");
        let said = image.choose(&host, &plan("", "")).unwrap_err().to_string();
        assert!(said.contains("--module=mpich does not suit this image"), "{said}");
        assert!(said.contains(why), "{said}");
        image.choose(&host, &plan("", "optional = true")).unwrap();
    }
    let image = Image::new("GLIBC_2.36").with(
        "libmpi.so.12.1.10",
        "libmpi.so.12",
        &Made { soname: "libmpi.so.12", machine: 21, ..Made::default() }.file(),
    );
    let foreign = Made { soname: "ld", machine: 21, ..Made::default() }.file();
    image.file(platform().loader, &foreign);
    let said = image.choose(&host, &plan("", "")).unwrap_err().to_string();
    assert!(said.contains("--module=mpich does not suit this image"), "{said}");
}
