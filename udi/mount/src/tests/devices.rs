//! Devices as their vendors describe them.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{CWD, FileType, Mode};

use super::world::*;

const SITE: &str = "cdi = [\"/srv/cdi\", \"/srv/later\"]
    [modules.gpu]\ncdi = [\"nvidia.com/gpu=all\"]";

/// A node with a GPU, which gives zeros: its spec, and the files that the spec names.
fn on_a_node_with_a_gpu(test: impl FnOnce(&World) + Send) {
    on_a_node(|world| {
        world.directory("cdi");
        world.directory("driver");
        world.file("driver/libcuda.so.550.54", "the driver's");
        let (zero, mode) = (rustix::fs::makedev(1, 5), Mode::from_raw_mode(0o666));
        let device = world.at("driver/gpu0");
        rustix::fs::mknodat(CWD, device.as_str(), FileType::CharacterDevice, mode, zero).unwrap();
        std::fs::set_permissions(&device, std::fs::Permissions::from_mode(0o666)).unwrap();
        spec(world, "nvidia.yaml", "/dev/zero");
        test(world);
    });
}

fn spec(world: &World, name: &str, node: &str) {
    let text = format!(
        "cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: all
  containerEdits:
    deviceNodes:
    - path: {node}
    - path: /opt/gpu0
      hostPath: /srv/driver/gpu0
containerEdits:
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, create-symlinks, --link, 'libcuda.so.1::/lib/libcuda.so']
  mounts:
  - hostPath: /srv/driver/libcuda.so.550.54
    containerPath: /lib/libcuda.so.550.54
    options: [ro, nosuid, nodev, rbind, rprivate]
"
    );
    world.file(&format!("cdi/{name}"), &text);
}

fn job(image: &Image) -> Job<'_> {
    Job { site: SITE, module: "gpu", ..Job::new(image) }
}

fn refused(world: &World) -> String {
    world.stage(job(&Image::plain())).unwrap_err().to_string()
}

#[test]
#[ignore = "needs root"]
fn a_module_brings_files_links_and_device_nodes_that_work_to_where_the_spec_says() {
    on_a_node_with_a_gpu(|world| {
        // The image's own are not the driver's.
        let image =
            Image::plain().file("/usr/lib/libown.so", "own").link("/usr/lib/libcuda.so", "old");
        let udi = world.stage(job(&image)).unwrap();
        as_rank(&udi, ALICE, || {
            let read = |path: &str| std::fs::read_to_string(path).unwrap();
            assert_eq!(read("/usr/lib/libcuda.so.550.54"), "the driver's");
            assert_eq!(read("/lib/libown.so"), "own");
            let link = std::fs::read_link("/lib/libcuda.so").unwrap();
            assert_eq!(link.to_str(), Some("libcuda.so.1"));
            let mut byte = [1];
            std::fs::File::open("/opt/gpu0").unwrap().read_exact(&mut byte).unwrap();
            assert_eq!(byte, [0]);
            let table = read("/proc/thread-self/mountinfo");
            let options = |point: &str| {
                let line =
                    table.lines().find(|line| line.split(' ').nth(4) == Some(point)).unwrap();
                line.split(' ').nth(5).unwrap().to_owned()
            };
            assert!(options("/usr/lib/libcuda.so.550.54").starts_with("ro,nosuid,nodev"));
            assert!(
                !options("/opt/gpu0").contains("nodev") && options("/opt/gpu0").contains("nosuid")
            );
        });
    });
}

#[test]
#[ignore = "needs root"]
fn a_library_is_found_by_its_soname_as_if_ldconfig_had_run() {
    on_a_node_with_a_gpu(|world| {
        // Any library of the machine's will do.
        let (soname, library) = ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6");
        std::fs::copy(library, world.at("driver/libcuda.so.550.54")).unwrap();
        let text = std::fs::read_to_string(world.at("cdi/nvidia.yaml")).unwrap();
        let hooks = "  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, update-ldcache, --folder, /lib]
";
        world.file("cdi/nvidia.yaml", &text.replacen("  hooks:\n", hooks, 1));
        // The image's own is of another driver.
        let old = format!("/usr/lib/{soname}");
        let image =
            Image::plain().link(&old, "libcuda.so.535.1").file("/usr/lib/libcuda.so.535.1", "old");
        let udi = world.stage(job(&image)).unwrap();
        as_rank(&udi, ALICE, || {
            let link = std::fs::read_link(&old).unwrap();
            assert_eq!(link.to_str(), Some("libcuda.so.550.54"));
            assert!(std::fs::read(&old).unwrap().len() > 100_000);
            assert_eq!(std::fs::read_to_string("/lib/libcuda.so.535.1").unwrap(), "old");
        });
    });
}

