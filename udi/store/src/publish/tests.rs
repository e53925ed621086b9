//! The store as a whole: what is published is found, by those who may.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use udi::{Digest, ImageInfo, ImageRef, Modes, Names, StoreConfig};

use super::*;
use crate::manifest::{self, Packed, Unreadable};
use crate::reference::Entry;

const AMD64: &str = "linux/amd64";
const ALICE: u32 = 1000;
const BOB: u32 = 1001;

pub(crate) struct Fixture {
    pub(crate) store: Store,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

pub(crate) fn fixture() -> Fixture {
    // Not in /tmp, which is often a tmpfs: those knew no access lists for long.
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o2711)).unwrap();
    let owner = rustix::process::geteuid().as_raw().to_string();
    let store = Store::open(&StoreConfig { path: dir.path().into(), owner }).unwrap();
    Fixture { store, dir }
}

fn image(text: &str) -> ImageRef {
    ImageRef::parse(text, &Names { registry: "docker.io".into(), tag: "latest".into() }).unwrap()
}

fn digest(n: u8) -> Digest {
    Digest::from_bytes(&[n; 32])
}

fn name(text: &str, n: u8, uid: u32, private: bool) -> Name {
    let entry = Entry { digest: digest(n), when: 1, by: format!("u{uid}"), uid, from: "r".into() };
    Name { image: image(text), platform: AMD64.into(), private: private.then_some(uid), entry }
}

fn publish(fixture: &Fixture, name: &Name) {
    publish_with(fixture, name, Modes::Keep);
}

fn publish_with(fixture: &Fixture, name: &Name, modes: Modes) {
    let keeper = fixture.store.keeper().unwrap();
    let Claim::Mine(lease) = keeper.lease(name.entry.digest.hex(), "x").unwrap() else { panic!() };
    if keeper.has(&name.entry.digest, modes).unwrap().is_some() {
        return keeper.name(&lease, name).unwrap();
    }
    let mut temp = keeper.temp(&lease).unwrap();
    temp.file.write_all(b"squash").unwrap();
    let info = ImageInfo { digest: Some(name.entry.digest.clone()), ..ImageInfo::default() };
    let id = [name.entry.digest.hex().as_bytes()[0], modes as u8];
    let id = Digest::from_bytes(&[id; 16].concat().try_into().unwrap());
    let unreadable = Unreadable { files: 1, examples: Vec::new() };
    let packed = Packed { id, format: "squashfs".into(), size: 6, unreadable };
    keeper.publish(&lease, temp, packed, modes, info, name).unwrap();
}

fn may(fixture: &Fixture, n: u8, uid: u32) -> bool {
    fixture.store.may_read(&digest(n), uid, &[uid]).unwrap()
}

#[test]
fn a_published_image_is_found_opened_and_opened_again_as_its_owner() {
    let fixture = fixture();
    publish(&fixture, &name("app:1", 1, ALICE, false));
    let store = &fixture.store;
    assert_eq!(store.resolve(&image("app:1"), AMD64, BOB).unwrap(), digest(1));
    let (file, located) = store.open_image(&digest(1)).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    assert_eq!((located.size, stat.st_mode & 0o7777), (6, 0o644));
    store.open_as_owner(&located, (stat.st_dev, stat.st_ino)).unwrap();
    let error = store.open_as_owner(&located, (stat.st_dev, stat.st_ino + 1)).unwrap_err();
    assert!(error.what().contains("changed while it was opened"), "{error}");
    assert!(may(&fixture, 1, BOB));
    assert_eq!(store.keeper().unwrap().names("tmp").unwrap(), []);
    assert_eq!(store.keeper().unwrap().names("leases").unwrap(), []);
}

#[test]
fn directories_can_be_passed_but_not_listed_and_keep_their_group() {
    let fixture = fixture();
    publish(&fixture, &name("site.io/a/b:1", 1, ALICE, true));
    for dir in ["refs", "refs/.private/1000/site.io/a", "images/30", "manifests/01", "tmp"] {
        let mode = std::fs::metadata(fixture.path().join(dir))
            .unwrap_or_else(|e| panic!("{dir}: {e}"))
            .mode();
        assert_eq!(mode & 0o7777, 0o2711, "{dir}");
    }
}

