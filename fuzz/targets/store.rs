//! Files of the image store, which a node reads as root.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;
use udi::Digest;

#[path = "../../udi/store/src/acl.rs"]
mod acl;
#[path = "../../udi/store/src/manifest.rs"]
mod manifest;
#[path = "../../udi/store/src/reference.rs"]
mod reference;

use acl::{Acl, Principal};

fuzz_target!(|bytes: &[u8]| {
    let digest = Digest::from_bytes(&[0; 32]);
    if let Ok(manifest) = manifest::Manifest::parse(bytes, &digest)
        && let Some(packed) = manifest.preferred()
    {
        let path = manifest::image_path(&packed.id, &packed.format);
        assert!(!path.contains("..") && !path.starts_with('/'), "{path}");
    }
    let _ = reference::Reference::parse(bytes, "fuzz");
    if let Some(list) = Acl::decode(bytes) {
        let _ = list.readers();
        let _ = list.may_read(1, 1, Principal { uid: 2, groups: &[2, 3] });
    }
});
