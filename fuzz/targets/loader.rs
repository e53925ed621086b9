//! What an image says to its dynamic loader: `/etc/ld.so.cache`, and ELF files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use udi::{Elf, LdcacheEntry, LoaderCache};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut cache) = LoaderCache::parse(bytes) {
        let first = LdcacheEntry::new("libmpi.so.12".into(), "/opt/libmpi.so.12".into(), 0x303);
        cache.put(vec![first]);
        let written = cache.write();
        let again = LoaderCache::parse(&written).expect("what was written can be read");
        assert_eq!(again.len(), cache.len());
        assert_eq!(again.write(), written);
        let found: Vec<&str> = again.find("libmpi.so.12", 0x303).collect();
        assert_eq!(found, ["/opt/libmpi.so.12"]);
    }
    if let Some(elf) = Elf::read(bytes) {
        let names = elf.soname().into_iter().chain(elf.needed()).chain(elf.defines());
        let needs = elf.needs().into_iter().flat_map(|need| [need.of, need.version]);
        assert!(names.chain(needs).all(|name| !name.is_empty() && !name.contains('/')));
        let _ = (elf.search_path(), elf.machine(), elf.symbols());
    }
});
