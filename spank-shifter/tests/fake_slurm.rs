//! The release plugin in a fake Slurm: what it exports, what it says, and what no fault of ours may
//! do to a job that did not ask for an image.

#[path = "../../bindgen/tests/fake_slurm/mod.rs"]
mod fake_slurm;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use fake_slurm::{Told, exported, plugin, run, run_as, run_at_site};

fn shifter() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| plugin(&["--package", "spank-shifter"], "libshifter.so"))
}

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const RANKS: &str = "\
    rank 0 task_init_privileged task_init\n\
    rank 1 task_init_privileged task_init\n";
/// A site whose image store is not there.
const NO_STORE: &str = "[store]\npath = \"/nonexistent/store\"\nowner = \"0\"\n";
const BROKEN: &str = "[store]\npath = 7\n";

/// A step of two ranks, by alice, with `environment`.
fn step(site: &str, environment: &[&str]) -> Told {
    step_on(site, environment, &[])
}

fn step_on(site: &str, environment: &[&str], process: &[(&str, &str)]) -> Told {
    let env: String = environment.iter().map(|v| format!("env {v}\n")).collect();
    let script = format!(
        "context remote\nitem uid 1000\nitem gid 1000\nitem job 7\nitem step 0\nitem tasks 2\n\
         {env}load\ncall init\ncount\ncall init_post_opt\n{RANKS}count\ncall exit\n"
    );
    run_at_site(site, shifter(), script, process)
}

fn counts(told: &Told) -> Vec<&str> {
    told.0.lines().filter(|line| line.ends_with(" mounts")).collect()
}

fn mounts(count: &str) -> Option<u32> {
    count.split(' ').nth(2)?.parse().ok()
}

/// The ranks fail and say `why` once; nothing else fails.
#[track_caller]
fn fails_in_the_ranks(told: &Told, why: &str) {
    told.says("init = 0")
        .says("init_post_opt = 0")
        .tells_the_user_once("shifter", why)
        .says("rank 0: exit 1")
        .says("rank 1: exit 1");
}

#[track_caller]
fn is_unaffected(told: &Told) {
    told.says("rank 0: exit 0").says("rank 1: exit 0").never_says("= -1").never_says("user:");
}

#[test]
fn nothing_but_the_hooks_in_use_is_exported() {
    let expected = [
        "plugin_name",
        "plugin_type",
        "plugin_version",
        "slurm_spank_exit",
        "slurm_spank_init",
        "slurm_spank_init_post_opt",
        "slurm_spank_job_epilog",
        "slurm_spank_task_init",
        "slurm_spank_task_init_privileged",
    ];
    assert_eq!(exported(shifter()), expected);
}

#[test]
fn it_loads_into_every_release_of_slurm() {
    for (api, release) in [("38", "22.05"), ("42", "24.11"), ("45", "26.05"), ("46", "26.11")] {
        run(shifter(), "context local\nload\n", &[("FAKE_API", api)])
            .says(&format!("loaded shifter spank {release}"));
    }
}

#[test]
fn commands_get_our_options_and_pyxis_where_the_site_says_so() {
    let options = [
        "image",
        "volume",
        "module",
        "image-writable",
        "image-batch",
        "image-entrypoint",
        "image-workdir",
        "image-dry-run",
    ];
    let theirs = ["container-image", "container-mounts", "container-workdir"];
    for context in ["local", "allocator"] {
        let told = run(shifter(), format!("context {context}\nload\ncall init\n"), &[]);
        for option in options {
            told.says(&format!("option --{option}"));
        }
        told.says_times(options.len(), "option --");
        let script = format!("context {context}\narg container-options\nload\ncall init\n");
        let told = run(shifter(), script, &[]);
        for option in theirs {
            told.says(&format!("option --{option}"));
        }
        told.says_times(options.len() + theirs.len(), "option --").says("init = 0");
    }
}

#[test]
fn an_argument_in_plugstack_conf_that_means_nothing_hurts_only_jobs_with_an_image() {
    let start = "context local\narg contaner-options\nload\ncall init\n";
    run(shifter(), format!("{start}call init_post_opt\n"), &[])
        .says("init_post_opt = 0")
        .never_says("user:");
    run(shifter(), format!("{start}give image=a:1\ncall init_post_opt\n"), &[])
        .says("user: shifter: plugstack.conf: contaner-options: shifter.so has no such argument")
        .says("init_post_opt = -1");
}

