use super::*;
use proptest::prelude::*;

const HERE: u32 = 0x0303;

fn entry(name: &str, path: &str) -> Entry {
    Entry::new(name.into(), path.into(), HERE)
}

fn cache(entries: &[(&str, &str)]) -> LoaderCache {
    let mut cache = LoaderCache::default();
    cache.put(entries.iter().map(|(name, path)| entry(name, path)).collect());
    cache
}

/// What the loader of a file finds: its binary search, with C's comparison of names, as in glibc's
/// `elf/dl-cache.c`, for a processor that has none of the directories.
fn loader_finds(file: &[u8], name: &str, flags: u32) -> Option<String> {
    let count = u32_at(file, 20).unwrap() as i64;
    let line = |nth: i64| &file[HEADER + nth as usize * ENTRY..][..ENTRY];
    let name_of = |nth: i64| string(file, u32_at(line(nth), 4).unwrap()).unwrap().to_owned();
    let (mut left, mut right) = (0, count - 1);
    while left <= right {
        let mut middle = (left + right) / 2;
        match c_compare(name.as_bytes(), name_of(middle).as_bytes()) {
            0 => {
                while middle > 0 && c_compare(name.as_bytes(), name_of(middle - 1).as_bytes()) == 0
                {
                    middle -= 1;
                }
                while middle < count && c_compare(name.as_bytes(), name_of(middle).as_bytes()) == 0
                {
                    if u32_at(line(middle), 0) == Some(flags) && u64_at(line(middle), 16) == Some(0)
                    {
                        return string(file, u32_at(line(middle), 8)?).map(str::to_owned);
                    }
                    middle += 1;
                }
                return None;
            }
            less if less < 0 => left = middle + 1,
            _ => right = middle - 1,
        }
    }
    None
}

fn c_compare(mut a: &[u8], mut b: &[u8]) -> i32 {
    fn number(text: &mut &[u8]) -> i32 {
        let mut value = 0_i32;
        while let [digit @ b'0'..=b'9', rest @ ..] = text {
            value = value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
            *text = rest;
        }
        value
    }
    loop {
        match (a.first(), b.first()) {
            (Some(b'0'..=b'9'), Some(b'0'..=b'9')) => {
                let (one, other) = (number(&mut a), number(&mut b));
                if one != other {
                    return one.wrapping_sub(other);
                }
            }
            (None, other) => return -i32::from(other.copied().unwrap_or(0)),
            (Some(b'0'..=b'9'), _) => return 1,
            (_, Some(b'0'..=b'9')) => return -1,
            (Some(one), other) if Some(one) != other => {
                return i32::from(*one) - i32::from(other.copied().unwrap_or(0));
            }
            _ => (a, b) = (&a[1..], &b[1..]),
        }
    }
}

/// As ldconfig writes for old loaders too: their table, and behind it the new one.
fn behind_an_old_table(new: &[u8], old: u32) -> Vec<u8> {
    let mut file = OLD_MAGIC.to_vec();
    file.push(0);
    file.extend(old.to_le_bytes());
    file.extend(vec![7; old as usize * 12]);
    file.resize(file.len().next_multiple_of(8), 0);
    let start = word_of(file.len());
    let mut new = new.to_vec();
    // Of the strings' places only those of the extension are counted from the file's beginning.
    let extension = u32_at(&new, 32).unwrap();
    new[32..36].copy_from_slice(&(extension + start).to_le_bytes());
    for nth in 0..2 {
        let at = extension as usize + 8 + nth * 16 + 8;
        let moved = u32_at(&new, at).unwrap() + start;
        new[at..at + 4].copy_from_slice(&moved.to_le_bytes());
    }
    for nth in 0..2 {
        let at = extension as usize + 8 + 2 * 16 + nth * 4;
        let moved = u32_at(&new, at).unwrap() + start;
        new[at..at + 4].copy_from_slice(&moved.to_le_bytes());
    }
    file.extend(new);
    file
}

#[test]
fn a_modules_library_comes_before_the_images_of_the_same_name() {
    let mut cache =
        cache(&[("libmpi.so.12", "/usr/lib/libmpi.so.12"), ("libz.so.1", "/lib/libz.so.1")]);
    let narrow = Entry::new("libmpi.so.12".into(), "/lib32/libmpi.so.12".into(), 3);
    let of_processor = Entry { processor: 1 << 62, ..entry("libmpi.so.12", "/v3/libmpi.so.12") };
    cache.processors.push("x86-64-v3".into());
    cache.entries.extend([narrow, of_processor]);
    cache.put(vec![entry("libmpi.so.12", "/opt/1"), entry("libmpi.so.12", "/opt/2")]);
    let file = cache.write();
    assert_eq!(loader_finds(&file, "libmpi.so.12", HERE).unwrap(), "/opt/1");
    assert_eq!(loader_finds(&file, "libmpi.so.12", 3).unwrap(), "/lib32/libmpi.so.12");
    assert_eq!(loader_finds(&file, "libz.so.1", HERE).unwrap(), "/lib/libz.so.1");
    let again = LoaderCache::parse(&file).unwrap();
    let found: Vec<&str> = again.find("libmpi.so.12", HERE).collect();
    assert_eq!(found, ["/opt/1"], "one for a better processor would be preferred");
    assert_eq!(again.versions_of("libmpi", HERE), ["libmpi.so.12"]);
    assert_eq!(again.versions_of("libmp", HERE), [""; 0]);
}