#[test]
fn a_file_that_the_kernel_must_not_mount_is_refused() {
    for (spoil, word) in [
        (0, "can be written by others"),
        (1, "has other names"),
        (2, "does not belong"),
        (3, "no such image"),
    ] {
        let fixture = fixture();
        publish(&fixture, &name("app:1", 1, ALICE, false));
        let located = fixture.store.locate(&digest(1)).unwrap();
        let path = fixture.path().join(&located.path);
        match spoil {
            0 => std::fs::set_permissions(&path, PermissionsExt::from_mode(0o646)).unwrap(),
            1 => std::fs::hard_link(&path, fixture.path().join("other")).unwrap(),
            2 => std::os::unix::fs::chown(&path, Some(12345), None).unwrap(),
            _ => {
                let kept = fixture.path().join("kept");
                std::fs::rename(&path, &kept).unwrap();
                std::os::unix::fs::symlink(kept, &path).unwrap();
            }
        }
        let error = fixture.store.open_image(&digest(1)).unwrap_err();
        assert!(error.what().contains(word), "{error}");
    }
}

#[test]
fn a_private_pull_is_seen_by_its_user_only_and_wins_for_that_user() {
    let fixture = fixture();
    publish(&fixture, &name("app:1", 1, ALICE, false));
    publish(&fixture, &name("app:1", 2, BOB, true));
    let resolve = |uid| fixture.store.resolve(&image("app:1"), AMD64, uid).unwrap();
    assert_eq!((resolve(ALICE), resolve(BOB)), (digest(1), digest(2)));
    assert!(may(&fixture, 2, BOB) && !may(&fixture, 2, ALICE));
    let listed = fixture.store.keeper().unwrap().list().unwrap();
    let seen = |uid| listed.iter().filter(|l| l.visible_to(uid)).count();
    assert_eq!((listed.len(), seen(ALICE), seen(BOB)), (2, 1, 2));
    assert!(listed.iter().all(|l| l.name == "docker:docker.io/library/app:1"));
}

#[test]
fn a_second_private_pull_lets_its_user_in_and_a_public_one_everybody() {
    let fixture = fixture();
    publish(&fixture, &name("app:1", 1, ALICE, true));
    assert!(may(&fixture, 1, ALICE) && !may(&fixture, 1, BOB));
    publish(&fixture, &name("app:1", 1, BOB, true));
    assert!(may(&fixture, 1, ALICE) && may(&fixture, 1, BOB) && !may(&fixture, 1, 7));
    publish(&fixture, &name("app:2", 1, BOB, false));
    assert!(may(&fixture, 1, 7));
}

#[test]
fn who_could_use_an_image_can_use_it_when_somebody_else_has_made_it_readable() {
    for private in [true, false] {
        let fixture = fixture();
        publish(&fixture, &name("app:1", 1, ALICE, private));
        let plain = fixture.store.locate(&digest(1)).unwrap();
        publish_with(&fixture, &name("app:1", 1, BOB, true), Modes::Readable);
        let readable = fixture.store.locate(&digest(1)).unwrap();
        assert_ne!(plain.path, readable.path);
        let keeper = fixture.store.keeper().unwrap();
        for path in [&plain.path, &readable.path] {
            let users = crate::Access::Users([ALICE, BOB].into());
            let expected = if private { users } else { crate::Access::Public };
            assert_eq!(keeper.access(path).unwrap(), expected);
        }
        // A pull that does not ask for it takes it from nobody.
        publish(&fixture, &name("app:2", 1, ALICE, false));
        assert_eq!(fixture.store.locate(&digest(1)).unwrap(), readable);
        assert!(may(&fixture, 1, 7));
    }
}

