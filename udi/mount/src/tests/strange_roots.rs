//! Images whose root is not as one expects it: each place that is needed, of each wrong kind.

use super::world::*;
use udi::Blame;

const PLACES: [&str; 11] = [
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/var",
    "/var/tmp",
    "/etc",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/resolv.conf",
];

/// What may be there, and whether a directory, or else a file, can still be had there.
fn kinds(place: &str) -> Vec<(&'static str, Image, bool, bool)> {
    let base = || Image::default().directory("/bin", 0o755).directory("/elsewhere", 0o755);
    let base = || base().file("/some-file", "x");
    // `/etc/passwd` and the like are put over whatever is there; `/var` and `/etc` may be the root.
    let parent = matches!(place, "/var" | "/etc");
    vec![
        ("nothing", base(), true, true),
        ("a directory", base().directory(place, 0o755), true, true),
        ("a closed directory", base().directory(place, 0o000), true, true),
        ("a file", base().file(place, "x"), false, true),
        ("a link to a directory", base().link(place, "/elsewhere"), true, true),
        ("a link to a file", base().link(place, "/some-file"), false, true),
        ("a link to nothing", base().link(place, "/nowhere/at/all"), false, true),
        ("a link out of the image", base().link(place, "../../../../elsewhere"), true, true),
        ("a link to itself", base().link(place, place), false, true),
        ("a link to the root", base().link(place, "/"), parent, true),
    ]
}

#[test]
#[ignore = "needs root"]
fn an_image_that_lacks_what_is_needed_or_has_it_otherwise_works_or_is_the_users_mistake() {
    on_a_node(|world| {
        let (mut works, mut refused) = (0, 0);
        for (number, place) in (0u32..).zip(PLACES) {
            for (at, (kind, image, as_directory, as_file)) in (0u32..).zip(kinds(place)) {
                let name = format!("image-{number}-{at}");
                let id = 1 + number * 100 + at;
                let job = Job { id, name: &name, ..Job::new(&image) };
                let is_file = place.strip_prefix("/etc/").is_some();
                let can_be = if is_file { as_file } else { as_directory };
                match world.stage(job) {
                    Ok(udi) => {
                        works += 1;
                        assert!(can_be, "{place} is {kind}: staged");
                        as_rank(&udi, ALICE, || {
                            let read = |path: &str| std::fs::read_to_string(path);
                            assert!(read("/proc/self/status").is_ok(), "{place} is {kind}");
                            assert!(
                                std::fs::exists("/dev/null").unwrap_or(false),
                                "{place} is {kind}"
                            );
                            // Not by way of a closed directory of the image's.
                            let closed = kind == "a closed directory" && place == "/etc";
                            assert!(
                                closed || read("/etc/passwd").is_ok_and(|t| t.contains("alice")),
                                "{place} is {kind}"
                            );
                        });
                    }
                    Err(error) => {
                        refused += 1;
                        assert!(!can_be, "{place} is {kind}: {error}");
                        assert_eq!(error.blame(), Blame::User, "{place} is {kind}: {error}");
                        assert!(error.what().contains(place), "{place} is {kind}: {error}");
                        assert!(error.to_string().contains("hint: "), "{place} is {kind}: {error}");
                    }
                }
                world.node().drop_job(id, 0, 0).unwrap();
            }
        }
        assert!(works > 50 && refused > 10, "{works} worked, {refused} were refused");
    });
}
