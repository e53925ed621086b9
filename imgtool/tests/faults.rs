//! Registries that fail, and what a pull makes of it: `cargo test -p imgtool --test faults -- --ignored`
//! as root.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod world;

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use world::fake::{Fake, PASSWORD, USER};
use world::{ALICE, World, site};

const NOTHING: [String; 0] = [];

#[test]
#[ignore = "needs root: it becomes users"]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let (fake, world) = site();
    let half = fake.image.layer.len() / 2;
    for (name, ranges) in [
        ("break:1", vec![String::new(), format!("bytes={half}-")]),
        // Without ranges what is there already is passed over.
        ("ignores:1", vec![String::new(), format!("bytes={half}-")]),
        ("elsewhere:1", vec![String::new(), format!("bytes={half}-"), String::new()]),
    ] {
        let (fake, world) = site();
        let said = world.tool(ALICE, &["pull", name]).ok().err();
        assert!(said.contains("; trying again in 500 ms (try 2 of 5)"), "{said}");
        let asked: Vec<String> = fake.seen("/blobs/").into_iter().skip(1).collect();
        let asked: Vec<&str> =
            asked.iter().map(|line| line.split(' ').next_back().unwrap()).collect();
        assert_eq!(asked, ranges, "{name}");
        assert_eq!(world.in_image(&world.image(), "stat -c %s $1/noise"), "1048576\n");
    }
    // A layer that ends too early is no layer, however often it is asked for.
    let short = world.tool(ALICE, &["pull", "short:1"]);
    short.fails(1, &["ended sha256:", &format!("after {half} of"), "push it again"]);
    assert_eq!(fake.fetches(), 5);
    // Nor is one of which there always comes a little more.
    world.tool(ALICE, &["pull", "drip:1"]).fails(1, &["127.0.0.1", "hint: "]);
    assert_eq!(world.files("store"), NOTHING);
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_fault_that_passes_is_sat_out_and_it_is_said_who_waits_for_what() {
    let (fake, world) = site();
    let address = &fake.address;
    for (name, said) in [
        (
            "busy:1",
            format!(
                "the registry {address} has had too many requests from here; trying again in 0 s (try 2 of 5)"
            ),
        ),
        (
            "fault:1",
            format!(
                "the registry {address} has a fault of its own (503 Service Unavailable); trying again in 0 s (try 2 of 5)"
            ),
        ),
        ("half:1", format!("the connection to the registry {address} failed: ")),
        ("restarts:1", format!("the connection to the registry {address} failed: ")),
    ] {
        let done = world.tool(ALICE, &["pull", name]).ok();
        assert!(done.err().contains(&said), "{name}: {}", done.err());
        world.tool(ALICE, &["rm", name]).ok();
        assert_eq!(world.tool(ALICE, &["pull", "--quiet", name]).ok().err(), "");
        world.tool(ALICE, &["rm", name]).ok();
    }
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_registry_that_is_being_restarted_is_waited_for_a_little() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let world = World::new(&address);
    let done = world.tool(ALICE, &["pull", "plain:1"]);
    done.fails(
        3,
        &["does not answer", "(try 2 of 5)", "(try 5 of 5)", "hint: check its name and port"],
    );
    let mut pull = world.start(ALICE, &["pull", "plain:1"]);
    let mut said = BufReader::new(pull.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("does not answer"));
    let _fake = Fake::at(&address);
    assert_eq!(pull.wait().unwrap().code(), Some(0));
}

/// A name server that cannot help until it is told that it can; then it knows registry.test.
fn name_server(works: Arc<AtomicBool>) -> IpAddr {
    // Nobody else asks there, and resolvers know one port only.
    let socket = UdpSocket::bind("127.0.53.153:53").unwrap();
    let address = socket.local_addr().unwrap().ip();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            let name = query[12..length].iter().position(|&b| b == 0).unwrap();
            let question = &query[12..12 + name + 5];
            let known = question.starts_with(b"\x08registry\x04test\0");
            let wants_ipv4 = question[name + 1..name + 3] == [0, 1];
            let (code, answers) = match (works.load(Ordering::SeqCst), known) {
                (_, false) => (3, 0),
                (false, true) => (2, 0),
                (true, true) => (0, u8::from(wants_ipv4)),
            };
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
            answer.extend(question);
            if answers > 0 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, client);
        }
    });
    address
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_name_server_that_does_not_answer_is_waited_for_and_one_that_knows_no_such_name_is_not() {
    let works = Arc::new(AtomicBool::new(false));
    let server = name_server(Arc::clone(&works));
    let fake = Fake::start();
    let port = fake.address.split_once(':').unwrap().1;
    let world = World::new(&format!("registry.test:{port}"));
    let resolver = format!("nameserver {server}\noptions timeout:1 attempts:1\n");
    std::fs::write(world.path("etc/resolv.conf"), resolver).unwrap();
    world.mode("etc/resolv.conf", 0o644);
    let mut pull = world.start(ALICE, &["pull", "plain:1"]);
    let mut said = BufReader::new(pull.stderr.take().unwrap()).lines();
    let said = said.next().unwrap().unwrap();
    works.store(true, Ordering::SeqCst);
    let words = format!("cannot find the registry registry.test:{port}: no name server answers");
    assert!(said.contains(&words) && said.contains("; trying again in 500 ms"), "{said}");
    assert_eq!(pull.wait().unwrap().code(), Some(0));
    let done = world.tool(ALICE, &["pull", &format!("other.test:{port}/plain:1")]);
    let done = done.fails(1, &["its name is not known"]);
    assert!(!done.err().contains("trying again"), "{}", done.err());
}

#[test]
#[ignore = "needs root: it becomes users"]
fn a_registry_that_asks_to_wait_for_hours_is_not_waited_for() {
    let (fake, world) = site();
    world.tool(ALICE, &["pull", "tomorrow:1"]).fails(
        1,
        &["has had too many requests from here; it asks to wait 24 h", "shifterimg login"],
    );
    world
        .tool(ALICE, &["pull", "hub:1"])
        .fails(1, &["too many requests from here; it takes 100 in 6 h", "shifterimg login"]);
    assert_eq!(fake.seen("/tomorrow/").len() + fake.seen("/hub/").len(), 2);
    // Who has a login is counted apart from all the others here.
    world.log_in(&fake.address, USER, PASSWORD);
    world.tool(ALICE, &["pull", "hub:1"]).ok();
}
