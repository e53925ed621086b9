//! How registries and layers are reached: `cargo test -p imgtool --test ways -- --ignored` as root,
//! with openssl and python3.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::sync::Arc;

use world::fake::{Fake, PASSWORD, USER};
use world::ways::{Proxy, Tls};
use world::{ALICE, BOB, World};

/// A site whose registry speaks TLS, with a certificate that only the site trusts.
fn site(more: &str) -> (Arc<Fake>, Tls, World) {
    let fake = Fake::start();
    let world = World::new(&fake.address);
    let tls = Tls::before(&fake.address, &world.path("etc"));
    rules(&world, &tls.address, more);
    (fake, tls, world)
}

fn rules(world: &World, registry: &str, more: &str) {
    let ca = world.path("etc/ca.pem");
    world.configure(&format!(
        "[images]\ndefault_registry = \"{registry}\"\n{more}\n[[registry]]\nprefix = \"{registry}\"\nca = \"{}\"\n",
        ca.display()
    ));
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_certificate_of_the_sites_own_is_trusted_where_the_site_says_so() {
    let (_fake, tls, world) = site("");
    world.tool(ALICE, &["pull", "plain:1"]).ok();
    world.configure("");
    let name = format!("{}/plain:1", tls.address);
    world.tool(BOB, &["pull", &name]).fails(3, &["cannot talk securely", "ca = "]);
    // Nor is a registry without TLS asked, unless the site says so.
    let (fake, world) = (Fake::start(), World::new("x"));
    let name = format!("{}/plain:1", fake.address);
    world.tool(BOB, &["pull", &name]).fails(3, &["cannot talk securely", "http = true"]);
    assert_eq!(fake.seen("/v2/"), [""; 0]);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_registry_is_asked_itself_for_what_its_mirror_does_not_give_where_the_site_says_so() {
    let (origin, mirror) = (Fake::start(), Fake::start());
    let world = World::new("x");
    world.log_in(&origin.address, USER, PASSWORD);
    let rules = |mirrored: &str, more: &str| {
        let (origin, mirror) = (&origin.address, &mirror.address);
        world.configure(&format!(
            "[[registry]]\nprefix = \"{origin}\"\nhttp = true\n\
             [[registry]]\nprefix = \"{origin}/team\"\nmirror = \"{mirror}/{mirrored}\"\n{more}\n\
             [[registry]]\nprefix = \"{origin}/token\"\nmirror = \"{mirror}/gone\"\n{more}\n"
        ));
    };
    let (name, asking) =
        (format!("{}/team:1", origin.address), format!("; asking {} itself", origin.address));
    rules("plain", "http = true\nfallback = true");
    let done = world.tool(ALICE, &["pull", &name]).ok();
    assert!(!done.err().contains(&asking), "{}", done.err());
    assert_eq!(origin.seen("/v2/"), [""; 0]);
    world.tool(ALICE, &["rm", &name]).ok();
    // What it does not have; what cannot be asked at all.
    for (mirrored, more, why) in [
        ("gone", "http = true\nfallback = true", "has no gone:1"),
        ("plain", "fallback = true", "cannot talk securely"),
    ] {
        rules(mirrored, more);
        let done = world.tool(ALICE, &["pull", "--json", &name]).ok();
        assert!(done.err().contains(why) && done.err().contains(&asking), "{}", done.err());
        let from = format!("from {}/team", origin.address);
        assert!(done.err().contains(&from), "{}", done.err());
        world.tool(ALICE, &["rm", &name]).ok();
    }
    // A login is for whom it was made.
    rules("gone", "http = true\nfallback = true");
    *origin.door.lock().unwrap() = "token";
    let private = format!("{}/token:1", origin.address);
    world.tool(ALICE, &["pull", &private]).ok();
    assert!(origin.seen("Basic").len() == 1 && mirror.seen("Basic").is_empty());
    world.tool(BOB, &["pull", &private]).fails(1, &["wants a login", &origin.address]);
    // Nobody else is asked where the site does not say so.
    let asked = origin.seen("/v2/").len();
    rules("gone", "http = true");
    world.tool(BOB, &["pull", &name]).fails(1, &["has no gone:1", &mirror.address]);
    assert_eq!(origin.seen("/v2/").len(), asked);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_registry_is_asked_through_the_proxy_of_the_user_or_of_the_site() {
    let (sites, mine) = (Proxy::start(true), Proxy::start(true));
    let (_fake, tls, world) = site(&format!("proxy = \"http://{}\"", sites.address));
    world.tool(ALICE, &["pull", "plain:1"]).ok();
    assert!(sites.asked().iter().all(|target| *target == tls.address));
    let through = sites.asked().len();
    assert!(through > 0);
    // The user's own goes first; its password is in no message.
    let url = format!("http://me:hush@{}", mine.address);
    let done = world.tool_with(ALICE, &[("HTTPS_PROXY", &url)], &["pull", "plain:1"]).ok();
    assert!(!done.err().contains("hush"));
    assert_eq!(mine.asked()[0], format!("{} Basic bWU6aHVzaA==", tls.address));
    let asked = mine.asked().len();
    for list in ["127.0.0.1", "x.org,*"] {
        let variables = [("https_proxy", url.as_str()), ("no_proxy", list)];
        world.tool_with(ALICE, &variables, &["pull", "plain:1"]).ok();
    }
    assert_eq!((mine.asked().len(), sites.asked().len()), (asked, through));
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_proxy_that_leads_nowhere_is_named_as_such() {
    let (_fake, tls, world) = site("");
    let closed = Proxy::start(false);
    let to = format!("the proxy {} does not lead to {}", closed.address, tls.address);
    let url = format!("http://me:hush@{}", closed.address);
    let done = world.tool_with(ALICE, &[("https_proxy", &url)], &["pull", "plain:1"]);
    let done = done.fails(1, &[&to, "correct https_proxy or no_proxy"]);
    assert!(!done.err().contains("hush"));
    rules(&world, &tls.address, &format!("proxy = \"http://{}\"", closed.address));
    world.tool(ALICE, &["pull", "plain:1"]).fails(3, &[&to, "images.proxy"]);
    rules(&world, &tls.address, "proxy = \"http://no-such-host.example:1\"");
    world
        .tool(ALICE, &["pull", "plain:1"])
        .fails(3, &["the proxy no-such-host.example:1", "not known"]);
    let bad = [("https_proxy", "socks5://me:hush@x:1")];
    let done = world
        .tool_with(ALICE, &bad, &["pull", "plain:1"])
        .fails(1, &["HTTP proxies only", "http://HOST:PORT"]);
    assert!(!done.err().contains("hush"));
}

#[test]
#[ignore = "needs root: it becomes users"]
fn no_proxy_comes_between_a_registry_without_tls_and_everybody() {
    let proxy = Proxy::start(true);
    let fake = Fake::start();
    let world = World::new(&fake.address);
    let url = format!("http://{}", proxy.address);
    let all = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"];
    let variables: Vec<(&str, &str)> = all.iter().map(|name| (*name, url.as_str())).collect();
    world.tool_with(ALICE, &variables, &["pull", "plain:1"]).ok();
    assert_eq!(proxy.asked(), [""; 0]);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_layer_that_may_not_be_passed_on_comes_from_where_its_maker_has_it() {
    let (fake, tls, world) = site("");
    let urls = |urls: &[String]| *fake.urls.lock().unwrap() = urls.to_vec();
    let (there, nowhere) =
        (format!("https://{}/there", tls.address), format!("https://{}/nowhere", tls.address));
    urls(&[nowhere.clone(), there.clone()]);
    world.tool(ALICE, &["pull", "foreign:1"]).ok();
    assert_eq!(world.in_image(&world.image(), "cat $1/etc/hello"), "hello\n");
    world.tool(ALICE, &["rm", "foreign:1"]).ok();
    for (bad, said) in [
        (nowhere, "404 Not Found"),
        // What is not asked by HTTPS anybody could change.
        (format!("http://{}/there", fake.address), "only https is trusted"),
        ("file:///etc/passwd".to_owned(), "only https is trusted"),
        // Its digest says what it must be.
        (
            format!("https://{}/v2/corrupt/blobs/it", tls.address),
            "sent something else than sha256:",
        ),
    ] {
        urls(&[bad]);
        world.tool(ALICE, &["pull", "foreign:1"]).fails(1, &[said, "hint: "]);
        assert!(world.files("store").is_empty(), "{:?}", world.files("store"));
    }
    // The site's own servers need no TLS where it says so; who asks is not told them.
    let world = World::new(&fake.address);
    world.log_in(&fake.address, "alice", "wonderland");
    urls(&[format!("http://{}/there", fake.address)]);
    world.tool(ALICE, &["pull", "foreign:1"]).ok();
    assert_eq!(fake.seen("/there").last().unwrap().trim(), "/there");
}

#[test]
#[ignore = "needs root: it becomes users"]
fn layers_of_nothing_and_names_with_tag_and_digest_are_images_too() {
    let fake = Fake::start();
    let world = World::new(&fake.address);
    world.tool(ALICE, &["pull", "hollow:1"]).ok();
    assert_eq!(world.in_image(&world.image(), "cat $1/etc/hello"), "hello\n");
    let said = world.tool(ALICE, &["lookup", "hollow:1"]).ok().out();
    let digest = said.trim();
    // The tag is for people; the digest says what it is.
    let name = format!("hollow:moved@{digest}");
    let pulled = world.tool(BOB, &["pull", &name]).ok();
    assert_eq!(pulled.out(), format!("docker:docker.io/library/hollow:moved@{digest}\n"));
    assert!(fake.seen("/manifests/moved").is_empty());
    assert_eq!(world.tool(BOB, &["lookup", &name]).ok().out(), said);
    let other = format!("hollow:1@sha256:{}", "0".repeat(64));
    world.tool(BOB, &["pull", &other]).fails(1, &["sent something else than sha256:0000"]);
}
