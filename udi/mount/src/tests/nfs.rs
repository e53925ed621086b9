//! An export that squashes root, where root has fewer rights than anybody: testbed/kernels makes
//! one in its guests, of `/export` at `/nfs`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use udi::{Ask, Base, Blame, Config, Digest, Facts, Plan, Request, Texts};
use udi_store::Store;

use super::world::*;
use crate::{Ids, JobKey, Opened, open_image};

/// Makes something below the export, on the server.
fn served(path: &str, content: Option<&[u8]>, owner: (u32, u32), mode: u32) {
    let path = format!("/export/{path}");
    match content {
        Some(content) => fs::write(&path, content).unwrap(),
        None => fs::create_dir_all(&path).unwrap(),
    }
    chown(&path, Some(owner.0), Some(owner.1)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Root may not read the file: what makes this the world that it is.
fn is_closed_to_root(path: &str) {
    assert_eq!(fs::File::open(path).unwrap_err().kind(), ErrorKind::PermissionDenied, "{path}");
}

#[test]
#[ignore = "needs root"]
fn a_volume_of_mine_on_an_export_that_squashes_root_is_there_for_me_and_nobody_else() {
    on_a_node(|world| {
        for directory in ["alice", "alice/inner", "alice/inner/below"] {
            served(directory, None, (ALICE, ALICE), 0o700);
        }
        served("alice/inner/name", Some(b"alice's"), (ALICE, ALICE), 0o600);
        is_closed_to_root("/nfs/alice/inner/name");
        let image = Image::plain();
        world.file("scratch/alice/name", "beside");
        let beside = world.at("scratch/alice");
        let inner = "/nfs/alice/inner";
        let volume = format!("{inner}:/data;{inner}/name:/file:ro;{beside}:/data/below");
        let udi = world.stage(Job { volume: &volume, ..Job::new(&image) }).unwrap();
        as_rank(&udi, ALICE, || {
            for (path, content) in
                [("/data/name", "alice's"), ("/file", "alice's"), ("/data/below/name", "beside")]
            {
                assert_eq!(fs::read_to_string(path).unwrap(), content, "{path}");
            }
            fs::write("/data/new", "written").unwrap();
        });
        assert_eq!(fs::metadata("/export/alice/inner/new").unwrap().uid(), ALICE);
        for volume in ["/nfs/alice/inner:/data", "/nfs/alice/inner/name:/data"] {
            let error =
                world.stage(Job { id: 2, uid: BOB, volume, ..Job::new(&image) }).unwrap_err();
            assert_eq!(error.blame(), Blame::User, "{error}");
            assert!(error.to_string().contains("Permission denied"), "{error}");
        }
        world.node().drop_job(1, 0, 0).unwrap();
    });
}

/// A store on the export, as the account `daemon` keeps it, with one image that alice may read.
fn store(image: &[u8]) -> (Config, Digest) {
    const DAEMON: u32 = 1;
    let (digest, file) = (Digest::from_bytes(&[0xaa; 32]), Digest::from_bytes(&[0xbb; 32]));
    for directory in ["store", "store/manifests/aa", "store/images/bb"] {
        for above in Path::new(directory).ancestors().filter(|it| !it.as_os_str().is_empty()) {
            served(above.to_str().unwrap(), None, (DAEMON, DAEMON), 0o711);
        }
    }
    let manifest = format!(
        r#"{{"info":{{"digest":"{digest}","platform":"linux/amd64","env":[]}},
            "files":{{"squashfs-2":{{"id":"{file}","format":"squashfs","size":{}}}}}}}"#,
        image.len()
    );
    let manifest_path = format!("store/manifests/aa/{}", digest.hex());
    served(&manifest_path, Some(manifest.as_bytes()), (DAEMON, ALICE), 0o640);
    let image_path = format!("store/images/bb/{}.squashfs", file.hex());
    served(&image_path, Some(image), (DAEMON, ALICE), 0o640);
    is_closed_to_root(&format!("/nfs/{image_path}"));
    let text =
        "[store]\npath = \"/nfs/store\"\nowner = \"daemon\"\n[node]\nspool = \"/nonexistent\"";
    (Config::parse(text, Path::new("shifter.toml")).unwrap(), digest)
}

#[test]
#[ignore = "needs root"]
fn an_image_in_a_store_on_an_export_that_squashes_root_is_for_those_who_may_read_it() {
    on_a_node(|world| {
        let content = "x".repeat(1 << 20);
        let (site, digest) = store(&Image::plain().file("/large", &content).pack());
        let found = Store::open(&site.store).unwrap();
        let error = open_image(&found, &digest, &user(BOB)).unwrap_err();
        assert_eq!(error.blame(), Blame::User, "{error}");

        let opened: Opened = open_image(&found, &digest, &user(ALICE)).unwrap().into();
        let texts = Texts::of(&format!("id:{digest}"), "", "");
        let Ask::Image(request) = Request::parse(&texts, &site).unwrap() else { panic!() };
        let image = Base::Store(digest);
        let facts = Facts { image, user: user(ALICE), variables: Default::default() };
        let plan = Plan::make(&request, &site, &facts).unwrap();
        let ids = Ids { uid: ALICE, gid: ALICE, groups: vec![ALICE] };
        let (run, identity) = ("alice".into(), "nfs".into());
        let key = JobKey { id: 1, run, identity, of_job: true, ids };
        let udi = world.node().stage(&key, &site, Vec::new(), || Ok((plan, opened))).unwrap();
        // From the server, with the owner's rights, and not from memory.
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        let read = as_rank(&udi, ALICE, || fs::read_to_string("/large").unwrap());
        assert!(read == content);
        drop(udi);
        world.node().drop_job(1, 0, 0).unwrap();
    });
}
