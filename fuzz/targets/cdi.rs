//! A spec of devices, as a vendor's tool writes it: YAML or JSON, then what it means for a job.
#![no_main]

use libfuzzer_sys::fuzz_target;
use udi::cdi::{DeviceName, Devices, Found};

fuzz_target!(|text: &str| {
    let _ = DeviceName::parse(text);
    let Ok(spec) = udi_mount::parse_spec(text) else { return };
    let names: Vec<DeviceName> = spec
        .devices
        .iter()
        .filter_map(|device| DeviceName::parse(&format!("{}={}", spec.kind, device.name)).ok())
        .collect();
    let specs = [Found { file: "/etc/cdi/a.yaml".into(), directory: 0, spec }];
    match Devices::of(&names, &[], &specs) {
        Ok(devices) => {
            let inside = devices.mounts.iter().map(|mount| &mount.to);
            let places = inside.chain(devices.links.iter().map(|(place, _)| place));
            for place in places.chain(&devices.libraries) {
                assert!(place.as_str().starts_with('/') && !place.components().any(|c| c == ".."));
            }
            assert!(devices.mounts.iter().all(|mount| mount.from.is_absolute()));
            assert!(devices.nodes.iter().all(|node| node.starts_with("/dev")
                || node.starts_with("/proc")
                || node.starts_with("/sys")));
        }
        // Whoever wrote it learns in which file.
        Err(error) => assert!(error.what().contains("/etc/cdi/a.yaml"), "{error:?}"),
    }
});
