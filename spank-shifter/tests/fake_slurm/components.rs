//! Heterogeneous jobs: what each component asks for.

use super::*;

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
