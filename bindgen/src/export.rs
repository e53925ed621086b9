//! The symbols that every Slurm plugin has.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{panic::contain, version};

/// Sets a plugin's `plugin_version` to that of the Slurm that loads it. Slurm reads it right after
/// the constructors have run.
pub fn set_version(plugin_version: &AtomicU32) {
    // A panic here would end srun before it says a word; the version built for is then as good
    // as any.
    if let Ok(running) = contain(version::running) {
        plugin_version.store(running.number(), Ordering::Relaxed);
    }
}

/// The bytes of `text`, as a C array in a `static`.
pub const fn array<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut array = [0; LENGTH];
    let mut at = 0;
    while at < LENGTH {
        array[at] = text.as_bytes()[at];
        at += 1;
    }
    array
}

/// `plugin_name`, `plugin_type`, and `plugin_version` with its constructor.
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin_symbols {
    ($name:expr, $kind:expr) => {
        #[doc(hidden)]
        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        pub static plugin_name: [u8; { $name.len() }] = $crate::__private::array($name);

        #[doc(hidden)]
        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        pub static plugin_type: [u8; { $kind.len() }] = $crate::__private::array($kind);

        #[doc(hidden)]
        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        pub static plugin_version: ::std::sync::atomic::AtomicU32 =
            ::std::sync::atomic::AtomicU32::new($crate::BUILT_FOR.number());

        const _: () = {
            extern "C" fn set_version() {
                $crate::__private::set_version(&plugin_version);
            }
            #[used]
            #[unsafe(link_section = ".init_array")]
            static CONSTRUCTOR: extern "C" fn() = set_version;
        };
    };
}