#[test]
fn a_command_without_an_option_needs_no_site() {
    for context in ["local", "allocator"] {
        let script = format!("context {context}\nload\ncall init\ncall init_post_opt\n");
        run(shifter(), script, &[]).says("init_post_opt = 0").never_says("user:");
    }
}

#[test]
fn what_an_image_says_of_itself_is_no_default_of_a_command_in_it() {
    let inside =
        [("SHIFTER_RUNTIME", "1"), ("SHIFTER_IMAGE", DIGEST), ("SHIFTER_IMAGEREQUEST", "a")];
    for context in ["local", "allocator"] {
        let show = "load\ncall init\ncall init_post_opt\nshow env SLURM_SHIFTER_IMAGE\n\
                    show env SHIFTER_RUNTIME\nshow env SHIFTER_IMAGE\nshow env SHIFTER_IMAGEREQUEST\n";
        run(shifter(), format!("context {context}\n{show}"), &inside)
            .says("init_post_opt = 0")
            .says_times(4, "env ")
            .says("env SLURM_SHIFTER_IMAGE=(unset)")
            .says("env SHIFTER_RUNTIME=(unset)")
            .says("env SHIFTER_IMAGE=(unset)")
            .says("env SHIFTER_IMAGEREQUEST=(unset)");
    }
}

#[test]
fn salloc_is_known_where_it_brings_its_own_loader() {
    let script = "context allocator\nload\ncall init\ngive image=a:1\ngive image-batch=\ncall init_post_opt\n";
    run_as("/opt/slurm/bin/salloc", shifter(), script)
        .says("user: shifter: --image-batch: salloc has no batch script")
        .says("init_post_opt = -1");
}