#[test]
fn a_file_that_was_removed_by_hand_comes_back_with_the_next_pull() {
    for (first, second) in
        [(Modes::Readable, Modes::Keep), (Modes::Keep, Modes::Keep), (Modes::Keep, Modes::Readable)]
    {
        let fixture = fixture();
        publish_with(&fixture, &name("app:1", 1, ALICE, false), first);
        let located = fixture.store.locate(&digest(1)).unwrap();
        std::fs::remove_file(fixture.path().join(located.path)).unwrap();
        assert!(fixture.store.open_image(&digest(1)).is_err());
        publish_with(&fixture, &name("app:1", 1, ALICE, false), second);
        fixture.store.open_image(&digest(1)).unwrap();
        // One of two is enough for a further name.
        publish_with(&fixture, &name("app:1", 1, ALICE, false), Modes::Readable);
        let plain = fixture.store.manifest(&digest(1)).unwrap().unwrap().files;
        if let Some(plain) = plain.get(crate::packing(Modes::Keep)) {
            let path = manifest::image_path(&plain.id, &plain.format);
            std::fs::remove_file(fixture.path().join(path)).unwrap();
        }
        publish(&fixture, &name("app:2", 1, BOB, false));
        fixture.store.open_image(&digest(1)).unwrap();
    }
}

#[test]
fn an_image_goes_with_its_last_name() {
    let fixture = fixture();
    publish(&fixture, &name("app:1", 1, ALICE, false));
    publish(&fixture, &name("app:1", 1, BOB, true));
    publish_with(&fixture, &name("app:2", 1, ALICE, false), Modes::Readable);
    let keeper = fixture.store.keeper().unwrap();
    let remove = |text: &str, uid, admin| {
        keeper.remove(text, &image(text), &Caller { uid, login: "x".into(), admin })
    };
    let error = remove("app:2", BOB, false).unwrap_err();
    assert!(error.to_string().contains("was pulled by u1000, not by you"), "{error}");
    assert_eq!(remove("app:2", 0, true).unwrap(), Removed::default());
    assert_eq!(remove("app:1", ALICE, false).unwrap(), Removed::default());
    // Only bob's private name is left, and only bob's right.
    assert!(may(&fixture, 1, BOB) && !may(&fixture, 1, ALICE));
    assert!(fixture.store.resolve(&image("app:1"), AMD64, ALICE).is_err());
    let removed = remove("app:1", BOB, false).unwrap();
    assert_eq!((removed.images, removed.bytes), (vec![digest(1)], 12));
    assert!(keeper.names("images/30").unwrap().is_empty());
    assert!(!may(&fixture, 1, BOB));
    let error = remove("app:1", BOB, false).unwrap_err();
    assert!(error.to_string().contains("app:1: no such image"), "{error}");
    assert!(fixture.store.open_image(&digest(1)).unwrap_err().blame() == udi::Blame::User);
}

#[test]
fn pulling_somebody_elses_image_again_is_not_the_way_to_remove_it() {
    let fixture = fixture();
    publish(&fixture, &name("app:1", 1, ALICE, false));
    publish(&fixture, &name("app:1", 1, BOB, false));
    publish(&fixture, &name("app:1", 2, BOB, false));
    assert_eq!(fixture.store.resolve(&image("app:1"), AMD64, ALICE).unwrap(), digest(2));
    let keeper = fixture.store.keeper().unwrap();
    let caller = Caller { uid: BOB, login: "u1001".into(), admin: false };
    let error = keeper.remove("app:1", &image("app:1"), &caller).unwrap_err();
    assert!(error.what().contains("was pulled by u1000"), "{error}");
}

#[test]
fn names_of_other_platforms_stay_and_are_named() {
    let fixture = fixture();
    let mut arm = name("app:1", 2, ALICE, false);
    arm.platform = "linux/arm64".into();
    publish(&fixture, &arm);
    let error = fixture.store.resolve(&image("app:1"), AMD64, ALICE).unwrap_err().to_string();
    assert!(error.contains("for linux/arm64 only"), "{error}");
    assert!(
        error.contains("shifterimg pull --platform linux/amd64 docker.io/library/app:1"),
        "{error}"
    );
    publish(&fixture, &name("app:1", 1, ALICE, false));
    let resolve = |platform| fixture.store.resolve(&image("app:1"), platform, ALICE).unwrap();
    assert_eq!((resolve(AMD64), resolve("linux/arm64")), (digest(1), digest(2)));
}