#[test]
#[ignore = "needs root"]
fn jobs_that_did_not_ask_see_nothing_of_it_also_where_a_spec_is_broken() {
    on_a_node_with_a_gpu(|world| {
        world.file("cdi/other.json", "{");
        let image = Image::plain();
        let udi = world.stage(Job { module: "", ..job(&image) }).unwrap();
        as_rank(&udi, ALICE, || assert!(!std::fs::exists("/lib/libcuda.so.550.54").unwrap()));
        // Nor does another vendor's fault matter to those who asked.
        world.stage(Job { id: 2, ..job(&image) }).unwrap();
        std::fs::remove_file(world.at("cdi/nvidia.yaml")).unwrap();
        let error = world.stage(Job { id: 3, ..job(&image) }).unwrap_err().to_string();
        assert!(error.starts_with("--module=gpu: /srv/cdi/other.json: "), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_spec_that_others_than_root_could_have_written_is_refused() {
    on_a_node_with_a_gpu(|world| {
        world.own("cdi/nvidia.yaml", 0, 0o666);
        let error = refused(world);
        assert!(error.contains("others than root can write it\nhint: chmod go-w"), "{error}");
        world.own("cdi/nvidia.yaml", ALICE, 0o644);
        assert!(refused(world).contains("belongs to uid 1001"));
        world.own("cdi/nvidia.yaml", 0, 0o644);
        world.own("cdi", 0, 0o1777);
        assert!(refused(world).contains("others than root can write it"));
    });
}

#[test]
#[ignore = "needs root"]
fn a_node_without_the_device_says_which_and_what_to_do() {
    on_a_node_with_a_gpu(|world| {
        spec(world, "nvidia.yaml", "/dev/nvidia-none");
        let error = refused(world);
        assert!(error.contains("--module=gpu: no device /dev/nvidia-none: "), "{error}");
        assert!(error.contains("hint: load the driver on this node"), "{error}");
        spec(world, "nvidia.yaml", "/dev/pts");
        assert!(refused(world).contains("/dev/pts is not a device"));
    });
}

#[test]
#[ignore = "needs root"]
fn what_is_wrong_with_the_devices_own_spec_is_told_whatever_is_wrong_with_others() {
    on_a_node_with_a_gpu(|world| {
        world.file("cdi/broken.json", "[");
        let image = Image::plain();
        world.stage(job(&image)).unwrap();
        let text = std::fs::read_to_string(world.at("cdi/nvidia.yaml")).unwrap();
        world.file("cdi/nvidia.yaml", &text.replace("create-symlinks", "start-a-daemon"));
        assert!(refused(world).contains("start-a-daemon"), "{}", refused(world));
        // The broken one may be that of the device.
        std::fs::remove_file(world.at("cdi/nvidia.yaml")).unwrap();
        assert!(refused(world).contains("broken.json"), "{}", refused(world));
    });
}

#[test]
#[ignore = "needs root"]
fn a_place_below_dev_that_the_node_lacks_is_not_the_images_fault() {
    on_a_node_with_a_gpu(|world| {
        let text = std::fs::read_to_string(world.at("cdi/nvidia.yaml")).unwrap();
        world.file("cdi/nvidia.yaml", &text.replace("/opt/gpu0", "/dev/no-gpu0"));
        let error = world.stage(job(&Image::plain())).unwrap_err();
        assert_eq!(error.blame(), udi::Blame::Admin, "{error}");
        assert!(error.to_string().contains("/dev/no-gpu0 does not exist there"), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn where_devices_work_no_directory_is_mounted() {
    on_a_node_with_a_gpu(|world| {
        std::fs::remove_file(world.at("driver/gpu0")).unwrap();
        world.directory("driver/gpu0");
        let error = refused(world);
        assert!(error.contains("--module=gpu: /srv/driver/gpu0 is not a device"), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_file_of_an_older_driver_is_told_by_its_line_of_the_plan() {
    on_a_node_with_a_gpu(|world| {
        std::fs::remove_file(world.at("driver/libcuda.so.550.54")).unwrap();
        let error = refused(world);
        assert!(error.contains("cannot open /srv/driver/libcuda.so.550.54"), "{error}");
        assert!(error.contains("[--module=gpu]"), "{error}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_directory_of_the_images_is_not_hidden_by_a_link() {
    on_a_node_with_a_gpu(|world| {
        let image = Image::plain().directory("/usr/lib/libcuda.so", 0o755);
        let error = world.stage(job(&image)).unwrap_err();
        assert_eq!(error.blame(), udi::Blame::User);
        assert!(
            error.to_string().contains("a directory is in the way inside the image"),
            "{error}"
        );
    });
}
