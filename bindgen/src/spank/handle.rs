//! The handle that Slurm passes to each hook.

use std::{
    ffi::{OsString, c_char, c_int},
    fmt,
    marker::PhantomData,
};

use super::{Context, Hook, item};
use crate::{log, raw, text};

/// Slurm, as one hook sees it: valid for the length of that hook only.
pub struct Spank<'a> {
    handle: raw::spank_t,
    hook: Hook,
    context: Context,
    argc: c_int,
    argv: *mut *mut c_char,
    plugin: &'static str,
    hook_lifetime: PhantomData<&'a ()>,
}

impl Spank<'_> {
    /// # Safety
    /// The arguments are those that Slurm passed to `hook`, which has not returned.
    pub(super) unsafe fn new(
        hook: Hook,
        handle: raw::spank_t,
        argc: c_int,
        argv: *mut *mut c_char,
        plugin: &'static str,
    ) -> Self {
        let context = context();
        Spank { handle, hook, context, argc, argv, plugin, hook_lifetime: PhantomData }
    }

    pub(super) fn raw(&self) -> raw::spank_t {
        self.handle
    }

    /// The program that this runs in.
    pub fn context(&self) -> Context {
        self.context
    }

    /// The hook that this is.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// The words behind the plugin's path in plugstack.conf.
    pub fn args(&self) -> Vec<OsString> {
        // SAFETY: Slurm passes `argc` strings, which live while the plugin is loaded.
        unsafe { item::strings(self.argv, usize::try_from(self.argc).unwrap_or(0)) }
    }

    /// Says `text`, each line behind the plugin's name, to whoever is concerned here: to the user in
    /// a command and in a rank (where it is in the node's log as well), to the administrator's log
    /// elsewhere.
    pub fn say(&self, text: &str) {
        let text = text::prefixed(self.plugin, text);
        if self.context.is_submission() || self.hook.is_in_a_rank() {
            log::user(&text);
        } else {
            log::error(&text);
        }
    }

    /// Says `text` as Slurm's own debugging messages are said.
    pub(super) fn say_if_debugging(&self, text: &str) {
        log::debug(&text::prefixed(self.plugin, text));
    }
}

impl fmt::Debug for Spank<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spank").field("hook", &self.hook).field("context", &self.context).finish()
    }
}

/// The program that this process is, as Slurm says.
pub(super) fn context() -> Context {
    // SAFETY: takes nothing and reads a variable of Slurm's.
    match unsafe { raw::spank_context() } {
        raw::S_CTX_LOCAL => Context::Local,
        raw::S_CTX_ALLOCATOR => Context::Allocator,
        raw::S_CTX_REMOTE => Context::Remote,
        raw::S_CTX_SLURMD => Context::Slurmd,
        raw::S_CTX_JOB_SCRIPT => Context::JobScript,
        _ => Context::Other,
    }
}
