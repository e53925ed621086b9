//! `shifter.toml`, and what an image says of itself.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use udi::{Config, ImageInfo};

fuzz_target!(|text: &str| {
    if let Err(error) = Config::parse(text, Path::new("/etc/shifter/shifter.toml")) {
        // Whoever made the mistake learns where.
        assert!(error.what().contains("shifter.toml"), "{error:?}");
    }
    if let Ok(info) = serde_json::from_str::<ImageInfo>(text) {
        assert!(info.variables().all(
            |(name, value)| !name.is_empty() && !(name.contains('\0') || value.contains('\0'))
        ));
    }
});
