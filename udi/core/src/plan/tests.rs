use super::*;
use crate::{Ask, Texts, Word};
use std::path::Path;

fn user(uid: u32) -> User {
    User {
        uid,
        gid: 1001,
        groups: vec![1001],
        login: "alice".into(),
        gecos: String::new(),
        home: "/home/alice".into(),
        shell: "/bin/sh".into(),
        group_names: vec![],
        others: vec![],
    }
}

fn plan(uid: u32) -> Result<Plan> {
    plan_of(uid, "/scratch/me:/data:ro", "", "")
}

fn plan_of(uid: u32, volumes: &str, writable: &str, more: &str) -> Result<Plan> {
    let text = format!(
        "{more}
            [store]
            path = \"/shared/shifter\"
            [etc]
            copy = [\"/etc/hosts\"]
            [[mount]]
            from = \"/home\"
            [modules.mpich]
            [[modules.mpich.mount]]
            from = \"/opt/mpich/lib\"
            to = \"/opt/site/mpich\"
            read_only = true
        "
    );
    let site = Config::parse(&text, Path::new("shifter.toml"))?;
    let mut texts = Texts::of("x:1", volumes, "mpich");
    texts.set(Word::Writable, Some(writable.into()));
    let Ask::Image(request) = Request::parse(&texts, &site)? else { panic!("no request") };
    let digest = Digest::from_bytes(&[1; 32]);
    let (request, image) = (request.pinned(&digest), Base::Store(digest));
    let variables = BTreeMap::from([("BB".into(), "/mnt/bb/7".into())]);
    let facts = Facts { image, user: user(uid), variables };
    Plan::make(&request, &site, &facts)
}

#[test]
fn the_plan_reads_like_a_mount_table() {
    let expected = "
TARGET              SOURCE             TYPE   OPTIONS               BECAUSE OF
/                   store              image  ro                    --image=docker:docker.io/library/x:1@sha256:DIGEST
/etc/passwd         made               file   -                     every image
/etc/group          made               file   -                     every image
/etc/nsswitch.conf  made               file   -                     every image
/etc/hosts          /etc/hosts         file   optional              every image
/proc               /proc              bind   rec,slave             every image
/sys                /sys               bind   rec,slave             every image
/dev                /dev               bind   dev,rec,slave         every image
/tmp                /tmp               bind   rec,slave,optional    every image
/var/tmp            /var/tmp           bind   rec,slave,optional    every image
/var/spool/slurmd   /var/spool/slurmd  bind   rec,slave,optional    every image
/home               /home              bind   rec,slave             site
/opt/site/mpich     /opt/mpich/lib     bind   ro,rec,slave          --module=mpich
/data               /scratch/me        bind   ro,rec,slave,as-user  --volume=/scratch/me:/data:ro
"
        .trim_start()
        .replace("DIGEST", &"01".repeat(32));
    assert_eq!(plan(1001).unwrap().to_string(), expected);
}

#[test]
fn what_the_site_arranges_and_what_a_volume_is_made_of_stand_in_the_table() {
    let site = "
            [inside]
            tmp = \"tmpfs=1G\"
            var_tmp = \"host\"
            home = \"mount\"
            [etc.replace]
            \"/etc/group\" = \"/etc/shifter/group\"
            [cache]
            directories = [\"/local/caches\", \"/scratch/.caches\"]
            [volumes]
            variables = [\"BB*\"]
            [limits]
            tmpfs = \"2G\"
        ";
    let digest = "02".repeat(32);
    let volumes = format!(
        "$BB/in:/in;none:/m:tmpfs=size=1G;/scratch/me:/c:perNodeCache=size=1T;\
             none:/d:perNodeCache=size=1M,fs=ext4;data@sha256:{digest}:/x:squashfs"
    );
    let table = plan_of(1001, &volumes, "1G", site).unwrap().to_string();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = table.lines().map(words).collect();
    for line in [
        "/ size=1G tmpfs rw,over-the-image --image-writable=1G",
        "/etc/group /etc/shifter/group file - every image",
        "/tmp size=1G tmpfs rec,slave every image",
        "/var/tmp /var/tmp bind rec,slave,optional every image",
        "/home/alice /home/alice bind rec,slave,optional,as-user site",
        "/in /mnt/bb/7/in bind rec,slave,as-user --volume=${BB}/in:/in",
        "/m size=1G tmpfs - --volume=none:/m:tmpfs=size=1G",
        "/c size=1T in /scratch/.caches xfs - --volume=/scratch/me:/c:perNodeCache=size=1T",
        "/d size=1M in /local/caches ext4 - --volume=none:/d:perNodeCache=size=1M,fs=ext4",
        &format!(
            "/x store image ro,as-user \
                 --volume=docker:docker.io/library/data@sha256:{digest}:/x:squashfs"
        ),
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}\nis not in\n{table}");
    }
    assert_eq!(lines.iter().filter(|line| line.contains("/etc/group")).count(), 1);
    let unset = plan_of(1001, "$BBX:/in", "", site).unwrap_err();
    assert!(unset.what().contains("BBX is not set in the job's environment"), "{unset}");
}

#[test]
fn a_symlink_of_the_image_cannot_lead_a_volume_to_a_protected_place() {
    let plan = plan(1001).unwrap();
    let volume = plan.mounts.last().unwrap();
    let place = |path| GuestPath::parse(path).unwrap();
    for bad in ["/etc", "/etc/ssl", "/", "/home/alice"] {
        assert!(plan.check_target(volume, &place(bad)).is_err(), "{bad}");
    }
    plan.check_target(volume, &place("/data")).unwrap();
    plan.check_target(&plan.mounts[0], &place("/proc")).unwrap();
}

#[test]
fn root_is_refused_unless_the_site_allows_it() {
    assert_eq!(plan(0).unwrap_err().blame(), crate::Blame::User);
}

#[test]
fn what_the_loader_finds_stands_below_the_mounts() {
    let mut plan = plan(1001).unwrap();
    let (module, directory) = ("gpu".to_owned(), GuestPath::parse("/opt/gpu/lib").unwrap());
    plan.glibc = Some(module.clone());
    plan.libraries = vec![Replacement {
        from: "/opt/mpi/libmpi.so.12".into(),
        optional: true,
        module: module.clone(),
    }];
    plan.ldcache = vec![Ldcache { directory, module }];
    let table = plan.to_string();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let last: Vec<String> = table.lines().rev().take(3).map(words).collect();
    assert_eq!(
        last,
        [
            "/etc/ld.so.cache /opt/gpu/lib ldcache - --module=gpu",
            "glibc the host's, if newer library - --module=gpu",
            "libmpi.so.12 /opt/mpi/libmpi.so.12 library optional --module=gpu",
        ]
    );
}
