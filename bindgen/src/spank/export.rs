//! The symbols that Slurm looks for.

/// Exports a [`Plugin`](crate::spank::Plugin) from a `cdylib`: `plugin_name`, `plugin_type`,
/// `plugin_version` and the hooks that are listed, nothing else.
///
/// List what is needed only: Slurm starts a process for every job if `job_prolog` or `job_epilog`
/// is there. `init_post_opt` and `task_init_privileged` should always be listed: that is where a
/// kept failure is returned.
///
/// `name` is part of the names of environment variables: short and alphanumeric.
#[macro_export]
macro_rules! spank_plugin {
    (name = $name:literal, type = $plugin:ty, hooks = [$($hook:ident),* $(,)?] $(,)?) => {
        $crate::__plugin_symbols!(concat!($name, "\0"), "spank\0");

        impl $crate::spank::Exported for $plugin {
            const NAME: &'static str = $name;
            fn slot() -> &'static $crate::spank::Slot<Self> {
                static SLOT: $crate::spank::Slot<$plugin> = $crate::spank::Slot::new();
                &SLOT
            }
        }

        $($crate::__spank_hook!($hook, $plugin);)*
    };
}

/// One hook's symbol.
#[doc(hidden)]
#[macro_export]
macro_rules! __spank_hook {
    (init, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_init, Init, $p);
    };
    (init_post_opt, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_init_post_opt, InitPostOpt, $p);
    };
    (local_user_init, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_local_user_init, LocalUserInit, $p);
    };
    (user_init, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_user_init, UserInit, $p);
    };
    (task_init_privileged, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_task_init_privileged, TaskInitPrivileged, $p);
    };
    (task_init, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_task_init, TaskInit, $p);
    };
    (task_post_fork, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_task_post_fork, TaskPostFork, $p);
    };
    (task_exit, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_task_exit, TaskExit, $p);
    };
    (exit, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_exit, Exit, $p);
    };
    (slurmd_exit, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_slurmd_exit, SlurmdExit, $p);
    };
    (job_prolog, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_job_prolog, JobProlog, $p);
    };
    (job_epilog, $p:ty) => {
        $crate::__spank_hook!(slurm_spank_job_epilog, JobEpilog, $p);
    };
    ($symbol:ident, $hook:ident, $plugin:ty) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $symbol(
            handle: *mut $crate::__private::spank_handle,
            argc: ::std::ffi::c_int,
            argv: *mut *mut ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            // SAFETY: Slurm's own arguments, passed on as they are.
            unsafe {
                $crate::spank::run_hook::<$plugin>($crate::spank::Hook::$hook, handle, argc, argv)
            }
        }
    };
}
