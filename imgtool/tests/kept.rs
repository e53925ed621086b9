//! Layers that the site keeps: `cargo test -p imgtool -- --ignored` as root.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use base64::Engine;
use world::fake::{Fake, PASSWORD, USER};
use world::{ALICE, BOB, World};

/// A site that keeps layers of at most so much.
fn site(limit: &str) -> (std::sync::Arc<Fake>, World) {
    let fake = Fake::start();
    let world = World::new(&fake.address);
    world.configure(&format!(
        "[images]\nlayer_cache = \"{limit}\"\n[[registry]]\nprefix = \"docker.io/library\"\nmirror = \"{}\"\nhttp = true\n",
        fake.address
    ));
    (fake, world)
}

/// The layers that were kept, and nothing in the making.
fn kept(world: &World) -> Vec<String> {
    assert!(world.files("store/tmp").is_empty());
    world.files("store/layers")
}

#[test]
#[ignore = "needs root"]
fn a_layer_that_was_kept_is_not_fetched_again() {
    let (fake, world) = site("1G");
    world.tool(ALICE, &["pull", "app:1"]).ok();
    assert_eq!((kept(&world).len(), fake.fetches()), (1, 1));
    let first =
        std::fs::read(world.path("store").join("images").join(&world.files("store/images")[0]))
            .unwrap();
    world.tool(ALICE, &["rm", "app:1"]).ok();
    // Of another user and another name.
    world.tool(BOB, &["pull", "other:1"]).ok();
    assert_eq!((kept(&world).len(), fake.fetches()), (1, 1));
    let second =
        std::fs::read(world.path("store").join("images").join(&world.files("store/images")[0]))
            .unwrap();
    assert_eq!(first, second);
    // Nobody was believed: the registry was asked for both.
    assert!(
        fake.log.lock().unwrap().iter().filter(|line| line.contains("/other/blobs/")).count() >= 2
    );
}

#[test]
#[ignore = "needs root"]
fn a_layer_that_was_kept_and_is_broken_is_fetched_and_replaced() {
    let (fake, world) = site("1G");
    world.tool(ALICE, &["pull", "app:1"]).ok();
    let layer = world.path("store/layers").join(&kept(&world)[0]);
    let whole = std::fs::read(&layer).unwrap();
    let mut broken = whole.clone();
    broken[100] ^= 1;
    std::fs::write(&layer, broken).unwrap();
    world.tool(ALICE, &["rm", "app:1"]).ok();
    world.tool(ALICE, &["pull", "app:1"]).ok();
    assert_eq!(fake.fetches(), 2);
    assert!(std::fs::read(&layer).unwrap() == whole);
}

#[test]
#[ignore = "needs root"]
fn what_not_everybody_may_have_is_not_kept() {
    let (fake, world) = site("1G");
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = world.path("alice/auth.json");
    std::fs::write(
        &file,
        serde_json::json!({"auths": {&fake.address: {"auth": auth}}}).to_string(),
    )
    .unwrap();
    std::os::unix::fs::chown(&file, Some(ALICE), Some(ALICE)).unwrap();
    let login = [("REGISTRY_AUTH_FILE", file.to_str().unwrap())];
    let repositories = ["basic:1", "token:1"];
    for image in repositories {
        world.tool_with(ALICE, &login, &["pull", "--public", image]).ok();
        world.tool_with(ALICE, &login, &["rm", image]).ok();
    }
    world.tool(ALICE, &["pull", "--private", "app:1"]).ok();
    assert!(kept(&world).is_empty());
}

#[test]
#[ignore = "needs root"]
fn a_layer_larger_than_all_that_may_be_kept_is_pulled_and_not_kept() {
    let (_fake, world) = site("1K");
    world.tool(ALICE, &["pull", "app:1"]).ok();
    assert!(kept(&world).is_empty());
}
