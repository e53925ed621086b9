use super::*;
use proptest::prelude::*;
use std::path::Path;

fn site() -> Config {
    let text = "
        [store]
        path = \"/shared/shifter\"
        [[mount]]
        from = \"/home\"
        [volumes]
        not_from = [\"/root\"]
        protected = [\"/opt/site\"]
        [modules.mpich]
        [modules.gpu]
        default = true
    ";
    Config::parse(text, Path::new("shifter.toml")).unwrap()
}

fn request(image: &str, volumes: &str, modules: &str) -> Result<Request> {
    match Request::parse(&Texts::of(image, volumes, modules), &site())? {
        Ask::Image(request) => Ok(request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_option_is_no_request() {
    let parse = |image, volumes| Request::parse(&Texts::of(image, volumes, ""), &site());
    assert_eq!(parse("", "").unwrap(), Ask::Nothing);
    assert_eq!(parse("none", "").unwrap(), Ask::Host);
    let error = parse("", "/a:/b").unwrap_err().to_string();
    assert!(error.contains("--volume needs an image"), "{error}");
}

#[test]
fn a_request_means_the_same_in_any_order() {
    let a = request("ubuntu", "/x:/a;/y:/b", "mpich").unwrap();
    let b = request("docker:ubuntu:latest", "/y:/b;/x://a", "mpich").unwrap();
    assert_eq!(a.identity(), b.identity());
    assert_ne!(a.identity(), request("ubuntu", "/x:/a", "mpich").unwrap().identity());
}

#[test]
fn what_runs_inside_and_where_it_starts_is_part_of_the_request_and_not_of_the_inside() {
    let parse = |entrypoint: &str, workdir: &str| {
        let mut texts = Texts::of("x", "", "");
        texts.set(Word::Entrypoint, Some(entrypoint.into()));
        texts.set(Word::Workdir, Some(workdir.into()));
        match Request::parse(&texts, &site())? {
            Ask::Image(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    };
    let plain = parse("", "").unwrap();
    assert!(!plain.entrypoint() && plain.start().is_none());
    assert_eq!(plain.start_at(&site()), Start::Job);
    for (entrypoint, workdir, start) in [
        ("1", "image", Start::Image),
        ("0", "job", Start::Job),
        ("1", "/data//x/", Start::At(GuestPath::parse("/data/x").unwrap())),
    ] {
        let request = parse(entrypoint, workdir).unwrap();
        assert_eq!((request.entrypoint(), request.start()), (entrypoint == "1", Some(&start)));
        assert_eq!(request.identity(), plain.identity());
        let Ask::Image(again) = Request::parse(&request.to_texts(), &site()).unwrap() else {
            panic!("no request");
        };
        assert_eq!(again, request);
    }
    for (entrypoint, workdir, why) in [
        ("yes", "", "SLURM_SHIFTER_ENTRYPOINT=yes: not 0 or 1"),
        ("", "data", "--image-workdir=data: a path inside the image must start with /"),
        ("", "/a/../b", "--image-workdir=/a/../b: a path inside the image must not contain .."),
    ] {
        let error: Error = parse(entrypoint, workdir).unwrap_err();
        assert!(error.what().contains(why), "{error}");
    }
}

#[test]
fn protected_targets_are_refused_by_component() {
    for to in [
        "/",
        "/etc",
        "//etc",
        "/./etc/x",
        "/proc/1",
        "/dev/shm",
        "/var/lib",
        "/home/x",
        "/opt/site",
        "/opt",
    ] {
        let error = request("x", &format!("/a:{to}"), "").unwrap_err().to_string();
        assert!(error.contains("is protected\nhint: mount it somewhere else"), "{to}: {error}");
    }
    for to in
        ["/etcetera", "/tmp/x", "/var/tmp", "/var/tmp/x", "/mnt", "/opt/sites", "/opt/x", "/home2"]
    {
        request("x", &format!("/a:{to}"), "").unwrap();
    }
}

#[test]
fn the_mounts_of_a_module_that_comes_along_are_protected() {
    let text = "
        [store]
        path = \"/shared/shifter\"
        [node]
        spool = \"/local/slurmd\"
        [[modules.gpu.mount]]
        from = \"/usr/lib/driver\"
        to = \"/opt/driver/lib\"
        [modules.cuda]
        requires = [\"gpu\"]
    ";
    let site = Config::parse(text, Path::new("shifter.toml")).unwrap();
    let at =
        |to: &str, modules| Request::parse(&Texts::of("x", &format!("/a:{to}"), modules), &site);
    for to in ["/opt", "/opt/driver/lib", "/opt/driver/lib/x"] {
        let error = at(to, "cuda").unwrap_err().to_string();
        assert!(error.contains("/opt/driver/lib is protected"), "{error}");
        at(to, "").unwrap();
    }
    at("/opt/mine", "cuda").unwrap();
    // Slurm's own sockets, wherever they are.
    assert!(at("/local/slurmd", "").is_err());
}

#[test]
fn caches_are_where_and_as_large_as_the_site_says() {
    let ask = |cache: &str, volume: &str| {
        let text = format!("[store]\npath = \"/shared/shifter\"\n[cache]\n{cache}");
        let site = Config::parse(&text, Path::new("shifter.toml"))?;
        Request::parse(&Texts::of("x", volume, ""), &site)
    };
    let here = "directories = [\"/local/.caches\"]\nmax = \"1G\"\n";
    let small = format!("{here}fs = \"ext4\"\n");
    for (site, volume, said) in [
        (here, "none:/c:perNodeCache=size=300M", ""),
        (here, "/local/me:/c:perNodeCache=size=1M,fs=ext4", ""),
        (&small, "none:/c:perNodeCache=size=1M", ""),
        ("", "none:/c:perNodeCache=size=300M", "this site has no per-node caches"),
        (here, "none:/c:perNodeCache=size=2G", "this site allows caches of 1G at most"),
        (here, "none:/c:perNodeCache=size=299M", "xfs has 300M at least"),
        (&small, "none:/c:perNodeCache=size=1023K", "ext4 has 1M at least"),
        (here, "/scratch/me:/c:perNodeCache=size=1G", "caches of this site are on /local"),
    ] {
        match ask(site, volume) {
            Ok(_) => assert!(said.is_empty(), "{volume}"),
            Err(error) => assert!(error.what().contains(said) && !said.is_empty(), "{error}"),
        }
    }
}

#[test]
fn sources_outside_the_sites_list_are_refused() {
    assert!(request("x", "/root/x:/mnt", "").is_err());
    request("x", "/rooted:/mnt", "").unwrap();
}

#[test]
fn defaults_of_the_site_come_along_unless_modules_are_named() {
    let names = |modules| -> Vec<String> {
        let site = site();
        let request = request("x", "", modules).unwrap();
        request.modules(&site).unwrap().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(""), ["gpu"]);
    assert_eq!(names("none"), [""; 0]);
    assert_eq!(names("mpich"), ["mpich"]);
    assert_eq!(names("mpich,none"), [""; 0]);
    assert_eq!(names("gpu,none,mpich"), ["mpich"]);
}

proptest! {
    #[test]
    fn the_environment_carries_the_request_exactly(
        image in "x[a-z]{0,4}(:[a-z0-9]{1,4})?",
        targets in proptest::collection::btree_set("/(mnt|x|y z|é:)/[a-z;]{1,3}", 0..4),
        module in prop::sample::select(vec!["", "mpich", "gpu,mpich", "none", "gpu,none,mpich"]),
    ) {
        let escape = |path: &str| path.replace(';', "\\;").replace(':', "\\:");
        let volumes: Vec<String> =
            targets.iter().map(|to| format!("{0}:{0}", escape(to))).collect();
        let first = request(&image, &volumes.join(";"), module).unwrap();
        let again = Request::parse(&first.to_texts(), &site()).unwrap();
        prop_assert_eq!(again, Ask::Image(first));
    }
}
