//! The release plugin in a fake Slurm: what it exports, what it says, and what no fault of ours may
//! do to a job that did not ask for an image.

#[path = "../../../bindgen/tests/fake_slurm/mod.rs"]
mod fake_slurm;

mod commands;
mod components;

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