#[test]
fn libraries_for_better_processors_stay_theirs() {
    let mut cache = cache(&[("libx.so.1", "/lib/libx.so.1")]);
    cache.processors.extend(["x86-64-v2".into(), "x86-64-v3".into()]);
    for (level, path) in [(3_u64, "/v3/libx.so.1"), (2, "/v2/libx.so.1")] {
        let processor = 1 << 62 | level << 32 | (level - 2);
        cache.entries.push(Entry { processor, ..entry("libx.so.1", path) });
    }
    for file in [cache.write(), behind_an_old_table(&cache.write(), 5)] {
        let again = LoaderCache::parse(&file).unwrap();
        assert_eq!(again.processors, ["x86-64-v2", "x86-64-v3"]);
        let found: Vec<&str> = again.find("libx.so.1", HERE).collect();
        assert_eq!(found, ["/v2/libx.so.1", "/v3/libx.so.1", "/lib/libx.so.1"]);
        assert_eq!(again.write(), cache.write());
    }
}

#[test]
fn what_is_no_cache_says_why() {
    let good = cache(&[("libx.so.1", "/lib/libx.so.1")]).write();
    let with = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] = byte;
        file
    };
    for (file, why) in [
        (b"#!/bin/sh".to_vec(), "not a cache"),
        (Vec::new(), "not a cache"),
        ([b"ld.so-1.7.0\0".to_vec(), vec![0; 40]].concat(), "older than glibc 2.2"),
        (with(28, 3), "byte order"),
        (with(22, 9), "more than 65536"),
        (with(20, 200), "too early"),
        (good[..30].to_vec(), "too early"),
    ] {
        let said = LoaderCache::parse(&file).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }
}

fn name() -> impl Strategy<Value = String> {
    "lib[a-cA-Z0-9_+.-]{0,6}(\\.so)?(\\.[0-9]{1,12}){0,2}"
}

proptest! {
    #[test]
    fn names_are_compared_as_the_loader_does(a in name(), b in name()) {
        // Where C's numbers overflow, they have no order.
        prop_assume!(![&a, &b].iter().any(|n| n.split(|c: char| !c.is_ascii_digit()).any(|d| d.len() > 9)));
        prop_assert_eq!(tokens(&a).cmp(&tokens(&b)) as i32, c_compare(a.as_bytes(), b.as_bytes()).signum());
    }

    #[test]
    fn the_loader_finds_every_library_of_a_written_cache(
        names in prop::collection::vec("lib[a-c]{0,2}[0-9]{0,3}\\.so(\\.[0-9]{1,3}){0,2}", 0..40),
        first in prop::collection::vec("lib[a-c]{0,2}[0-9]{0,3}\\.so(\\.[0-9]{1,3}){0,2}", 0..10),
    ) {
        let of = |names: &[String], place: &str| -> Vec<Entry> {
            names.iter().map(|name| entry(name, &format!("{place}/{name}"))).collect()
        };
        let mut cache = LoaderCache::default();
        cache.put(of(&names, "/image"));
        cache.put(of(&first, "/module"));
        let file = cache.write();
        prop_assert_eq!(LoaderCache::parse(&file).unwrap().write(), file.clone());
        for name in names.iter().chain(&first) {
            let same = |other: &String| tokens(other) == tokens(name);
            let place = if first.iter().any(same) { "/module/" } else { "/image/" };
            let found = loader_finds(&file, name, HERE).unwrap();
            prop_assert!(found.starts_with(place), "{} is {}", name, found);
        }
    }

    #[test]
    fn no_file_is_a_crash(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        changes in prop::collection::vec((0_usize..300, any::<u8>()), 0..8),
        cut in 0_usize..300,
    ) {
        let mut changed = cache(&[("liba.so.1", "/lib/liba.so.1"), ("libb.so", "/b")]);
        changed.processors.push("v3".into());
        changed.entries.push(Entry { processor: 1 << 62, ..entry("libb.so", "/v3/b") });
        let mut made = changed.write();
        for (at, byte) in changes {
            if let Some(place) = made.get_mut(at) {
                *place = byte;
            }
        }
        made.truncate(cut.max(60));
        let old = [b"ld.so-1.7.0\0".to_vec(), bytes.clone()].concat();
        for file in [bytes, old, made] {
            if let Ok(cache) = LoaderCache::parse(&file) {
                let again = LoaderCache::parse(&cache.write()).unwrap();
                prop_assert_eq!(again.len(), cache.len());
            }
        }
    }
}
