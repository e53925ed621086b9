//! What the image's dynamic loader finds of modules.

use std::sync::Mutex;
use std::{fs, io};

use udi::{LdcacheEntry, LoaderCache, Platform};

use super::world::*;
use crate::made::Made;

fn platform() -> Platform {
    Platform::of(std::env::consts::ARCH).unwrap()
}

fn library(soname: &str) -> Vec<u8> {
    Made { soname, ..Made::default() }.file()
}

/// An image of glibc whose cache names one library.
fn image() -> Image {
    let mut cache = LoaderCache::default();
    let path = "/usr/lib/libz.so.1".to_owned();
    cache.put(vec![LdcacheEntry::new("libz.so.1".into(), path, platform().flags)]);
    Image::plain()
        .bytes(platform().loader, library("ld"))
        .bytes("/usr/lib/libz.so.1", library("libz.so.1"))
        .bytes("/etc/ld.so.cache", cache.write())
}

/// What a module has, at `host/lib`.
fn host(world: &World) -> String {
    world.directory("host/lib");
    world.bytes("host/lib/libown.so.1.2", &library("libown.so.1"));
    world.bytes("host/lib/libstray.so.9", &library("libown.so.1"));
    world.bytes("host/lib/libnone.so", &library(""));
    world.bytes("host/lib/libz.so.1", &library("libz.so.1"));
    world.bytes("host/lib/libforeign.so.1", &Made { machine: 21, ..Made::default() }.file());
    world.file("host/lib/libtext.so", "INPUT(libown.so.1)");
    world.bytes("host/lib/README.so", &library("libreadme.so.1"));
    world.link("libown.so.1.2", "host/lib/libown.so");
    world.link("/etc/shadow", "host/lib/libshadow.so");
    world.at("host/lib")
}

fn site(lib: &str, more: &str) -> String {
    format!(
        "[modules.m]\nldcache = [\"/opt/m/lib\"]\n{more}
         [[modules.m.mount]]\nfrom = \"{lib}\"\nto = \"/opt/m/lib\"\nread_only = true"
    )
}

/// Where the loader inside finds a library.
fn found(name: &str) -> Vec<String> {
    let cache = LoaderCache::parse(&fs::read("/etc/ld.so.cache").unwrap()).unwrap();
    cache.find(name, platform().flags).map(str::to_owned).collect()
}

/// What the node's log said.
static SAID: Mutex<String> = Mutex::new(String::new());

fn log(line: &str) {
    SAID.lock().unwrap().push_str(line);
}

#[test]
#[ignore = "needs root"]
fn the_loader_finds_a_modules_libraries_by_every_name_and_before_the_images() {
    on_a_node(|world| {
        let (image, site) = (image(), site(&host(world), ""));
        for writable in ["", "1M"] {
            let id = 1 + writable.len() as u32;
            let job = Job { module: "m", site: &site, writable, id, ..Job::new(&image) };
            let udi = world.stage(job).unwrap();
            as_rank(&udi, ALICE, || {
                assert_eq!(found("libown.so.1"), ["/opt/m/lib/libown.so.1.2"]);
                assert_eq!(found("libown.so"), ["/opt/m/lib/libown.so"]);
                assert_eq!(found("libnone.so"), ["/opt/m/lib/libnone.so"]);
                assert_eq!(found("libz.so.1"), ["/opt/m/lib/libz.so.1"]);
                for none in ["libforeign.so.1", "libtext.so", "libreadme.so.1", "libshadow.so"] {
                    assert_eq!(found(none), [""; 0], "{none}");
                }
                fs::write("/etc/ld.so.cache", "").unwrap_err();
            });
        }
    });
}

