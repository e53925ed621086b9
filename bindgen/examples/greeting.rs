//! A whole SPANK plugin: `--greeting=TEXT` is said by each rank's node before the command runs.
//! The crate's own tests drive it in a fake Slurm; it has a fault for each of them.
#![forbid(unsafe_code)]

use slurm::spank::{Argument, Context, Given, Opt, Origin, Plugin, Spank};

/// What a job asked for.
#[derive(Debug, Default)]
struct Greeting {
    text: Option<String>,
}

slurm::spank_plugin!(
    name = "greeting",
    type = Greeting,
    hooks = [init, init_post_opt, task_init_privileged, task_init, exit, job_epilog]
);

const FAULT: &str = "GREETING_FAULT";

impl Plugin for Greeting {
    type Error = String;

    const OPTIONS: &'static [Opt] = &[Opt {
        name: "greeting",
        argument: Argument::Required,
        arginfo: "text",
        usage: "say TEXT on each node before the command runs",
    }];

    fn asked_for(spank: &Spank<'_>, given: &Given) -> bool {
        given.value("greeting").is_some() || spank.getenv_os("SLURM_GREETING") != Ok(None)
    }

    fn option(
        &mut self,
        _option: &'static Opt,
        value: Option<&str>,
        _origin: Origin,
    ) -> Result<(), String> {
        match value {
            Some("") => Err("--greeting=: say something".into()),
            Some("panic") => panic!("planted in the option"),
            value => {
                self.text = value.map(str::to_owned);
                Ok(())
            }
        }
    }

    fn init(&mut self, spank: &mut Spank<'_>) -> Result<(), String> {
        fault(spank, "init")
    }

    fn init_post_opt(&mut self, spank: &mut Spank<'_>) -> Result<(), String> {
        fault(spank, "init_post_opt")?;
        match (spank.context(), &self.text) {
            (Context::Local | Context::Allocator, Some(text)) => {
                spank.setenv("SLURM_GREETING", text).map_err(|e| e.to_string())
            }
            _ => Ok(()),
        }
    }

    fn task_init_privileged(&mut self, spank: &mut Spank<'_>) -> Result<(), String> {
        fault(spank, "task_init_privileged")?;
        match spank.getenv("SLURM_GREETING").map_err(|e| e.to_string())? {
            Some(text) if spank.local_task_id() == Ok(0) => spank.say(&text),
            _ => {}
        }
        Ok(())
    }

    fn task_init(&mut self, spank: &mut Spank<'_>) -> Result<(), String> {
        fault(spank, "task_init")
    }

    fn exit(&mut self, spank: &mut Spank<'_>) -> Result<(), String> {
        slurm::log::debug("greeting: goodbye");
        fault(spank, "exit")
    }

    fn job_epilog(&mut self, spank: &mut Spank<'_>) -> Result<(), String> {
        let given = spank.option(&Self::OPTIONS[0]).map_err(|e| e.to_string())?;
        slurm::log::debug(&format!("greeting: epilog of {given:?}"));
        fault(spank, "job_epilog")
    }
}

/// A planted fault: `GREETING_FAULT=panic:HOOK` or `error:HOOK`.
fn fault(spank: &Spank<'_>, hook: &str) -> Result<(), String> {
    let planted = spank.getenv(FAULT).ok().flatten().unwrap_or_default();
    match planted.split_once(':') {
        Some(("panic", at)) if at == hook => panic!("planted in {hook}"),
        Some(("error", at)) if at == hook => Err(format!("refused in {hook}")),
        _ => Ok(()),
    }
}
