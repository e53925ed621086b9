//! Options that the plugin adds to srun, sbatch and salloc.

use std::{
    ffi::{c_char, c_int},
    ptr,
};

use super::{Spank, item::check};
use crate::{Error, ErrorKind, raw, text};

/// One option, for example `--image=NAME`.
#[derive(Debug, PartialEq, Eq)]
pub struct Opt {
    /// The name without the dashes in front; at most 75 bytes. It travels as [`option_variable`].
    pub name: &'static str,
    /// Whether a value follows.
    pub argument: Argument,
    /// One word for the value in `--help`.
    pub arginfo: &'static str,
    /// The text in `--help`.
    pub usage: &'static str,
}

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// `--name`
    None,
    /// `--name=value` or `--name value`
    Required,
    /// `--name` or `--name=value`
    Optional,
}

/// Where an option was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// In a command: on its command line or, before that, in its environment.
    Command,
    /// On the node: in the step's launch message or environment. Nobody checked it.
    Node,
}

/// The options given so far, as they came: the last occurrence of each. Kept by the boundary, so
/// it is right even when the plugin has panicked.
#[derive(Debug, Default, Clone)]
pub struct Given {
    values: Vec<(&'static str, String)>,
}

impl Given {
    /// The value of the option `name`, empty if it has none; `None` if it was not given.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    pub(super) const fn none() -> Given {
        Given { values: Vec::new() }
    }

    pub(super) fn note(&mut self, name: &'static str, value: String) {
        self.values.retain(|(given, _)| *given != name);
        self.values.push((name, value));
    }
}

/// The variable that an option travels in, as Slurm spells it: in a step's environment on the node,
/// among what the job carries, and, behind `SLURM_SPANK_`, in the environment of a job.
pub fn option_variable(plugin: &str, option: &str) -> String {
    let spelled = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("_SLURM_SPANK_OPTION_{}_{}", spelled(plugin), spelled(option))
}

impl Spank<'_> {
    /// The value of an option where `Plugin::option` is not called: in prolog and epilog. Empty if
    /// it has none; `None` if it was not given.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] in `init`, `init_post_opt`, `task_post_fork` and at exit, where
    /// Slurm refuses; [`ErrorKind::NotUtf8`].
    pub fn option(&self, option: &Opt) -> Result<Option<String>, Error> {
        let what = format!("reading the option --{}", option.name);
        let name = text::to_c(&what, option.name)?;
        let mut asked = raw::spank_option {
            name: name.as_ptr().cast_mut(),
            arginfo: ptr::null_mut(),
            usage: ptr::null_mut(),
            has_arg: option.argument.number(),
            val: 0,
            cb: None,
        };
        let mut value: *mut c_char = ptr::null_mut();
        // SAFETY: a valid handle; Slurm copies the option and keeps the value itself.
        let rc = unsafe { raw::spank_option_getopt(self.raw(), &raw mut asked, &raw mut value) };
        if rc == raw::ESPANK_ERROR {
            return Ok(None);
        }
        check(&what, rc)?;
        // SAFETY: null, or a string in Slurm's cache, which outlives this hook.
        match unsafe { text::from_c(value) } {
            None => Ok(Some(String::new())),
            Some(value) => {
                let value = value.to_str().map(|value| Some(value.to_owned()));
                value.ok_or_else(|| Error::new(ErrorKind::NotUtf8, what))
            }
        }
    }

    /// Makes `option` known to Slurm; `number` and `callback` are what it calls when it is given.
    pub(super) fn register(
        &mut self,
        option: &Opt,
        number: c_int,
        callback: unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int,
    ) -> Result<(), Error> {
        let what = format!("registering the option --{}", option.name);
        let name = text::to_c(&what, option.name)?;
        let usage = text::to_c(&what, option.usage)?;
        let arginfo = text::to_c(&what, option.arginfo)?;
        let mut registered = raw::spank_option {
            name: name.as_ptr().cast_mut(),
            arginfo: match option.argument {
                Argument::None => ptr::null_mut(),
                Argument::Required | Argument::Optional => arginfo.as_ptr().cast_mut(),
            },
            usage: usage.as_ptr().cast_mut(),
            has_arg: option.argument.number(),
            val: number,
            cb: Some(callback),
        };
        // SAFETY: a valid handle; Slurm copies the structure and its strings.
        check(&what, unsafe { raw::spank_option_register(self.raw(), &raw mut registered) })
    }
}

impl Argument {
    /// getopt_long's number.
    fn number(self) -> c_int {
        match self {
            Argument::None => 0,
            Argument::Required => 1,
            Argument::Optional => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_travels_by_slurms_own_spelling() {
        let variable = option_variable("shifter", "image-dry-run");
        assert_eq!(variable, "_SLURM_SPANK_OPTION_shifter_image_dry_run");
    }

    #[test]
    fn the_last_occurrence_counts() {
        let mut given = Given::none();
        given.note("image", "a".into());
        given.note("volume", "v".into());
        given.note("image", "b".into());
        assert_eq!(given.value("image"), Some("b"));
        assert_eq!(given.value("volume"), Some("v"));
        assert_eq!(given.value("module"), None);
    }
}
