//! Attributes and device nodes, from archives to the writer.

use super::*;
use crate::layer::extras;
use crate::layer::merge::Image;
use crate::layer::record::Layer;
use crate::wire::ToWriter;

fn keeping() -> Extras {
    let mut images = udi::ImagesConfig::default();
    (images.xattrs, images.devices) = (udi::Extra::Keep, udi::Extra::Keep);
    Extras::of(&images)
}

#[test]
fn sets_of_attributes_are_told_once_and_only_those_of_what_is_there() {
    let one = |path: &str, value: &[u8]| {
        with_pax(&[
            ("SCHILY.xattr.user.a", value),
            ("SCHILY.xattr.trusted.a", b"never"),
            ("SCHILY.xattr.security.capability", b"never"),
            ("path", path.as_bytes()),
        ])
    };
    for (mut extras, expected) in [
        (keeping(), &["set a=2", "file a 1", "file b 0", "file c 1", "set a=3", "file d 2"][..]),
        (Extras::default(), &["file a 0", "file b 0", "file c 0", "file d 0"]),
    ] {
        let mut layers = Vec::new();
        for files in [
            // What is hidden has a set that nobody needs.
            &[one("a", b"hidden"), with_pax(&[("path", b"b")]), one("c", b"2")][..],
            &[one("a", b"2"), one("d", b"3")],
        ] {
            let mut layer = Layer::default();
            for file in files {
                let visit = |item: Item<'_>, _: Option<&mut Contents<'_>>| {
                    layer.push(Item { what: What::File(Some(0)), ..item })
                };
                read(&file[..], &mut extras, visit).unwrap();
            }
            layers.push(layer);
        }
        let mut said = Vec::new();
        let image = Image::of(layers, |number| number.to_string()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        image
            .send(&extras, |message| {
                match message {
                    ToWriter::Xattrs(set) => {
                        let set = extras::unpack(&set).unwrap();
                        let pairs = set.iter().map(|(n, v)| format!("{}={}", text(n), text(v)));
                        said.push(format!("set {}", pairs.collect::<Vec<_>>().join(" ")));
                    }
                    ToWriter::File { name, meta, .. } => {
                        said.push(format!("file {} {}", text(&name), meta.xattrs));
                    }
                    _ => {}
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(said, expected);
    }
    let large = one("large", &[b'x'; 70_000]);
    let error = read(&large[..], &mut keeping(), |_, _| Ok(())).unwrap_err();
    assert!(error.what().starts_with("large: its extended attributes"), "{error}");
    read(&large[..], &mut Extras::default(), |_, _| Ok(())).unwrap();
}

#[test]
fn device_nodes_are_what_they_are_where_they_are_kept() {
    let device = |major, minor| {
        one("null", |h| {
            h.set_entry_type(EntryType::Char);
            h.set_device_major(major).unwrap();
            h.set_device_minor(minor).unwrap();
        })
    };
    let seen = |archive: &[u8], extras: &mut Extras| {
        let mut seen = String::new();
        read(archive, extras, |item, _| {
            seen = format!("{:?}", item.what);
            Ok(())
        })
        .unwrap();
        seen
    };
    assert_eq!(seen(&device(1, 3), &mut keeping()), "Special(Character(Device(259)))");
    assert_eq!(seen(&device(1, 3), &mut Extras::default()), "Device");
    // Numbers that Linux does not have are nobody's device.
    assert_eq!(seen(&device(1 << 12, 3), &mut keeping()), "Device");
}
