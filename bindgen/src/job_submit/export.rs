//! The symbols that slurmctld looks for.

/// Exports a [`JobSubmit`](crate::job_submit::JobSubmit) from a `cdylib` that is installed as
/// `job_submit_<name>.so` and configured with `JobSubmitPlugins=<name>`.
#[macro_export]
macro_rules! job_submit_plugin {
    (name = $name:literal, type = $plugin:ty $(,)?) => {
        $crate::__plugin_symbols!(concat!($name, "\0"), concat!("job_submit/", $name, "\0"));

        impl $crate::job_submit::Exported for $plugin {
            const NAME: &'static str = $name;
            fn cell() -> &'static ::std::sync::OnceLock<Self> {
                static CELL: ::std::sync::OnceLock<$plugin> = ::std::sync::OnceLock::new();
                &CELL
            }
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn job_submit(
            job: *mut $crate::__private::job_descriptor,
            uid: u32,
            message: *mut *mut ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            // SAFETY: slurmctld's own arguments, passed on as they are.
            unsafe { $crate::job_submit::submit::<$plugin>(job, uid, message) }
        }

        // 22.05 passes three arguments. Reading a fourth is harmless; `modify` does not use it there.
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn job_modify(
            job: *mut $crate::__private::job_descriptor,
            _record: *mut ::std::ffi::c_void,
            uid: u32,
            message: *mut *mut ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            // SAFETY: slurmctld's own arguments, passed on as they are.
            unsafe { $crate::job_submit::modify::<$plugin>(job, uid, message) }
        }
    };
}
