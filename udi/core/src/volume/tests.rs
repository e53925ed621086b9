use super::*;
use proptest::prelude::*;
use std::path::Path;

fn site() -> Config {
    let text = "[store]\npath = \"/x\"\n[volumes]\nvariables = [\"SCRATCH\"]";
    Config::parse(text, Path::new("shifter.toml")).unwrap()
}

fn parse(text: &str) -> Result<Vec<Volume>> {
    Volume::parse_list(text, &site())
}

fn one(text: &str) -> Volume {
    parse(text).unwrap().remove(0)
}

#[test]
fn a_volume_is_from_to_and_flags() {
    let list = parse("/scratch/me:/data;/a\\:b:/c\\;d:ro;$SCRATCH:/s").unwrap();
    assert_eq!(list[0].to_string(), "/scratch/me:/data");
    let What::Host(from) = &list[1].what else { panic!("{:?}", list[1]) };
    assert_eq!((from.fixed(), list[1].to.as_str()), (Some("/a:b"), "/c;d"));
    assert!(list[1].read_only && !list[0].read_only);
    let What::Host(from) = &list[2].what else { panic!("{:?}", list[2]) };
    assert_eq!(from.variables().collect::<Vec<_>>(), ["SCRATCH"]);
}

#[test]
fn memory_caches_and_data_images_are_asked_for_by_a_flag() {
    let size = Size::from_bytes(200 << 30);
    assert_eq!(one("none:/x:tmpfs=size=200G").what, What::Tmpfs(size));
    let near = Some("/scratch/me".to_owned());
    let fs = Some(CacheFs::Ext4);
    for (text, near, fs) in [
        ("/scratch/me:/x:perNodeCache=size=200g", &near, None),
        ("none:/x:perNodeCache=size=200G,fs=ext4", &None, fs),
        ("none:/x:perNodeCache=fs=ext4,size=204800M", &None, fs),
    ] {
        assert_eq!(one(text).what, What::Cache { near: near.clone(), size, fs }, "{text}");
    }
    for text in ["genome:38:/x:squashfs", "genome\\:38:/x:squashfs:ro"] {
        let volume = one(text);
        assert!(
            matches!(&volume.what, What::Image(image) if image.name() == "docker:docker.io/library/genome:38")
        );
        assert!(volume.read_only);
    }
    assert_eq!(one("r.example:5000/a/b:/x:squashfs").to.as_str(), "/x");
}

#[test]
fn a_malformed_volume_says_how_to_write_one() {
    for (bad, why) in [
        ("", "no volume"),
        (";", "no volume"),
        ("/a", "TO is missing"),
        ("a:/b", "FROM must be an absolute path"),
        ("$HOME:/b", "FROM must be an absolute path"),
        ("/a:b", "must start with /"),
        ("/a:/b:rw2", "unknown flag \"rw2\""),
        ("/a:/b:slave", "for the site's own mounts"),
        ("/a:/../b", "must not contain .."),
        ("/a:/b\\", "a backslash at the end"),
        (":", "must start with /"),
        ("none:/b", "none needs"),
        ("/a:/b:tmpfs=size=1G", "write none as FROM"),
        ("none:/b:tmpfs", "unknown setting"),
        ("none:/b:tmpfs=size=1G,fs=xfs", "no fs="),
        ("none:/b:tmpfs=size=much", "not a size like 200G"),
        ("none:/b:perNodeCache=fs=xfs", "size=SIZE is missing"),
        ("none:/b:perNodeCache=size=1G,fs=btrfs", "not xfs or ext4"),
        ("a:/b:perNodeCache=size=1G", "on the storage that shall hold it"),
        ("none:/b:perNodeCache=size=1G:tmpfs=size=1G", "another flag"),
        ("none:/b:tmpfs=size=1G:ro", "ro is of no use"),
        ("Genome:/b:squashfs", "not an image name"),
        ("local\\:/a:/b:squashfs", "cannot be a volume"),
        ("local:/a:/b:squashfs", "cannot be a volume"),
        ("/a:/b:squashfs=x", "unknown flag"),
    ] {
        let error = parse(bad).unwrap_err().to_string();
        assert!(
            error.contains("--volume=") && error.contains("hint: use FROM:TO"),
            "{bad}: {error}"
        );
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn order_does_not_matter_and_one_target_is_for_one_volume() {
    let ordered = |text| Volume::in_order(parse(text).unwrap());
    assert_eq!(ordered("/x:/b;/y:/a").unwrap(), ordered("/y:/a;/x:/b;/x:/b").unwrap());
    let error = ordered("/x:/a;/y://a/").unwrap_err().to_string();
    assert!(error.contains("both /x and /y want to be /a"), "{error}");
}

proptest! {
    #[test]
    fn what_prints_parses_to_the_same(
        from in "/[a-z:;$\\\\ é]{0,12}",
        to in "/[a-z:;\\\\ é]{0,12}",
        size in 1u64..,
        flag in 0..6,
    ) {
        let size = Size::from_bytes(size);
        let to = escape(GuestPath::parse(&to).unwrap().as_str());
        let host = escape(&from);
        let text = match flag {
            0 => format!("{host}:{to}"),
            1 => format!("{host}:{to}:ro"),
            2 => format!("none:{to}:tmpfs=size={size}"),
            3 => format!("none:{to}:perNodeCache=size={size}"),
            4 => format!("{host}:{to}:perNodeCache=size={size},fs=xfs"),
            _ => format!("a/b:1:{to}:squashfs"),
        };
        let volume = one(&text);
        prop_assert_eq!(parse(&volume.to_string()).unwrap(), vec![volume]);
    }

    #[test]
    fn no_input_is_a_crash(text in "\\PC{0,40}", flag in "(tmpfs|perNodeCache|squashfs|ro)[=a-z0-9,]{0,12}") {
        let _ = parse(&text);
        let _ = parse(&format!("{text}:/a:{flag}"));
    }
}
