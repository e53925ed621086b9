//! On the host of a job: srun does it.

use std::env::var;
use std::io::IsTerminal;
use std::process::Command;

use crate::Refusal;
use crate::options::Run;

/// The command of srun that runs the program in the job's image, or in one that is named.
pub(crate) fn command(run: &Run) -> Result<Command, Refusal> {
    if var("SLURM_JOB_ID").is_err() {
        return Err((
            "this is not a job, and programs run in images in jobs only".into(),
            "start one: srun --image=NAME ./program, or sbatch --image=NAME SCRIPT".into(),
        ));
    }
    if is_rank(var("SLURM_STEP_ID").ok().as_deref()) {
        let image = run.image.as_deref().unwrap_or("NAME");
        return Err((
            "this step runs on the host: each of its ranks would start a step of its own".into(),
            format!("give srun the image: srun --image={image} ./program"),
        ));
    }
    // What the job has asked for, else the user's default.
    let names = |name| var(name).ok().filter(|image| !image.is_empty());
    let of_job = names("SLURM_SHIFTER_IMAGE").or_else(|| names("SHIFTER_IMAGE"));
    if run.image.is_none() && of_job.is_none_or(|image| image == "none") {
        return Err((
            "this job has no image".into(),
            "name one: shifter --image=NAME ./program, or srun --image=NAME ./program".into(),
        ));
    }
    let mut srun = Command::new("srun");
    let exported = ["SRUN_EXPORT_ENV", "SLURM_EXPORT_ENV"].into_iter().find_map(|n| var(n).ok());
    srun.args(options(run)).args(export(run, exported.as_deref()));
    srun.arg("--").args(run.words());
    // Variables of the image's win over the job's, but not over these.
    srun.envs(run.env.iter().map(|(name, value)| (format!("SHIFTERENV_{name}"), value)));
    Ok(srun)
}

fn options(run: &Run) -> Vec<String> {
    let mut options: Vec<String> = ["--overlap", "-N1", "-n1"].map(str::to_owned).into();
    if run.words.is_empty() && std::io::stdin().is_terminal() {
        options.push("--pty".into());
    }
    options.extend(run.image.iter().map(|image| format!("--image={image}")));
    options.extend(run.volumes.iter().map(|volume| format!("--volume={volume}")));
    options.extend(run.modules.iter().map(|module| format!("--module={module}")));
    if run.entrypoint == Some(None) {
        options.push("--image-entrypoint".into());
    }
    if let Some(directory) = &run.workdir {
        options.push(format!("--image-workdir={}", directory.as_deref().unwrap_or("image")));
    }
    options
}

/// What srun passes on: all, unless `--clearenv` or the job says otherwise ([srun(1)], `--export`);
/// variables that were typed in any case.
///
/// [srun(1)]: https://slurm.schedmd.com/srun.html
fn export(run: &Run, of_job: Option<&str>) -> Option<String> {
    let of_job = of_job.filter(|text| *text != "ALL" && !text.starts_with("ALL,"));
    let before = if run.clear_env { Some("NONE") } else { of_job };
    let typed = run.env.iter().map(|(name, _)| format!("SHIFTERENV_{name}"));
    let before = before?;
    // NONE excludes names, and names exclude all others.
    let kept = Some(before.to_owned()).filter(|text| !matches!(text.as_str(), "NONE" | "NIL"));
    let names: Vec<String> = kept.into_iter().chain(typed).collect();
    let names = if names.is_empty() { before.to_owned() } else { names.join(",") };
    Some(format!("--export={names}"))
}

/// Whether a step of this id is one of srun's; Slurm's own have the largest numbers.
fn is_rank(step: Option<&str>) -> bool {
    step.and_then(|id| id.parse::<u32>().ok()).is_some_and(|id| id < 0xffff_fff0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_original_calls_something_srun_calls_something_else() {
        let run = Run {
            image: Some("a:1".into()),
            volumes: vec!["/a:/b".into()],
            modules: vec!["mpich".into()],
            clear_env: true,
            entrypoint: Some(None),
            workdir: Some(None),
            words: vec!["./a.out".into()],
            ..Run::default()
        };
        let expected = "--overlap -N1 -n1 --image=a:1 --volume=/a:/b --module=mpich \
                        --image-entrypoint --image-workdir=image";
        assert_eq!(options(&run).join(" "), expected);
        assert_eq!(export(&run, None).as_deref(), Some("--export=NONE"));
    }

    #[test]
    fn a_variable_that_was_typed_is_passed_on_whatever_else_is_not() {
        let run = |clear_env, env: &[&str]| Run {
            clear_env,
            env: env.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect(),
            ..Run::default()
        };
        for (clear_env, env, of_job, expected) in [
            (false, &["A"][..], None, None),
            (false, &["A"], Some("ALL,X=1"), None),
            (true, &["A", "B"], None, Some("--export=SHIFTERENV_A,SHIFTERENV_B")),
            (true, &[], Some("X"), Some("--export=NONE")),
            (false, &["A"], Some("NONE"), Some("--export=SHIFTERENV_A")),
            (false, &["A"], Some("X,Y=1"), Some("--export=X,Y=1,SHIFTERENV_A")),
        ] {
            assert_eq!(export(&run(clear_env, env), of_job).as_deref(), expected);
        }
    }

    #[test]
    fn a_script_is_no_rank_and_neither_is_the_shell_of_salloc() {
        assert!(is_rank(Some("0")));
        for step in [None, Some("4294967291"), Some("4294967290"), Some("")] {
            assert!(!is_rank(step), "{step:?}");
        }
    }
}
