//! Files of logins, what credential helpers answer, and when a registry wants to be asked again.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../imgtool/src/registry/auth_file.rs"]
mod auth_file;
#[path = "../../imgtool/src/registry/credentials.rs"]
mod credentials;
#[path = "../../imgtool/src/registry/patience.rs"]
mod patience;

fuzz_target!(|bytes: &[u8]| {
    if let Some(mut file) = auth_file::AuthFile::parse(bytes) {
        let _ = (file.find("r.io", "a/b"), file.helper("r.io"), file.store());
        let login = credentials::Credentials::password("me".into(), "pw".into());
        if let Some(login) = login {
            file.put("r.io", &login);
            let again = auth_file::AuthFile::parse(&file.bytes());
            assert!(again.and_then(|file| file.find("r.io", "")) == Some(login));
        }
        assert!(file.remove("r.io") && file.find("r.io", "").is_none());
    }
    let _ = credentials::Credentials::from_helper(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = patience::Asked::of(|_| Some(text)).words();
    }
});
