//! Archives as GNU tar and others write them.

use std::process::Command;

use proptest::prelude::*;

use super::*;

/// What was read: path, what it is, and of files size and the bytes that are not zero.
fn entries(archive: &[u8]) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    read(archive, |item, contents| {
        let what = match contents {
            Some(contents) => {
                let (size, mut sum, mut text) = (contents.size(), 0, Vec::new());
                contents.each(|piece| {
                    match piece {
                        Piece::Bytes(bytes) => {
                            sum += bytes.len() as u64;
                            text.extend(bytes.iter().filter(|&&b| b != 0));
                        }
                        Piece::Zeros(length) => sum += length,
                    }
                    Ok(())
                })?;
                assert_eq!(sum, size);
                format!("file {size} {}", String::from_utf8_lossy(&text))
            }
            None => format!("{:?}", item.what),
        };
        found.push((String::from_utf8_lossy(item.path).into_owned(), what));
        Ok(())
    })?;
    Ok(found)
}

/// An archive of what `script` makes, by GNU tar with `options`.
fn tar(script: &str, options: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let script =
        format!("cd {} && {script} && tar -cf - {options} --sort=name .", dir.path().display());
    let output = Command::new("bash").args(["-ec", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn sparse_files_of_every_format_are_read_whole() {
    let make = "truncate -s 6G s && printf start | dd of=s conv=notrunc status=none && \
                printf middle | dd of=s bs=1M seek=5000 conv=notrunc status=none";
    for format in [
        "--format=gnu",
        "--format=pax --sparse-version=0.0",
        "--format=pax --sparse-version=0.1",
        "--format=pax --sparse-version=1.0",
    ] {
        let found = entries(&tar(make, &format!("--sparse {format}"))).unwrap();
        let expected = ("s".to_owned(), format!("file {} startmiddle", 6u64 << 30));
        assert_eq!(found.last(), Some(&expected), "{format}");
    }
}

#[test]
fn long_names_and_targets_come_whole() {
    let name = format!("{}/{}", "d".repeat(200), "é".repeat(127));
    let make = format!("mkdir {} && printf x > {name} && ln -s {name} l", "d".repeat(200));
    for format in ["gnu", "pax"] {
        let found = entries(&tar(&make, &format!("--format={format}"))).unwrap();
        assert!(found.contains(&(name.clone(), "file 1 x".to_owned())), "{found:?}");
        assert_eq!(found.last().unwrap().0, "l");
    }
}

/// One entry, whose header `change` may spoil.
fn one(name: &str, change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(0);
    header.set_mode(0o644);
    change(&mut header);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.resize(2048, 0);
    archive
}

#[test]
fn blank_fields_are_zero() {
    let mut metas = Vec::new();
    let archive = one("x", |h| {
        h.as_old_mut().mode = [0; 8];
        h.as_old_mut().uid = *b"        ";
    });
    read(&archive[..], |item, _| {
        metas.push(item.meta);
        Ok(())
    })
    .unwrap();
    assert_eq!(metas, [Meta::default()]);
}

#[test]
fn entries_that_would_do_harm_are_refused_by_name() {
    for (name, word) in [
        ("../evil", "leads out"),
        ("/etc/passwd", "an absolute name"),
        ("a/.wh.", "a whiteout of nothing"),
        ("a/.wh...", "a whiteout of nothing"),
        ("a/.wh..", "a whiteout of nothing"),
    ] {
        let error = entries(&one(name, |_| {})).unwrap_err().what();
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
    let odd = one("x", |h| h.set_entry_type(EntryType::new(b'Z')));
    assert!(entries(&odd).unwrap_err().what().contains("unknown type 'Z'"));
    let link = one("x", |h| h.set_entry_type(EntryType::Link));
    assert!(entries(&link).unwrap_err().what().contains("a link to nothing"));
    let big = one("x", |h| h.set_uid(1 << 33));
    assert!(entries(&big).unwrap_err().what().contains("its owner is none"));
}

#[test]
fn whiteouts_are_told_by_their_names() {
    let found = |name| entries(&one(name, |_| {})).unwrap();
    assert_eq!(found("a/.wh.b"), [("a/b".to_owned(), "Whiteout".to_owned())]);
    assert_eq!(found(".wh.b"), [("b".to_owned(), "Whiteout".to_owned())]);
    assert_eq!(found("a/.wh..wh..opq"), [("a".to_owned(), "Opaque".to_owned())]);
    assert_eq!(found(".wh..wh..opq"), [(String::new(), "Opaque".to_owned())]);
}

proptest! {
    #[test]
    fn no_archive_is_a_crash(
        bytes in prop::collection::vec(any::<u8>(), 0..2048),
        at in 0usize..512, to: u8, kind: u8,
    ) {
        let _ = entries(&bytes);
        let mut spoilt = one("dir/name", |h| h.set_entry_type(EntryType::new(kind)));
        spoilt[at] = to;
        let _ = entries(&spoilt);
    }
}

/// A header of an entry called `x`, which claims `size` bytes.
fn header(kind: u8, size: u64) -> Vec<u8> {
    let mut header = ::tar::Header::new_ustar();
    header.set_path("x").unwrap();
    header.set_entry_type(EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn headers_that_claim_gigabytes_are_refused_before_they_are_in_memory() {
    for kind in [b'x', b'L', b'K'] {
        let claimed = 7 << 30;
        let file = std::io::Cursor::new(header(b'0', 1 << 20));
        let archive = file.chain(std::io::repeat(b'a').take(1 << 20));
        let archive = archive
            .chain(std::io::Cursor::new(header(kind, claimed)))
            .chain(std::io::repeat(b'a').take(claimed));
        let error = read(archive, |_, _| Ok(())).unwrap_err();
        assert!(error.what().contains("16 MiB"), "{error}");
    }
}

#[test]
fn a_large_file_is_no_large_header_whether_it_is_read_or_passed_over() {
    for passed_over in [true, false] {
        let size = 64 << 20;
        let first = std::io::Cursor::new(header(b'0', size));
        let archive = first
            .chain(std::io::repeat(b'a').take(size))
            .chain(std::io::Cursor::new(header(b'0', 0)));
        let mut seen = 0;
        read(archive.chain(&[0; 1024][..]), |_, contents| {
            seen += 1;
            match contents {
                Some(contents) if !passed_over => contents.each(|_| Ok(())),
                _ => Ok(()),
            }
        })
        .unwrap();
        assert_eq!(seen, 2);
    }
}