#[test]
fn a_nested_sbatch_does_not_inherit_and_a_nested_srun_does() {
    let image = format!("SLURM_SHIFTER_IMAGE=docker:r/a:1@{DIGEST}");
    let environment: Vec<_> =
        [("SLURM_JOB_ID", "7")].into_iter().chain(image.split_once('=')).collect();
    let show = "load\ncall init\ncall init_post_opt\nshow env SLURM_SHIFTER_IMAGE\n";
    run(shifter(), format!("context allocator\n{show}"), &environment)
        .says("init_post_opt = 0")
        .says("env SLURM_SHIFTER_IMAGE=(unset)");
    run(shifter(), format!("context local\n{show}"), &environment)
        .says("init_post_opt = 0")
        .says(&format!("env {image}"));
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_step_without_an_image_opens_and_mounts_nothing() {
    for site in [NO_STORE, BROKEN] {
        let told = step(site, &["PATH=/bin"]);
        is_unaffected(&told);
        let counts = counts(&told);
        assert!(matches!(counts[..], [before, after] if before == after), "{counts:?}");
    }
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_broken_site_fails_the_ranks_that_asked_and_no_other() {
    let image = format!("SLURM_SHIFTER_IMAGE=docker:r.site/a:1@{DIGEST}");
    let told = step(BROKEN, &[&image]);
    fails_in_the_ranks(&told, "/etc/shifter/shifter.toml:2:8:");
    told.says("user: shifter: This is a site problem").says("error: shifter: ");
    let told = step(NO_STORE, &[&image]);
    fails_in_the_ranks(&told, "cannot open the image store /nonexistent/store");
    is_unaffected(&step(BROKEN, &["SLURM_SHIFTER_IMAGE=none"]));
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_request_that_was_edited_after_submission_is_checked_again() {
    let at_fault = [
        ("SLURM_SHIFTER_IMAGE=NOT-A-NAME:1".to_owned(), String::new(), "--image=NOT-A-NAME:1: not"),
        (
            format!("SLURM_SHIFTER_IMAGE=docker:r.site/a:1@{DIGEST}"),
            "SLURM_SHIFTER_VOLUME=/home:/etc/x".to_owned(),
            "--volume=/home:/etc/x: /etc is protected",
        ),
        (
            format!("SLURM_SHIFTER_IMAGE=docker:r.site/a:1@{DIGEST}"),
            "SLURM_SHIFTER_MODULE=none-such".to_owned(),
            "--module=none-such: no such module",
        ),
        (
            "SLURM_SHIFTER_IMAGE=docker:r.site/a:1".to_owned(),
            String::new(),
            "--image=docker:r.site/a:1: nobody pinned",
        ),
    ];
    for (image, other, why) in at_fault {
        let environment: Vec<_> =
            [image.as_str(), other.as_str()].into_iter().filter(|v| !v.is_empty()).collect();
        fails_in_the_ranks(&step(NO_STORE, &environment), why);
    }
}

/// A step of two ranks with a module, in an image that every machine has: what is in `/usr`.
fn step_with_module(module: &str) -> Told {
    let site = format!("{NO_STORE}[images]\nlocal = [\"/usr\"]\n[modules.m]\n{module}\n");
    let script = format!(
        "context remote\nitem uid 65534\nitem gid 65534\nitem job 7\nitem step 0\nitem tasks 2\n\
         env SLURM_SHIFTER_IMAGE=local:/usr\nenv SLURM_SHIFTER_MODULE=m\n\
         env SLURM_SHIFTER_MODULES=m@000000000000\n\
         load\ncall init\ncall init_post_opt\n{RANKS}"
    );
    run_at_site(&site, shifter(), script, &[])
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_modules_program_runs_inside_once_for_all_ranks_and_its_failure_is_said_once() {
    let fine = step_with_module(
        "env.set = { A = \"final\" }\nhooks.user = [{ command = [\"/bin/sh\", \"-c\", \
         \"test $A = final && test ! -e /usr/bin && test $SHIFTER_MODULES\"] }]",
    );
    is_unaffected(&fine);
    let failing = "hooks.user = [{ command = [\"/bin/sh\", \"-c\", \"exit 3\"] }]";
    step_with_module(failing)
        .says("init_post_opt = 0")
        .tells_the_user_once(
            "shifter",
            "--module=m: its program /bin/sh -c exit 3 failed with exit 3",
        )
        .says("rank 0: exit 1")
        .says("rank 1: exit 1");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_module_that_does_not_suit_the_image_fails_the_ranks_in_words() {
    let told = step_with_module("libc = \"musl\"");
    fails_in_the_ranks(&told, "--module=m: it is for images with musl, and this one has glibc");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn the_nodes_log_says_what_modules_were_used_and_what_has_changed_since() {
    step_with_module("env.set = { A = \"1\" }")
        .says("info: shifter: job 7: modules=m@")
        .says("info: shifter: job 7: module m is not what it was when the job was submitted: 000000000000");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn another_release_of_slurm_refuses_images_and_nothing_else() {
    let image = format!("SLURM_SHIFTER_IMAGE=docker:r.site/a:1@{DIGEST}");
    // A release that no headers are for.
    let told = step_on(NO_STORE, &[&image], &[("FAKE_API", "60")]);
    fails_in_the_ranks(&told, "this is Slurm 33.11.0, and the plugin is for Slurm ");
    is_unaffected(&step_on(NO_STORE, &["PATH=/bin"], &[("FAKE_API", "60")]));
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_planted_panic_fails_the_ranks_that_asked_and_no_other() {
    let site = format!("{NO_STORE}[node]\ndebug_panic = \"stage\"\n");
    let image = format!("SLURM_SHIFTER_IMAGE=docker:r.site/a:1@{DIGEST}");
    let told = step(&site, &[&image]);
    fails_in_the_ranks(&told, "this is a bug in shifter");
    told.says("error: shifter: this is a bug in shifter: panicked at");
    is_unaffected(&step(&site, &["PATH=/bin"]));
}

/// A batch step, or another that is no srun's, of a job with an image.
fn special_step(site: &str, step: &str, more: &str) -> Told {
    let script = format!(
        "context remote\nitem uid 1000\nitem step {step}\n\
         env SLURM_SHIFTER_IMAGE=docker:r.site/a:1@{DIGEST}\n{more}\
         load\ncall init\ncall init_post_opt\nrank 0 task_init_privileged task_init\n"
    );
    run_at_site(site, shifter(), script, &[])
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn the_batch_script_and_the_extern_step_run_on_the_host_whatever_is_broken() {
    let not_asked = "env SLURM_SHIFTER_BATCH=\n";
    for (special, more) in [("0xfffffffb", not_asked), ("0xfffffffc", ""), ("0xfffffffa", "")] {
        for site in [BROKEN, NO_STORE] {
            special_step(site, special, more).says("rank 0: exit 0").never_says("user:");
        }
    }
    // A client without our plugins says nothing of the script; this site never lets it in.
    special_step(NO_STORE, "0xfffffffb", "").says("rank 0: exit 0");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_batch_script_that_belongs_inside_fails_and_never_runs_on_the_host() {
    let ask = format!("{NO_STORE}[inside]\nbatch = \"ask\"\n");
    let always = format!("{NO_STORE}[inside]\nbatch = \"always\"\n");
    let panic = format!("{always}[node]\ndebug_panic = \"stage\"\n");
    let asked = "env SLURM_SHIFTER_BATCH=1\n";
    let no_store = "cannot open the image store";
    for (site, more, why) in [
        (ask.as_str(), asked, no_store),
        (&always, asked, no_store),
        (&always, "", no_store),
        (&panic, asked, "this is a bug in shifter"),
        (NO_STORE, asked, "--image-batch: this site runs batch scripts on the host"),
        (BROKEN, asked, "/etc/shifter/shifter.toml:2:8:"),
        // Nobody wrote down whether it belongs inside, and now nobody can tell.
        (BROKEN, "", "/etc/shifter/shifter.toml:2:8:"),
    ] {
        special_step(site, "0xfffffffb", more)
            .says("init = 0")
            .says("init_post_opt = 0")
            .tells_the_user_once("shifter", why)
            .says("rank 0: exit 1");
    }
    special_step(&ask, "0xfffffffb", "").says("rank 0: exit 0");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn slurmd_starts_with_its_directory_ready_and_the_epilog_ends_whatever_is_broken() {
    for site in [BROKEN, NO_STORE] {
        let script = "context slurmd\nload\ncount\ncall init\ncount\n";
        let told = run_at_site(site, shifter(), script, &[]);
        told.says("init = 0");
        let mounts: Vec<_> = counts(&told).into_iter().filter_map(mounts).collect();
        assert!(matches!(mounts[..], [before, after] if before < after), "{}", told.0);
        let script = "context script\nitem job 7\nitem uid 1000\nload\ncall job_epilog\n";
        run_at_site(site, shifter(), script, &[]).says("job_epilog = 0");
    }
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn the_extern_steps_end_is_the_jobs_unless_another_step_runs() {
    let script = "context slurmd\nload\ncall init\nunload\n\
        sh mkdir -p /run/shifter/jobs/7/images /run/spool\n\
        sh touch /run/spool/c1_7.4294967292 /run/spool/c1_7.0 /run/spool/c1_8.0\n\
        context remote\nitem job 7\nitem step 0xfffffffc\nload\ncall init\ncall exit\n\
        sh test -d /run/shifter/jobs/7 && echo still known\n\
        sh rm /run/spool/c1_7.0\ncall exit\n\
        sh test -d /run/shifter/jobs/7 || echo forgotten\n";
    let site = format!("{NO_STORE}[node]\nspool = \"/run/spool\"\n");
    run_at_site(&site, shifter(), script, &[]).says("still known").says("forgotten");
    // Any other step's end is its own.
    let other = script.replace("0xfffffffc", "0");
    run_at_site(&site, shifter(), other, &[]).says("still known").never_says("forgotten");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_mistake_fails_the_command_before_anything_is_queued() {
    for (option, why) in [
        ("image=NOT-A-NAME:1", "--image=NOT-A-NAME:1: not an image name"),
        ("volume=/home:/mnt", "--volume needs an image"),
    ] {
        for context in ["local", "allocator"] {
            let script =
                format!("context {context}\nload\ncall init\ngive {option}\ncall init_post_opt\n");
            run_at_site(NO_STORE, shifter(), script, &[])
                .says(&format!("user: shifter: {why}"))
                .says("user: shifter: hint: ")
                .says("init_post_opt = -1");
        }
    }
    let site = format!("{NO_STORE}[node]\ndebug_panic = \"submit\"\n");
    for (option, answer) in [("give image=a:1\n", "init_post_opt = -1"), ("", "init_post_opt = 0")]
    {
        let script = format!("context local\nload\ncall init\n{option}call init_post_opt\n");
        run_at_site(&site, shifter(), script, &[]).says(answer);
    }
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_users_default_counts_unless_something_else_is_said() {
    let mistake = [("SHIFTER_IMAGE", "NOT-A-NAME:1")];
    let call = |more: &str| {
        format!("load\ncall init\n{more}call init_post_opt\nshow env SLURM_SHIFTER_IMAGE\n")
    };
    for context in ["local", "allocator"] {
        let script = |more: &str| format!("context {context}\n{}", call(more));
        run_at_site(NO_STORE, shifter(), script(""), &mistake)
            .says("user: shifter: SHIFTER_IMAGE: --image=NOT-A-NAME:1: not an image name")
            .says("init_post_opt = -1");
        // Said, so that the job's steps do not take the default.
        run_at_site(NO_STORE, shifter(), script("give image=none\n"), &mistake)
            .says("init_post_opt = 0")
            .says("env SLURM_SHIFTER_IMAGE=none");
        run_at_site(NO_STORE, shifter(), script(""), &[("SHIFTER_VOLUME", "nonsense")])
            .says("init_post_opt = 0")
            .never_says("user:");
        run_at_site(
            NO_STORE,
            shifter(),
            script("give image=docker:r/a:1\n"),
            &[("SHIFTER_VOLUME", "nonsense")],
        )
        .says("user: shifter: SHIFTER_VOLUME: --volume=nonsense: TO is missing")
        .says("init_post_opt = -1");
        // A panic must not take a default for nothing.
        let site = format!("{NO_STORE}[node]\ndebug_panic = \"submit\"\n");
        run_at_site(&site, shifter(), script(""), &[("SHIFTER_IMAGE", "a:1")])
            .says("init_post_opt = -1");
    }
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn what_was_decided_for_the_script_and_the_users_defaults_are_nothing_to_a_step_of_the_job() {
    let image = format!("docker:r/a:1@{DIGEST}");
    let in_a_job = [
        ("SLURM_JOB_ID", "7"),
        ("SLURM_SHIFTER_IMAGE", image.as_str()),
        ("SLURM_SHIFTER_BATCH", "1"),
        ("SHIFTER_VOLUME", "nonsense"),
    ];
    // The site, meanwhile, lets no script in.
    let script = "context local\nload\ncall init\ngive module=none\ncall init_post_opt\n";
    run_at_site(NO_STORE, shifter(), script, &in_a_job)
        .says("user: shifter: cannot open the image store");
    let told = step(NO_STORE, &[&format!("SLURM_SHIFTER_IMAGE={image}"), "SLURM_SHIFTER_BATCH=1"]);
    fails_in_the_ranks(&told, "cannot open the image store");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_dry_run_prints_a_table_and_ends_the_command() {
    let site = "[store]\npath = \"/nonexistent/store\"\nowner = \"0\"\n\
                [images]\nlocal = [\"/srv\"]\n[volumes]\nvariables = [\"BB\"]\n\
                [node]\nallow_root = true\n";
    for context in ["local", "allocator"] {
        let start = format!("context {context}\nload\ncall init\ngive image-dry-run=\n");
        let end = "call init_post_opt\nshow env SLURM_SHIFTER_IMAGE\n";
        let script = format!("{start}give image=local:/srv/a\ngive volume=$BB:/b\n{end}");
        run_at_site(site, shifter(), &script, &[("BB", "/mnt/bb")])
            .says("--image=local:/srv/a '--volume=${BB}:/b'")
            .says("TARGET ")
            .says("/  ")
            .says("/b  ")
            .never_says("init_post_opt")
            .never_says("env ");
        run_at_site(site, shifter(), format!("{start}give image=none\n{end}"), &[])
            .says("--image=none: it would run on the host")
            .never_says("init_post_opt");
        for (given, why) in [
            ("", "--image-dry-run needs an image"),
            ("give image=a:1\n", "cannot open the image store /nonexistent/store"),
            ("give image=local:/etc\n", "--image=local:/etc: it is not below a directory"),
            ("give image=local:/srv/a\ngive volume=$BB:/b\n", "--volume=${BB}:/b: BB is not set"),
        ] {
            run_at_site(site, shifter(), format!("{start}{given}{end}"), &[])
                .says(&format!("user: shifter: {why}"))
                .says("init_post_opt = -1")
                .never_says("TARGET");
        }
        // A bug must not make a job of it.
        let panic = format!("{site}debug_panic = \"submit\"\n");
        run_at_site(&panic, shifter(), format!("{start}give image=a:1\n{end}"), &[])
            .says("init_post_opt = -1");
    }
}

/// A site with images that need no store.
const LOCAL: &str =
    "[store]\npath = \"/nonexistent/store\"\nowner = \"0\"\n[images]\nlocal = [\"/srv\"]\n";

#[test]
#[ignore = "needs root: a machine of its own"]
fn a_component_of_a_heterogeneous_job_may_have_an_image_of_its_own() {
    let show = |word: &str, number: &str| format!("show env SLURM_SHIFTER_{word}{number}\n");
    let next = "call init_post_opt\n";
    let script = |first: &str, second: &str, third: &str| {
        let shown: String = [
            show("IMAGE", ""),
            show("IMAGE", "_HET_GROUP_1"),
            show("VOLUME", "_HET_GROUP_1"),
            show("IMAGE", "_HET_GROUP_2"),
        ]
        .concat();
        format!("context local\nload\ncall init\n{first}{next}{second}{next}{third}{next}{shown}")
    };
    let (a, b) = ("give image=local:/srv/a\n", "give image=local:/srv/b\n");
    let volume = "give volume=/x:/y\n";
    // What it does not say is as the first one says it; the third repeats the first.
    run_at_site(LOCAL, shifter(), script(&[a, volume].concat(), b, ""), &[])
        .says_times(3, "init_post_opt = 0")
        .says("env SLURM_SHIFTER_IMAGE=local:/srv/a")
        .says("env SLURM_SHIFTER_IMAGE_HET_GROUP_1=local:/srv/b")
        .says("env SLURM_SHIFTER_VOLUME_HET_GROUP_1=/x:/y")
        .says("env SLURM_SHIFTER_IMAGE_HET_GROUP_2=(unset)");
    // Slurm forwards the last option to all: the host must be said.
    run_at_site(LOCAL, shifter(), script("", b, "give image=none\n"), &[])
        .says("env SLURM_SHIFTER_IMAGE=none")
        .says("env SLURM_SHIFTER_IMAGE_HET_GROUP_1=local:/srv/b")
        .says("env SLURM_SHIFTER_IMAGE_HET_GROUP_2=none");
    // A step of its own in such a job has one request, and completes nobody's.
    let in_a_job = [
        ("SLURM_JOB_ID", "70"),
        ("SLURM_SHIFTER_IMAGE", "local:/srv/a"),
        ("SLURM_SHIFTER_VOLUME", "/x:/y"),
        ("SLURM_SHIFTER_IMAGE_HET_GROUP_1", "local:/srv/b"),
    ];
    let step = |given: &str| {
        let shown = [show("IMAGE", ""), show("VOLUME", ""), show("IMAGE", "_HET_GROUP_1")].concat();
        let script = format!("context local\nload\ncall init\n{given}{next}{shown}");
        run_at_site(LOCAL, shifter(), script, &in_a_job)
    };
    step("").says("env SLURM_SHIFTER_IMAGE_HET_GROUP_1=local:/srv/b");
    step("give image=local:/srv/c\n")
        .says("env SLURM_SHIFTER_IMAGE=local:/srv/c")
        .never_says("/x:/y")
        .says("env SLURM_SHIFTER_IMAGE_HET_GROUP_1=(unset)");
    step(volume).says("user: shifter: --volume needs an image").says("init_post_opt = -1");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn components_cannot_differ_where_nothing_could_carry_it() {
    let first = "load\ncall init\ngive image=none\ncall init_post_opt\n";
    // sbatch; and srun in a job.
    let sbatch = ("allocator", ("NO_JOB", "1"), "name it in the script: srun --het-group=1");
    let srun = ("local", ("SLURM_JOB_ID", "70"), "start another srun for it, with --het-group");
    for (context, variable, instead) in [sbatch, srun] {
        let environment = &[variable];
        let start = format!("context {context}\n{first}");
        for same in ["", "give image=none\n"] {
            let script = format!("{start}{same}call init_post_opt\n");
            run_at_site(NO_STORE, shifter(), script, environment)
                .says_times(2, "init_post_opt = 0");
        }
        for (word, value) in [("image", "a:1"), ("module", "m"), ("volume", "/a:/b")] {
            let script = format!("{start}give {word}={value}\ncall init_post_opt\n");
            run_at_site(NO_STORE, shifter(), script, environment)
                .says(&format!(
                    "user: shifter: --{word}={value}: all components have one request here"
                ))
                .says(&format!(
                    "user: shifter: hint: move --{word} before the first colon, or {instead}"
                ))
                .says("init_post_opt = -1");
        }
    }
}

/// A salloc or sbatch of components, each with its own `given` options.
fn components(given: &[&str], shown: &str) -> String {
    let one = |given: &&str| format!("{given}call init_post_opt\n");
    let components: Vec<_> = given.iter().map(one).collect();
    format!("context allocator\nload\ncall init\n{}{shown}", components.join("component\n"))
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn what_one_component_typed_the_next_one_did_not() {
    let volumes = "give image=local:/srv/a\ngive volume=/a:/a\ngive volume=/b:/b\n";
    let shown = "show env SLURM_SPANK__SLURM_SPANK_OPTION_shifter_volume\n";
    run_at_site(LOCAL, shifter(), components(&[volumes, "", ""], shown), &[])
        .says_times(3, "init_post_opt = 0")
        .says("env SLURM_SPANK__SLURM_SPANK_OPTION_shifter_volume=(unset)");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn what_slurmctld_is_told_of_a_component_is_that_components() {
    let (a, b) = ("give image=local:/srv/a\n", "give image=local:/srv/b\ngive volume=/x:/y\n");
    let shown = "show control SHIFTER_IMAGE\nshow control SHIFTER_VOLUME\n";
    let of_last = |given: &[&str]| {
        // srun carries over what it told slurmctld, as salloc does, but passes on no options.
        let script = components(given, shown).replace("context allocator", "context local");
        run_at_site(LOCAL, shifter(), script, &[])
    };
    of_last(&[a, b]).says("control SHIFTER_VOLUME=/x:/y");
    of_last(&[a, b, ""]).says("control SHIFTER_IMAGE=local:/srv/a").never_says("/x:/y\n");
    of_last(&["", b, ""]).says("control SHIFTER_IMAGE=none").never_says("/x:/y\n");
}

#[test]
#[ignore = "needs root: a machine of its own"]
fn on_a_node_a_component_has_its_own_request() {
    let first = ["SLURM_SHIFTER_IMAGE=none", "SLURM_JOB_ID_HET_GROUP_0=7"];
    let other = ["SLURM_SHIFTER_IMAGE_HET_GROUP_1=local:/srv/b", "SLURM_JOB_ID_HET_GROUP_1=8"];
    // The fake step is of job 7.
    is_unaffected(&step(LOCAL, &[first, other].concat()));
    let swapped = ["SLURM_JOB_ID_HET_GROUP_0=8", "SLURM_JOB_ID_HET_GROUP_1=7"];
    let second = step(LOCAL, &[&first[..1], &other[..1], &swapped[..]].concat());
    fails_in_the_ranks(&second, "--image=local:/srv/b");
    let unknown = step(LOCAL, &[first[0], other[0], other[1]]);
    fails_in_the_ranks(&unknown, "the components of this heterogeneous job have");
    // Also after a panic.
    let site = format!("{LOCAL}[node]\ndebug_panic = \"stage\"\n");
    let panicked = step(&site, &[&first[..1], &other[..1], &swapped[..]].concat());
    fails_in_the_ranks(&panicked, "this is a bug");
}
