//! A request as options and the job environment carry it.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use udi::{Ask, Config, Request, Texts, Volume, Word};

static SITE: LazyLock<Config> = LazyLock::new(|| {
    let text = include_str!("../../slurm-conf-examples/shifter.toml")
        .replace("variables = []", "variables = [\"A\", \"B*\"]")
        .replace("directories = []", "directories = [\"/local/caches\"]")
        .replace("local = []", "local = [\"/local\"]")
        .replace("batch = \"never\"", "batch = \"ask\"");
    Config::parse(&text, Path::new("example")).expect("the example is right")
});

fuzz_target!(|text: &str| {
    let _ = Volume::parse_list(text, &SITE);
    let mut texts = Texts::default();
    for (word, part) in Word::ALL.into_iter().zip(text.splitn(Word::ALL.len(), '\n')) {
        texts.set(word, Some(part.to_owned()));
    }
    if let Ok(Ask::Image(request)) = Request::parse(&texts, &SITE) {
        // What a node reads is what the user asked for.
        let again = Request::parse(&request.to_texts(), &SITE);
        assert_eq!(again.ok(), Some(Ask::Image(request.clone())));
        // A name never leads out of the store's directory of references.
        let path = request.image().ref_path().unwrap_or_default();
        assert!(
            !path.starts_with('/') && !path.split('/').any(|part| matches!(part, "." | "..")),
            "{path}"
        );
        for volume in request.volumes() {
            assert!(!volume.to.components().any(|part| matches!(part, "" | "." | "..")));
        }
    }
});
