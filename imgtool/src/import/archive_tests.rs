use super::*;
use proptest::prelude::*;
use std::io::Write;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn append(tar: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, rest: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    if kind == EntryType::Regular {
        header.set_size(rest.len() as u64);
        tar.append_data(&mut header, name, rest).unwrap();
    } else {
        header.set_size(0);
        tar.append_link(&mut header, name, String::from_utf8_lossy(rest).as_ref()).unwrap();
    }
}

fn sample() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, EntryType::Regular, "b/layer.tar", &[7; 70_000]);
    append(&mut tar, EntryType::Symlink, "a/layer.tar", b"../b/layer.tar");
    append(&mut tar, EntryType::Regular, "./manifest.json", b"[]");
    append(&mut tar, EntryType::Link, "same", b"manifest.json");
    append(&mut tar, EntryType::Symlink, "loop", b"loop");
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn contents(archive: &Archive, name: &str) -> Option<Vec<u8>> {
    let (mut part, size) = archive.open(name).unwrap()?;
    let mut bytes = Vec::new();
    part.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, size);
    Some(bytes)
}

#[test]
fn members_are_found_in_any_order_through_links_and_compression() {
    let plain = sample();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [plain.clone(), gzip(&plain), zstd] {
        let archive = Archive::open(file(&bytes), "x.tar").unwrap();
        for name in ["b/layer.tar", "a/layer.tar"] {
            assert_eq!(contents(&archive, name).unwrap(), [7; 70_000], "{name}");
        }
        for name in ["manifest.json", "same"] {
            assert_eq!(contents(&archive, name).unwrap(), b"[]", "{name}");
        }
        for name in ["loop", "none", "b", "../x", ""] {
            assert!(contents(&archive, name).is_none(), "{name}");
        }
    }
}

#[test]
fn an_archive_that_ends_too_early_or_is_none_is_told_so() {
    let plain = sample();
    let zipped = gzip(&plain);
    for (bytes, words) in [
        (&plain[..60_000], "x.tar: b/layer.tar: the archive ends in the middle of it"),
        (&zipped[..zipped.len() / 2], "x.tar is no archive of an image, or a broken one"),
        (&[1; 5000][..], "x.tar is no archive of an image, or a broken one"),
    ] {
        let error = Archive::open(file(bytes), "x.tar").unwrap_err();
        assert!(error.what().starts_with(words), "{error}");
        assert!(error.to_string().contains("hint: "), "{error}");
    }
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, EntryType::Symlink, "a/x", b"../../etc/passwd");
    let bytes = tar.into_inner().unwrap();
    let error = Archive::open(file(&bytes), "x.tar").unwrap_err();
    assert!(error.what().contains("leads out of the archive"), "{error}");
}

proptest! {
    #[test]
    fn no_archive_is_a_crash(at in 0usize..2048, byte: u8, length in 0usize..75_000) {
        let mut bytes = sample();
        bytes[at] = byte;
        bytes.truncate(length);
        if let Ok(archive) = Archive::open(file(&bytes), "x.tar") {
            for name in ["b/layer.tar", "a/layer.tar", "manifest.json"] {
                let _ = archive.open(name).unwrap().map(|(mut part, _)| part.read_to_end(&mut Vec::new()));
            }
        }
    }

    #[test]
    fn a_link_never_leads_out(directory in "[a-c./]{0,12}", target in "[a-c./]{0,12}") {
        if let Some(path) = joined(directory.as_bytes(), target.as_bytes()) {
            let plain = path.split(|&b| b == b'/').all(|part| !matches!(part, b"." | b".."));
            prop_assert!(plain);
        }
    }
}
