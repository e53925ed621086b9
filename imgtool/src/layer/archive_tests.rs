//! Archives as GNU tar and others write them.

use std::process::Command;

use proptest::prelude::*;

use super::*;

/// What was read: path, what it is, and of files size and the bytes that are not zero.
fn entries(archive: &[u8]) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    read(archive, &mut Extras::default(), |item, contents| {
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
    read(&archive[..], &mut Extras::default(), |item, _| {
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
        let error = read(archive, &mut Extras::default(), |_, _| Ok(())).unwrap_err();
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
        read(archive.chain(&[0; 1024][..]), &mut Extras::default(), |_, contents| {
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

/// A sparse file of the oldest format called `x`, of holes and data by turns.
fn old_sparse(holes_and_lengths: &[(u64, usize)]) -> (Vec<u8>, u64) {
    let number = |field: &mut [u8; 12], number: u64| {
        *field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    };
    let mut pieces = Vec::new();
    let (mut end, mut data) = (0, Vec::new());
    for &(hole, length) in holes_and_lengths {
        let mut piece = ::tar::GnuSparseHeader { offset: [0; 12], numbytes: [0; 12] };
        number(&mut piece.offset, end + hole);
        number(&mut piece.numbytes, length as u64);
        pieces.push(piece);
        end += hole + length as u64;
        data.resize(data.len() + length, b'd');
    }
    let mut pieces = pieces.into_iter().peekable();
    let mut fill = |all: &mut [::tar::GnuSparseHeader]| {
        for to in all {
            if let Some(piece) = pieces.next() {
                *to = piece;
            }
        }
        pieces.peek().is_some()
    };
    let mut header = ::tar::Header::new_gnu();
    header.set_path("x").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    let gnu = header.as_gnu_mut().unwrap();
    number(&mut gnu.realsize, end);
    let mut more = fill(&mut gnu.sparse);
    gnu.set_is_extended(more);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    while more {
        let mut next = ::tar::GnuExtSparseHeader::new();
        more = fill(&mut next.sparse);
        next.set_is_extended(more);
        archive.extend(next.as_bytes());
    }
    archive.extend(&data);
    archive.resize(archive.len().next_multiple_of(512), 0);
    (archive, end)
}

proptest! {
    /// Read one by one, the zeros of these would take centuries.
    #[test]
    fn holes_of_old_sparse_files_are_not_read(
        // All but the last are whole blocks, as GNU tar writes them.
        blocks in prop::collection::vec((0..1u64 << 50, 0usize..3), 0..60),
        last in (0..1u64 << 50, 0usize..1500),
        reads in 0usize..3,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut pieces: Vec<_> =
            blocks.into_iter().map(|(hole, blocks)| (hole, blocks * 512)).collect();
        pieces.push(last);
        let (mut archive, size) = old_sparse(&pieces);
        let whole = archive.len();
        archive.extend(header(b'0', 0));
        archive.extend([0; 1024]);
        let stored: usize = pieces.iter().map(|(_, length)| length).sum();
        let mut seen = Vec::new();
        read(&archive[..], &mut Extras::default(), |_, contents| {
            let contents = contents.unwrap();
            let (mut holes, mut data) = (0, 0);
            // All of it is read, or a part, or nothing.
            let mut enough = 0;
            if reads > 0 && contents.size() > 0 {
                let _ = contents.each(|piece| {
                    match piece {
                        Piece::Zeros(length) => holes += length,
                        Piece::Bytes(bytes) => {
                            assert!(bytes.iter().all(|&b| b == b'd'));
                            data += bytes.len();
                        }
                    }
                    enough += 1;
                    if reads == 1 && enough == 3 { Err(Error::user("enough")) } else { Ok(()) }
                });
            }
            seen.push((contents.size(), holes, data));
            Ok(())
        })
        .unwrap();
        prop_assert_eq!(seen.len(), 2);
        prop_assert_eq!(seen[1], (0, 0, 0));
        prop_assert_eq!(seen[0].0, size);
        if reads == 2 {
            prop_assert_eq!((seen[0].1, seen[0].2), (size - stored as u64, stored));
        }
        // An archive that ends too early is an error, and no loop.
        let cut = cut.index(whole);
        let all = read(&archive[..cut], &mut Extras::default(), |_, contents| contents.unwrap().each(|_| Ok(())));
        prop_assert!(cut == 0 || all.is_err());
    }

    #[test]
    fn no_old_map_is_a_crash(at in 386usize..500, to: u8, more: bool, bytes: Vec<u8>) {
        let (mut archive, _) = old_sparse(&[(7, 512), (0, 512), (1 << 40, 3)]);
        archive[at] = to;
        archive[482] = u8::from(more);
        archive[148..156].fill(b' ');
        let sum: u32 = archive[..512].iter().map(|&b| u32::from(b)).sum();
        archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.splice(512..512, bytes);
        let _ = entries(&archive);
    }
}

/// An entry called `x` with a PAX header of these records.
fn with_pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    builder.append_pax_extensions(records.iter().copied()).unwrap();
    let mut archive = builder.into_inner().unwrap();
    // Its end mark.
    archive.truncate(archive.len() - 1024);
    archive.extend(header(b'0', 0));
    archive.extend([0; 1024]);
    archive
}

#[test]
fn an_attribute_with_any_bytes_breaks_no_archive_and_hides_no_name() {
    for value in [&b"\n"[..], b"\n\n", b"a\n11 path=y\nb", b"\n\0=", b""] {
        let archive = with_pax(&[
            ("SCHILY.xattr.security.capability", value),
            ("path", b"real"),
            ("uid", b"4000000"),
            ("mtime", b"77.5"),
        ]);
        let mut seen = Vec::new();
        read(&archive[..], &mut Extras::default(), |item, _| {
            seen.push((item.path.to_vec(), item.meta.uid, item.meta.mtime));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(b"real".to_vec(), 4_000_000, 77)], "{value:?}");
    }
    // As ostree writes it: attributes by PAX, a long name in GNU's way, which goes first.
    let long = "l".repeat(200);
    let mut builder = ::tar::Builder::new(Vec::new());
    let records = [("SCHILY.xattr.user.a", &b"\n"[..]), ("path", b"other")];
    builder.append_pax_extensions(records).unwrap();
    let mut header = ::tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, std::io::empty()).unwrap();
    let found = entries(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(found, [(long, "file 0 ".to_owned())]);
    // The size of what follows cannot be had in two ways.
    let archive = with_pax(&[("SCHILY.xattr.user.a", b"\n"), ("size", b"5")]);
    assert!(entries(&archive).unwrap_err().what().contains("two sizes"));
}

#[path = "extras_tests.rs"]
mod extras;
