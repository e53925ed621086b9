//! The plugin in srun, sbatch and salloc.

use super::*;

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
