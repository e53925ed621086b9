use super::*;
use crate::{Ask, Config, Request, Texts};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

/// As `nvidia-ctk cdi generate` writes it, made shorter: version 1.17 and later.
fn nvidia() -> Spec {
    let hook = |args: &[&str]| {
        let mut all = vec!["nvidia-cdi-hook"];
        all.extend(args);
        let path = "/usr/bin/nvidia-cdi-hook";
        json!({ "hookName": "createContainer", "path": path, "args": all, "env": ["NVIDIA_CTK_DEBUG=false"] })
    };
    let gpu = |name: &str, nodes: &[&str]| {
        let nodes: Vec<_> = nodes.iter().map(|path| json!({ "path": path })).collect();
        let by_path = "../card1::/dev/dri/by-path/pci-0000:07:00.0-card";
        let hooks = [
            hook(&["create-symlinks", "--link", by_path]),
            hook(&["chmod", "--mode", "755", "--path", "/dev/dri"]),
        ];
        json!({ "name": name, "containerEdits": { "deviceNodes": nodes, "hooks": hooks } })
    };
    let library = |name: &str| {
        let path = format!("/usr/lib/x86_64-linux-gnu/{name}");
        let options = ["ro", "nosuid", "nodev", "rbind", "rprivate"];
        json!({ "hostPath": path, "containerPath": path, "options": options })
    };
    let socket = "/run/nvidia-persistenced/socket";
    let ipc = ["nosuid", "nodev", "rbind", "rprivate", "noexec"];
    spec(json!({
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            gpu("0", &["/dev/nvidia0"]),
            gpu("1", &["/dev/nvidia1"]),
            gpu("all", &["/dev/nvidia0", "/dev/nvidia1"]),
        ],
        "containerEdits": {
            "env": ["NVIDIA_CTK_LIBCUDA_DIR=/usr/lib/x86_64-linux-gnu", "NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [{ "path": "/dev/nvidiactl" }, { "path": "/dev/nvidia-uvm" }],
            "hooks": [
                hook(&["create-symlinks", "--link", "libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so"]),
                hook(&["enable-cuda-compat", "--host-driver-version=550.54.15"]),
                hook(&["update-ldcache", "--folder", "/usr/lib/x86_64-linux-gnu",
                       "--folder=/usr/lib/x86_64-linux-gnu/vdpau"]),
                hook(&["disable-device-node-modification"]),
                hook(&["update-application-profile"]),
            ],
            "mounts": [
                library("libcuda.so.550.54.15"),
                { "hostPath": socket, "containerPath": socket, "options": ipc },
            ],
        },
    }))
}

fn spec(value: serde_json::Value) -> Spec {
    serde_json::from_value(value).unwrap()
}

