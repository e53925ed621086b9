//! A SPANK plugin of the release build, in a fake Slurm: nothing gets past the boundary.

use std::{path::Path, sync::OnceLock};

mod fake_slurm;
use fake_slurm::{Told, exported, plugin, run};

fn greeting() -> &'static Path {
    static PLUGIN: OnceLock<std::path::PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| plugin(&["--example", "greeting"], "examples/libgreeting.so"))
}

fn told(script: &str) -> Told {
    run(greeting(), script, &[])
}

const STEP: &str = "context remote\nitem uid 1000\nitem tasks 2\nload\n";
const RANKS: &str =
    "rank 0 task_init_privileged task_init\nrank 1 task_init_privileged task_init\n";

fn step(environment: &str) -> Told {
    let env: String = environment.split_whitespace().map(|v| format!("env {v}\n")).collect();
    told(&format!("{STEP}{env}call init\ncall init_post_opt\n{RANKS}call exit\n"))
}

#[test]
fn only_what_is_listed_is_exported() {
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
    assert_eq!(exported(greeting()), expected);
}

#[test]
fn it_loads_into_every_release_of_slurm() {
    for (api, release) in [("38", "22.05"), ("42", "24.11"), ("45", "26.05"), ("47", "27.05")] {
        let told = run(greeting(), "context remote\nload\n", &[("FAKE_API", api)]);
        told.says(&format!("loaded greeting spank {release}"));
    }
}

#[test]
fn an_option_goes_from_the_command_to_each_rank() {
    told("context allocator\nload\ncall init\ngive greeting=hello\ncall init_post_opt\nshow env SLURM_GREETING\n")
        .says("option --greeting")
        .says("--greeting = 0")
        .says("init_post_opt = 0")
        .says("env SLURM_GREETING=hello");
    step("SLURM_GREETING=hello").says_times(1, "user: greeting: hello").says("rank 1: exit 0");
}

#[test]
fn a_mistake_in_an_option_fails_the_command() {
    told("context local\nload\ncall init\ngive greeting=\n")
        .says("user: greeting: --greeting=: say something")
        .says("--greeting = -1");
}

#[test]
fn an_option_that_is_not_utf8_is_refused() {
    let script = b"context local\nload\ncall init\ngive greeting=\xff\n";
    run(greeting(), script, &[])
        .says("user: greeting: --greeting=\u{fffd}: not UTF-8 text")
        .says("--greeting = -1");
}

#[test]
fn a_panic_on_a_node_fails_the_ranks_that_asked_and_drains_nothing() {
    for hook in ["init", "init_post_opt"] {
        step(&format!("SLURM_GREETING=hello GREETING_FAULT=panic:{hook}"))
            .says("error: greeting: this is a bug in greeting: panicked at")
            .says(&format!("{hook} = 0"))
            .tells_the_user_once("greeting", "this is a bug in greeting")
            .says("rank 0: exit 1")
            .says("rank 1: exit 1")
            .says("exit = 0");
    }
    for hook in ["task_init_privileged", "task_init"] {
        step(&format!("SLURM_GREETING=hello GREETING_FAULT=panic:{hook}"))
            .says(&format!("{hook} = -1"))
            .says("rank 0: exit 1")
            .says("rank 1: exit 1");
    }
}

#[test]
fn a_panic_does_not_touch_a_job_that_did_not_ask() {
    for hook in ["init", "init_post_opt", "task_init_privileged", "task_init", "exit"] {
        step(&format!("GREETING_FAULT=panic:{hook}"))
            .says("rank 0: exit 0")
            .says("rank 1: exit 0")
            .never_says("= -1")
            .never_says("user:");
    }
}

#[test]
fn an_error_on_a_node_is_kept_until_the_ranks_can_say_it() {
    for hook in ["init", "init_post_opt"] {
        step(&format!("SLURM_GREETING=hello GREETING_FAULT=error:{hook}"))
            .says(&format!("error: greeting: refused in {hook}"))
            .says(&format!("{hook} = 0"))
            .tells_the_user_once("greeting", &format!("refused in {hook}"))
            .says("rank 0: exit 1")
            .says("rank 1: exit 1");
    }
}

#[test]
fn a_panic_in_an_option_on_a_node_fails_the_ranks() {
    told(&format!("{STEP}call init\ngive greeting=panic\ncall init_post_opt\n{RANKS}"))
        .says("init_post_opt = 0")
        .says("rank 0: exit 1")
        .says("rank 1: exit 1");
}

#[test]
fn a_panic_in_a_command_fails_it_only_if_it_asked() {
    for (env, answer) in
        [("", "init_post_opt = 0"), ("env SLURM_GREETING=hello\n", "init_post_opt = -1")]
    {
        for hook in ["init", "init_post_opt"] {
            told(&format!(
                "context local\nenv GREETING_FAULT=panic:{hook}\n{env}load\ncall init\ncall init_post_opt\n"
            ))
            .says("init = 0")
            .says(answer);
        }
    }
}

#[test]
fn a_panic_leaves_the_options_in_place_and_the_command_still_fails() {
    told("context local\nenv GREETING_FAULT=panic:init\nload\ncall init\ngive greeting=hello\ncall init_post_opt\n")
        .says("option --greeting")
        .says("--greeting = 0")
        .says("init_post_opt = -1");
}

#[test]
fn slurmd_starts_whatever_is_broken() {
    for fault in ["panic:init", "error:init"] {
        told(&format!("context slurmd\nenv GREETING_FAULT={fault}\nload\ncall init\n"))
            .says("error: greeting: ")
            .says("init = 0")
            .never_says("option --");
    }
}

#[test]
fn an_epilog_never_drains_a_node() {
    for fault in ["panic:job_epilog", "error:job_epilog"] {
        told(&format!("context script\nenv GREETING_FAULT={fault}\nload\ncall job_epilog\n"))
            .says("error: greeting: ")
            .says("job_epilog = 0");
    }
}

#[test]
fn the_epilog_sees_the_options_of_the_job() {
    told("context script\nenv SPANK__SLURM_SPANK_OPTION_greeting_greeting=hello\nload\ncall job_epilog\n")
        .says("debug: greeting: epilog of Some(\"hello\")");
    told("context script\nload\ncall job_epilog\n").says("debug: greeting: epilog of None");
}

#[test]
fn a_plugin_that_is_unloaded_and_loaded_again_starts_afresh() {
    let first = "call init\nenv GREETING_FAULT=panic:init_post_opt\nenv SLURM_GREETING=hello\ncall init_post_opt\n";
    told(&format!(
        "{STEP}{first}unload\nload\nenv GREETING_FAULT=none\ncall init\ncall init_post_opt\n{RANKS}"
    ))
    .says("rank 0: exit 0")
    .says("user: greeting: hello");
}

#[test]
fn a_long_value_and_a_format_string_arrive_unchanged() {
    let long = "%s%n".repeat(25_000);
    step(&format!("SLURM_GREETING={long}"))
        .says(&format!("user: greeting: {long}"))
        .says("rank 0: exit 0");
}