#[test]
fn a_missing_image_says_how_to_get_it() {
    let fixture = fixture();
    let error = fixture.store.resolve(&image("foo:1"), AMD64, ALICE).unwrap_err();
    assert_eq!(error.blame(), udi::Blame::User);
    assert_eq!(
        error.to_string(),
        "docker:docker.io/library/foo:1: no such image in the store\nhint: shifterimg pull docker.io/library/foo:1"
    );
    let typed = fixture.store.resolve_as("foo:1", &image("foo:1"), AMD64, ALICE).unwrap_err();
    assert_eq!(
        typed.about("--image=").to_string(),
        "--image=foo:1: no such image in the store\nhint: shifterimg pull foo:1"
    );
}

#[test]
fn who_pulls_by_digest_does_not_change_what_the_tag_means() {
    let fixture = fixture();
    publish(&fixture, &name("app:1", 1, ALICE, false));
    let index = format!("app:1@{}", digest(7));
    publish(&fixture, &name(&index, 2, BOB, false));
    let resolve = |text: &str| fixture.store.resolve(&image(text), AMD64, ALICE).unwrap();
    assert_eq!(resolve("app:1"), digest(1));
    assert_eq!(resolve(&index), digest(2));
    assert_eq!(resolve(&format!("app@{}", digest(7))), digest(2));
}

#[test]
fn a_digest_that_is_not_there_is_not_replaced_by_what_the_tag_means() {
    let fixture = fixture();
    publish(&fixture, &name("app:1", 1, ALICE, false));
    let asked = image(&format!("app:1@{}", digest(2)));
    let error = fixture.store.resolve(&asked, AMD64, ALICE).unwrap_err();
    assert!(error.what().contains("no such image"), "{error}");
    let there = image(&format!("app:1@{}", digest(1)));
    assert_eq!(fixture.store.resolve(&there, AMD64, ALICE).unwrap(), digest(1));
}

#[test]
fn a_store_of_somebody_else_is_not_trusted() {
    let fixture = fixture();
    let open = |owner: &str| {
        Store::open(&StoreConfig { path: fixture.path().into(), owner: owner.into() })
    };
    assert!(open("4711").unwrap_err().what().contains("not to 4711"));
    assert!(open("no such account").unwrap_err().what().contains("there is no account"));
    std::fs::set_permissions(fixture.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let owner = rustix::process::geteuid().as_raw().to_string();
    assert!(open(&owner).unwrap_err().what().contains("others than its owner"));
}

#[test]
fn a_rehearsal_of_writing_leaves_nothing() {
    let fixture = fixture();
    let keeper = fixture.store.keeper().unwrap();
    keeper.rehearse(&crate::Access::Public).unwrap();
    keeper.rehearse(&crate::Access::Users([ALICE].into())).unwrap();
    assert_eq!(keeper.names("tmp").unwrap(), []);
}

#[test]
fn layers_used_longest_ago_go_when_there_is_no_room() {
    let fixture = fixture();
    let keeper = fixture.store.keeper().unwrap();
    let Claim::Mine(lease) = keeper.lease("x", "x").unwrap() else { panic!() };
    let keep = |n: u8| {
        let mut temp = keeper.layer(&lease, u32::from(n), 100, 250).unwrap();
        temp.file.write_all(&[n; 100]).unwrap();
        keeper.keep_layer(temp, &digest(n)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let there = |n: u8| fixture.store.layers().unwrap().open(&digest(n), 100).is_some();
    keep(1);
    keep(2);
    keeper.used_layer(&digest(1));
    keep(3);
    assert_eq!([there(1), there(2), there(3)], [true, false, true]);
    // One of another length is none.
    assert!(fixture.store.layers().unwrap().open(&digest(1), 99).is_none());
    // What is in the making goes with whoever makes it, and what is gone is not missed.
    drop(keeper.layer(&lease, 9, 250, 250).unwrap());
    keeper.used_layer(&digest(1));
    assert_eq!([there(1), there(3)], [false, false]);
    assert!(keeper.names("tmp").unwrap().is_empty());
}