#[test]
#[ignore = "needs root"]
fn without_such_a_module_the_images_cache_is_the_images() {
    on_a_node(|world| {
        let image = image();
        let site = site(&host(world), "").replace("ldcache", "#");
        for module in ["", "m"] {
            let id = 1 + module.len() as u32;
            let udi = world.stage(Job { module, site: &site, id, ..Job::new(&image) }).unwrap();
            let (libraries, table) = as_rank(&udi, ALICE, || {
                (found("libz.so.1"), fs::read_to_string("/proc/thread-self/mountinfo").unwrap())
            });
            assert_eq!(libraries, ["/usr/lib/libz.so.1"]);
            assert!(!table.contains("ld.so.cache"), "{table}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn several_modules_and_directories_come_in_their_order_and_one_that_is_missing_is_no_fault() {
    on_a_node(|world| {
        for directory in ["one", "two"] {
            world.directory(directory);
            world.bytes(&format!("{directory}/libx.so.1"), &library("libx.so.1"));
        }
        world.bytes("two/liby.so.1", &library("liby.so.1"));
        let mount = |module: &str| {
            let from = world.at(module);
            format!(
                "[modules.{module}]\nldcache = [\"/opt/none\", \"/opt/{module}\"]\n
                 [[modules.{module}.mount]]\nfrom = \"{from}\"\nto = \"/opt/{module}\"\n"
            )
        };
        let (image, site) = (image(), mount("one") + &mount("two"));
        for (id, module, first) in [(1, "one,two", "one"), (2, "two,one", "two")] {
            let udi = world.stage(Job { id, module, site: &site, ..Job::new(&image) }).unwrap();
            as_rank(&udi, ALICE, || {
                assert_eq!(found("libx.so.1"), [format!("/opt/{first}/libx.so.1")]);
                assert_eq!(found("liby.so.1"), ["/opt/two/liby.so.1"]);
            });
        }
    });
}

#[test]
#[ignore = "needs root"]
fn single_libraries_that_a_module_mounts_among_the_images_are_found_and_the_images_stay() {
    on_a_node(|world| {
        host(world);
        // As CDI does: files in the image's own directory, and links to them.
        let image = image().bytes("/usr/lib/libhidden.so.1", library("libhidden.so.1"));
        let from = world.at("host/lib/libown.so.1.2");
        let site = format!(
            "[modules.m]\nldcache = [\"/usr/lib\"]
             [[modules.m.mount]]\nfrom = \"{from}\"\nto = \"/usr/lib/libown.so.1.2\""
        );
        let udi = world.stage(Job { module: "m", site: &site, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            // By a link that was made for it.
            assert_eq!(found("libown.so.1"), ["/usr/lib/libown.so.1"]);
            assert_eq!(found("libz.so.1"), ["/usr/lib/libz.so.1"]);
            assert_eq!(found("libhidden.so.1"), [""; 0], "its own cache does not know it either");
        });
    });
}

#[test]
#[ignore = "needs root"]
fn an_image_without_a_cache_gets_one_if_it_has_a_loader_and_the_log_says_what_was_done() {
    on_a_node(|world| {
        let site = site(&host(world), "");
        let loader = |image: Image| image.bytes(platform().loader, library("ld"));
        let broken = |content: &str| loader(Image::plain()).file("/etc/ld.so.cache", content);
        for (id, image, said) in [
            (1, loader(Image::plain()), "is made anew for its modules: it has none"),
            (2, broken("nonsense"), "it is not a cache of glibc's loader"),
            (3, loader(Image::plain()).directory("/etc/ld.so.cache", 0o755), "not a cache"),
            (4, loader(Image::plain()).link("/etc/ld.so.cache", "nowhere"), "it has none"),
            (5, loader(Image::plain()).link("/etc/ld.so.cache", "/dev/zero"), "it has none"),
        ] {
            SAID.lock().unwrap().clear();
            let name = format!("image{id}");
            let job = Job { id, module: "m", site: &site, name: &name, ..Job::new(&image) };
            let udi = world.stage_logging(job, log).unwrap();
            as_rank(&udi, ALICE, || {
                assert_eq!(found("libown.so.1"), ["/opt/m/lib/libown.so.1.2"]);
            });
            assert!(SAID.lock().unwrap().contains(said), "{id}: {}", SAID.lock().unwrap());
        }
        // musl's loader and static programs read none.
        SAID.lock().unwrap().clear();
        let image = Image::plain();
        let job = Job { id: 9, module: "m", site: &site, name: "musl", ..Job::new(&image) };
        let udi = world.stage_logging(job, log).unwrap();
        as_rank(&udi, ALICE, || {
            let error = fs::metadata("/etc/ld.so.cache").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(fs::metadata("/opt/m/lib/libown.so").is_ok());
        });
        let said = SAID.lock().unwrap().clone();
        assert!(said.contains("--module=m: the image has no /lib"), "{said}");
        assert!(said.contains("only by LD_LIBRARY_PATH"), "{said}");
    });
}

#[test]
#[ignore = "needs root"]
fn no_file_that_a_user_mounts_is_looked_at() {
    on_a_node(|world| {
        let image = image().directory("/opt/m/lib", 0o755);
        world.directory("scratch/alice/lib");
        world.bytes("scratch/alice/lib/libuser.so.1", &library("libuser.so.1"));
        let volume = format!("{}:/opt/m/lib", world.at("scratch/alice/lib"));
        let site = "[modules.m]\nldcache = [\"/opt/m/lib\"]";
        let job = Job { module: "m", site, volume: &volume, ..Job::new(&image) };
        let udi = world.stage(job).unwrap();
        as_rank(&udi, ALICE, || {
            assert!(fs::metadata("/opt/m/lib/libuser.so.1").is_ok());
            assert_eq!(found("libuser.so.1"), [""; 0]);
        });
    });
}

#[test]
#[ignore = "needs root"]
fn no_link_of_the_image_leads_root_to_what_the_host_shows_inside() {
    on_a_node(|world| {
        world.directory("scratch/lib");
        world.bytes("scratch/lib/libuser.so.1", &library("libuser.so.1"));
        let mount = |more: &str| {
            let from = world.at("scratch");
            format!("{more}\n[[mount]]\nfrom = \"{from}\"\nto = \"/scratch\"\n")
        };
        let site = mount("[modules.m]\nldcache = [\"/usr/lib\", \"/opt/m/lib\"]");
        let image = image()
            .link("/opt/m/lib", "/scratch/lib")
            .link("/usr/lib/libstolen.so.1", "/scratch/lib/libuser.so.1")
            .link("/usr/lib/libdevice.so", "/dev/zero");
        let udi = world.stage(Job { module: "m", site: &site, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            for name in ["libuser.so.1", "libstolen.so.1", "libdevice.so"] {
                assert_eq!(found(name), [""; 0], "{name}");
            }
            assert!(fs::metadata("/opt/m/lib/libuser.so.1").is_ok());
        });
        // Where the site itself says so it is looked at.
        let site = mount("[modules.m]\nldcache = [\"/scratch/lib\"]");
        let job = Job { id: 2, module: "m", site: &site, ..Job::new(&image) };
        as_rank(&world.stage(job).unwrap(), ALICE, || {
            assert_eq!(found("libuser.so.1"), ["/scratch/lib/libuser.so.1"]);
        });
    });
}

#[test]
#[ignore = "needs root"]
fn what_a_module_copies_over_a_library_of_the_images_is_found() {
    on_a_node(|world| {
        let lib = host(world);
        let site = format!(
            "[modules.m]\nldcache = [\"/opt/own\"]
             [[modules.m.copy]]\nfrom = \"{lib}/libown.so.1.2\"\nto = \"/opt/own/libown.so.1\""
        );
        let image = image()
            .bytes("/opt/own/libown.so.1", library("libown.so.1"))
            .bytes("/opt/own/libother.so.1", library("libother.so.1"));
        let udi = world.stage(Job { module: "m", site: &site, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            assert_eq!(found("libown.so.1"), ["/opt/own/libown.so.1"]);
            assert_eq!(found("libother.so.1"), [""; 0], "the image's own cache lacks it");
        });
    });
}

#[test]
#[ignore = "needs root"]
fn in_a_modules_mount_links_lead_where_they_do_inside_and_what_it_covers_does_not_matter() {
    on_a_node(|world| {
        let lib = host(world);
        world.link("/opt/m/lib/libown.so.1.2", "host/lib/libabsolute.so");
        world.link("/opt/m/lib/README.so", "host/lib/libreadme.so.1");
        world.link("/opt/m/libelsewhere.so", "host/lib/libelsewhere.so");
        let image = image()
            .bytes("/opt/m/libelsewhere.so", library("libelsewhere.so"))
            .bytes("/opt/m/lib/libcovered.so.1", library("libcovered.so.1"));
        let job = Job { module: "m", site: &site(&lib, ""), ..Job::new(&image) };
        as_rank(&world.stage(job).unwrap(), ALICE, || {
            assert_eq!(found("libabsolute.so"), ["/opt/m/lib/libabsolute.so"]);
            assert_eq!(found("libreadme.so.1"), ["/opt/m/lib/libreadme.so.1"]);
            for none in ["libelsewhere.so", "libcovered.so.1"] {
                assert_eq!(found(none), [""; 0], "{none}");
            }
        });
    });
}

#[test]
#[ignore = "needs root"]
fn where_the_site_mounts_something_over_the_images_library_the_step_runs_without_it() {
    on_a_node(|world| {
        world.bytes("libmpi.so.12", &library("libmpi.so.12"));
        world.directory("opt");
        let libc = Made { soname: "libc.so.6", defines: &["GLIBC_2.36"], ..Made::default() };
        let mut cache = LoaderCache::default();
        let path = "/opt/mpi/libmpi.so.12".to_owned();
        cache.put(vec![LdcacheEntry::new("libmpi.so.12".into(), path, platform().flags)]);
        let image = image()
            .bytes("/etc/ld.so.cache", cache.write())
            .bytes("/usr/lib/libc.so.6", libc.file())
            .bytes("/opt/mpi/libmpi.so.12", library("libmpi.so.12"));
        let site = format!(
            "[modules.m]\n[[modules.m.library]]\nfrom = \"{}\"\n
             [[mount]]\nfrom = \"{}\"\nto = \"/opt\"\n",
            world.at("libmpi.so.12"),
            world.at("opt")
        );
        SAID.lock().unwrap().clear();
        let job = Job { module: "m", site: &site, ..Job::new(&image) };
        world.stage_logging(job, log).unwrap();
        let said = SAID.lock().unwrap().clone();
        assert!(said.contains("/opt/mpi/libmpi.so.12 inside is covered"), "{said}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_library_of_the_hosts_takes_the_images_place_wherever_its_loader_finds_it() {
    on_a_node(|world| {
        world.directory("host/deps");
        let marked = |soname: &str, needed: &[&str], mark: &str| {
            let made = Made { soname, needed, runpath: "$ORIGIN/../deps", ..Made::default() };
            [made.file(), mark.as_bytes().to_vec()].concat()
        };
        world.directory("host/lib");
        let needed = ["liblacks.so.1", "libz.so.1"];
        world.bytes("host/lib/libmpi.so.12.2.0", &marked("libmpi.so.12", &needed, "host"));
        world.bytes("host/deps/liblacks.so.1", &marked("liblacks.so.1", &[], "lacks"));
        world.bytes("host/deps/libz.so.1", &marked("libz.so.1", &[], "host"));
        let from = world.link("libmpi.so.12.2.0", "host/lib/libmpi.so.12");
        let libc = Made { soname: "libc.so.6", defines: &["GLIBC_2.36"], ..Made::default() };
        // In two directories, one of them by two names.
        let image = image()
            .bytes("/usr/lib/libc.so.6", libc.file())
            .bytes("/usr/lib64/libmpi.so.12", marked("libmpi.so.12", &[], "image"))
            .bytes("/usr/lib/libmpi.so.12.1.1", marked("libmpi.so.12", &[], "image"))
            .link("/usr/lib/libmpi.so.12", "libmpi.so.12.1.1");
        let site = format!("[modules.m]\n[[modules.m.library]]\nfrom = \"{from}\"");
        let udi = world.stage(Job { module: "m", site: &site, ..Job::new(&image) }).unwrap();
        let has = |path: &str, mark: &str| fs::read(path).unwrap().ends_with(mark.as_bytes());
        as_rank(&udi, ALICE, || {
            for path in ["/usr/lib/libmpi.so.12", "/usr/lib/libmpi.so.12.1.1", "/lib/libmpi.so.12"]
            {
                assert!(has(path, "host"), "{path}");
            }
            assert!(has("/usr/lib64/libmpi.so.12", "host"));
            assert_eq!(found("liblacks.so.1"), ["/.shifter/lib/liblacks.so.1"]);
            assert!(has("/.shifter/lib/liblacks.so.1", "lacks"));
            // What the image has of this one serves.
            assert_eq!(found("libz.so.1"), ["/usr/lib/libz.so.1"]);
            assert!(!has("/usr/lib/libz.so.1", "host"));
            fs::write("/usr/lib/libmpi.so.12", "").unwrap_err();
        });
        assert!(fs::metadata(&from).unwrap().len() > 100);
    });
}

#[test]
#[ignore = "needs root"]
fn an_image_with_an_older_glibc_gets_all_of_the_hosts() {
    on_a_node(|world| {
        let loader = platform().loader;
        let libc = Made { soname: "libc.so.6", defines: &["GLIBC_2.17"], ..Made::default() };
        let image = image()
            .bytes("/usr/lib/libc-2.17.so", libc.file())
            .link("/usr/lib/libc.so.6", "libc-2.17.so");
        let site = "[modules.glibc]\nglibc = true";
        let udi = world.stage(Job { module: "glibc", site, ..Job::new(&image) }).unwrap();
        let of_host = fs::read(loader).unwrap();
        as_rank(&udi, ALICE, || {
            assert!(fs::read(loader).unwrap() == of_host, "the loader is not the host's");
            let libc = fs::read("/usr/lib/libc-2.17.so").unwrap();
            assert!(libc.len() > 1 << 20, "libc is not the host's");
        });
        // A module without a library leaves an image that is not of glibc alone.
        let none = Image::plain();
        let job = Job { id: 2, name: "none", module: "glibc", site, ..Job::new(&none) };
        world.stage(job).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn a_library_that_the_node_lacks_is_the_sites_to_mend() {
    on_a_node(|world| {
        let image = image();
        world.file("script.so", "GROUP ( libc.so.6 )");
        for (from, why) in [
            ("/no/such.so", "cannot open /no/such.so: No such file"),
            (&world.at("script.so"), "is not a shared library for"),
        ] {
            let site = format!("[modules.m]\n[[modules.m.library]]\nfrom = \"{from}\"");
            let error = world.stage(Job { module: "m", site: &site, ..Job::new(&image) });
            let error = error.unwrap_err();
            assert_eq!(error.blame(), udi::Blame::Admin);
            assert!(error.what().contains("modules.m.library: "), "{error}");
            assert!(error.what().contains(why), "{error}");
        }
    });
}