/// A spec with nothing but these edits.
fn edits(edits: serde_json::Value) -> Spec {
    let device = json!({ "name": "all", "containerEdits": edits });
    spec(json!({ "cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [device] }))
}

fn found(file: &str, directory: usize, spec: Spec) -> Found {
    Found { file: file.into(), directory, spec }
}

fn names(names: &[&str]) -> Vec<DeviceName> {
    names.iter().map(|name| DeviceName::parse(&format!("nvidia.com/gpu={name}")).unwrap()).collect()
}

fn of(asked: &[&str], spec: Spec) -> Result<Devices> {
    Devices::of(&names(asked), &[], &[found("/etc/cdi/nvidia.yaml", 0, spec)])
}

fn why_not(edits_of_it: serde_json::Value) -> String {
    of(&["all"], edits(edits_of_it)).unwrap_err().to_string()
}

#[test]
fn a_spec_as_nvidia_ctk_writes_it_becomes_mounts_links_variables_and_directories() {
    let devices = of(&["all"], nvidia()).unwrap();
    let place = |path: &str| GuestPath::parse(path).unwrap();
    let libraries = "/usr/lib/x86_64-linux-gnu";
    let mounts: Vec<_> =
        devices.mounts.iter().map(|m| (m.to.as_str(), m.read_only, m.slave, m.device)).collect();
    let cuda = format!("{libraries}/libcuda.so.550.54.15");
    let socket = "/run/nvidia-persistenced/socket";
    assert_eq!(mounts, [(cuda.as_str(), true, false, false), (socket, false, false, false)]);
    let link = place(&format!("{libraries}/libcuda.so"));
    // What is below /dev is the host's.
    assert_eq!(devices.links, [(link, "libcuda.so.1".to_owned())]);
    let vdpau = place(&format!("{libraries}/vdpau"));
    assert_eq!(devices.libraries, [place(libraries), vdpau]);
    let nodes: Vec<&str> = devices.nodes.iter().filter_map(|node| node.to_str()).collect();
    assert_eq!(nodes, ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1"]);
    assert!(devices.env.contains(&("NVIDIA_VISIBLE_DEVICES".into(), "void".into())));
}

#[test]
fn a_device_by_its_own_name_brings_its_own_nodes_and_what_all_have_once() {
    let one = of(&["1"], nvidia()).unwrap();
    assert!(one.nodes.contains(&"/dev/nvidia1".into()));
    assert!(!one.nodes.contains(&"/dev/nvidia0".into()));
    let both = of(&["0", "1", "1"], nvidia()).unwrap();
    let all = of(&["all"], nvidia()).unwrap();
    assert_eq!((&both.nodes, &both.mounts), (&all.nodes, &all.mounts));
    assert_eq!(both.env, all.env);
}

#[test]
fn a_device_node_elsewhere_is_mounted_and_works_as_one() {
    let path = "/run/driver/dev/nvidia0";
    let nodes = json!({ "deviceNodes": [
        { "path": "/dev/nvidia0", "hostPath": path, "type": "c", "major": 195, "minor": 0,
          "fileMode": 438, "permissions": "rw", "uid": 0, "gid": 0 },
        { "path": "/opt/channel0" },
    ] });
    let devices = of(&["all"], edits(nodes)).unwrap();
    let mounts: Vec<_> = devices
        .mounts
        .iter()
        .map(|m| (m.from.to_str().unwrap(), m.to.as_str(), m.device))
        .collect();
    let (first, second) = ((path, "/dev/nvidia0", true), ("/opt/channel0", "/opt/channel0", true));
    assert_eq!(mounts, [first, second]);
    assert!(devices.nodes.is_empty());
}

#[test]
fn of_two_specs_for_a_device_the_one_in_the_later_directory_counts() {
    let with = |value: &str| edits(json!({ "env": [format!("WHICH={value}")] }));
    let (old, new) =
        (found("/etc/cdi/a.json", 0, with("old")), found("/run/cdi/b", 1, with("new")));
    for specs in [[old.clone(), new.clone()], [new.clone(), old]] {
        let devices = Devices::of(&names(&["all"]), &[], &specs).unwrap();
        assert_eq!(devices.env, [("WHICH".to_owned(), "new".to_owned())]);
    }
    let same = found("/run/cdi/c", 1, with("other"));
    let error = Devices::of(&names(&["all"]), &[], &[new, same]).unwrap_err().to_string();
    assert!(error.contains("both /run/cdi/b and /run/cdi/c say what it is"), "{error}");
}

#[test]
fn a_device_that_is_not_there_is_told_with_those_that_are() {
    let error = of(&["7"], nvidia()).unwrap_err();
    assert_eq!(error.blame(), crate::Blame::Admin);
    let text = error.to_string();
    assert!(
        text.contains("nvidia.com/gpu=7: the specs of this node have only 0, 1, all"),
        "{text}"
    );
    let none = Devices::of(&names(&["all"]), &[], &[]).unwrap_err().to_string();
    assert!(none.contains("no spec of this node is for nvidia.com/gpu\nhint: "), "{none}");
    assert!(none.contains("nvidia-ctk cdi generate"), "{none}");
}

#[test]
fn a_hook_that_is_not_known_is_refused_by_name_unless_the_site_does_without_it() {
    let args = ["nvidia-cdi-hook", "bake-cake", "--flour", "1"];
    let path = "/usr/bin/nvidia-cdi-hook";
    let hooks = json!({ "hooks": [{ "hookName": "createContainer", "path": path, "args": args }] });
    let error = why_not(hooks.clone());
    assert!(error.contains("/etc/cdi/nvidia.yaml: the device all: hooks: bake-cake"), "{error}");
    assert!(error.contains("list \"bake-cake\" in the module's cdi_without"), "{error}");
    let specs = [found("/etc/cdi/nvidia.yaml", 0, edits(hooks))];
    Devices::of(&names(&["all"]), &["bake-cake".into()], &specs).unwrap();
    // Somebody else's program, whatever it is told.
    let args = ["x", "create-symlinks", "--link", "a::/b"];
    let hooks = json!([{ "hookName": "createRuntime", "path": "/opt/other/tool", "args": args }]);
    let error = why_not(json!({ "hooks": hooks }));
    assert!(error.contains("hooks: tool (/opt/other/tool) is not known here"), "{error}");
}

#[test]
fn the_older_tool_and_amds_say_the_same() {
    for tool in ["nvidia-ctk", "amd-ctk"] {
        let args = [tool, "hook", "create-symlinks", "--link", "a::/opt/b", "--link=c::/opt/d"];
        let path = format!("/usr/bin/{tool}");
        let hooks = json!([{ "hookName": "createContainer", "path": path, "args": args }]);
        let devices = of(&["all"], edits(json!({ "hooks": hooks }))).unwrap();
        let links: Vec<_> = devices.links.iter().map(|(l, t)| (l.as_str(), t.as_str())).collect();
        assert_eq!(links, [("/opt/b", "a"), ("/opt/d", "c")]);
    }
}

#[test]
fn what_cannot_be_done_for_a_job_is_refused_in_words() {
    let mount = |more: serde_json::Value| {
        let mut mount = json!({ "hostPath": "/a", "containerPath": "/b" });
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "mounts": [mount] })
    };
    for (edits, words) in [
        (json!({ "additionalGids": [44] }), "the user's groups, and no others"),
        (json!({ "intelRdt": { "closID": "x" } }), "caches are Slurm's"),
        (json!({ "netDevices": [{ "hostInterfaceName": "a", "name": "b" }] }), "host's network"),
        (json!({ "env": ["NOTHING"] }), "env: NOTHING: not NAME=VALUE"),
        (mount(json!({ "type": "tmpfs" })), "mounts: /b: a mount of the type tmpfs"),
        (mount(json!({ "options": ["rbind", "suid"] })), "the option suid is not known"),
        (mount(json!({ "hostPath": "a" })), "mounts: /b: a: a path"),
        (mount(json!({ "containerPath": "/../b" })), "must not contain .."),
        (json!({ "deviceNodes": [{ "path": "nvidia0" }] }), "must start with /"),
    ] {
        let error = why_not(edits);
        assert!(error.contains(words), "{error}");
    }
    of(&["all"], edits(json!({ "additionalGids": [0] }))).unwrap();
}

#[test]
fn two_devices_that_want_different_things_in_one_place_are_refused() {
    let mount = |from: &str| json!({ "hostPath": from, "containerPath": "/b" });
    let error = why_not(json!({ "mounts": [mount("/a"), mount("/c")] }));
    assert!(error.contains("both /a and /c would be at /b"), "{error}");
}

#[test]
fn versions_and_keys_that_nobody_knows_are_refused() {
    for (version, fine) in [
        ("0.3.0", true),
        ("v0.8.0", true),
        ("1.1.0", true),
        ("0.2.0", false),
        ("2.0.0", false),
        ("", false),
    ] {
        let spec = Spec { cdi_version: version.into(), ..nvidia() };
        assert_eq!(spec.check().is_ok(), fine, "{version}");
    }
    let odd = json!({ "cdiVersion": "0.5.0", "kind": "a/b", "devices": [], "colour": 1 });
    assert!(serde_json::from_value::<Spec>(odd).is_err());
    assert!(Spec { devices: vec![], ..nvidia() }.check().is_err());
}

#[test]
fn names_of_devices() {
    for good in ["nvidia.com/gpu=all", "amd.com/gpu=0", "nvidia.com/gpu=GPU-8f:1", "a/b=0:1"] {
        assert_eq!(DeviceName::parse(good).unwrap().to_string(), good);
    }
    for bad in ["", "gpu", "nvidia.com/gpu", "nvidia.com=all", "a/b=", "a/=c", "a/b=.", "a/b/c=d"] {
        assert!(DeviceName::parse(bad).unwrap_err().contains("not VENDOR/CLASS=DEVICE"), "{bad}");
    }
}

/// The plan of a job with a module `gpu`, whose specs were read or not, and its variables.
fn job_with(devices: Option<Devices>) -> (crate::Plan, BTreeMap<String, String>) {
    let text = "[store]\npath = \"/x\"\n[modules.gpu]\ncdi = [\"nvidia.com/gpu=all\"]
                env.set = { NVIDIA_VISIBLE_DEVICES = \"site\" }";
    let mut site = Config::parse(text, Path::new("shifter.toml")).unwrap();
    devices.into_iter().for_each(|devices| site.modules.get_mut("gpu").unwrap().bring(devices));
    let Ask::Image(request) = Request::parse(&Texts::of("x:1", "", "gpu"), &site).unwrap() else {
        panic!("no request")
    };
    let digest = crate::Digest::from_bytes(&[1; 32]);
    let (request, image) = (request.pinned(&digest), crate::Base::Store(digest));
    let user = crate::User {
        uid: 1001,
        gid: 1001,
        groups: vec![1001],
        login: "alice".into(),
        gecos: String::new(),
        home: "/home/alice".into(),
        shell: "/bin/sh".into(),
        group_names: vec![],
        others: vec![],
    };
    let facts = crate::Facts { image, user, variables: BTreeMap::new() };
    let plan = crate::Plan::make(&request, &site, &facts).unwrap();
    (plan, site.modules["gpu"].env.set.clone())
}

/// The lines of a plan because of the module, without the blanks between columns.
fn lines(plan: &crate::Plan) -> Vec<String> {
    let table = plan.to_string();
    let ours = table.lines().filter(|line| line.ends_with("--module=gpu"));
    ours.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_plan_shows_what_a_module_brings_and_the_environment_has_it() {
    let (plan, environment) = job_with(Some(of(&["0"], nvidia()).unwrap()));
    let libraries = "/usr/lib/x86_64-linux-gnu";
    let cuda = format!("{libraries}/libcuda.so.550.54.15");
    let expected = [
        format!("{libraries}/libcuda.so libcuda.so.1 link - --module=gpu"),
        "/dev/nvidiactl /dev/nvidiactl device - --module=gpu".into(),
        "/dev/nvidia-uvm /dev/nvidia-uvm device - --module=gpu".into(),
        "/dev/nvidia0 /dev/nvidia0 device - --module=gpu".into(),
        format!("{cuda} {cuda} bind ro,rec --module=gpu"),
        "/run/nvidia-persistenced/socket /run/nvidia-persistenced/socket bind rec --module=gpu"
            .into(),
        format!("/etc/ld.so.cache {libraries} ldcache - --module=gpu"),
        format!("/etc/ld.so.cache {libraries}/vdpau ldcache - --module=gpu"),
    ];
    assert_eq!(lines(&plan), expected);
    // No volume of the user's hides it.
    assert!(plan.protected.iter().any(|place| place.as_str() == cuda));
    assert_eq!(environment["NVIDIA_CTK_LIBCUDA_DIR"], libraries);
    // The site's own word is the last.
    assert_eq!(environment["NVIDIA_VISIBLE_DEVICES"], "site");
}

#[test]
fn where_nobody_read_the_specs_the_plan_names_the_devices() {
    let (plan, _) = job_with(None);
    assert_eq!(lines(&plan), ["- nvidia.com/gpu=all cdi of-the-node --module=gpu"]);
}

#[test]
fn nonsense_in_a_module_is_named_with_its_line() {
    let text = "[store]\npath = \"/x\"\n[modules.gpu]\ncdi = [\"gpu\"]";
    let error = Config::parse(text, Path::new("shifter.toml")).unwrap_err().what();
    assert!(error.contains("shifter.toml:4:"), "{error}");
    assert!(error.contains("gpu: not VENDOR/CLASS=DEVICE, as in nvidia.com/gpu=all"), "{error}");
    let text = "[store]\npath = \"/x\"\n[node]\ncdi = [\"cdi\"]";
    let error = Config::parse(text, Path::new("shifter.toml")).unwrap_err().what();
    assert!(error.contains("node.cdi: cdi: not an absolute path"), "{error}");
}

proptest! {
    #[test]
    fn no_hook_is_a_crash_and_no_link_leaves_the_image(
        path in "(/[a-z]{0,3}){0,2}/(nvidia-cdi-hook|nvidia-ctk|amd-ctk|x)",
        args in prop::collection::vec(
            "nvidia-ctk|hook|create-symlinks|update-ldcache|chmod|--link|--folder|[-=:./a-z]{0,12}|\\PC{0,6}", 0..6,
        ),
    ) {
        let hook = json!({ "hookName": "createContainer", "path": path, "args": args });
        if let Ok(devices) = of(&["all"], edits(json!({ "hooks": [hook] }))) {
            for place in devices.links.iter().map(|(place, _)| place).chain(&devices.libraries) {
                prop_assert!(place.as_str().starts_with('/'));
                prop_assert!(!place.components().any(|part| part == ".."));
            }
        }
    }
}
