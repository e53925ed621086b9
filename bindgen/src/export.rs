//! The symbols that every Slurm plugin has.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{panic::contain, version, version::Version};

/// Sets a plugin's `plugin_version` to that of the Slurm that loads it. Slurm reads it right after
/// the constructors have run.
pub fn set_version(plugin_version: &AtomicU32) {
    // A panic here would end srun before it says a word; the version built for is then as good
    // as any.
    if let Ok(running) = contain(version::running) {
        plugin_version.store(running.number(), Ordering::Relaxed);
    }
}

/// The bytes of `text`, as a C array in a `static`; NUL bytes where it is shorter.
pub const fn array<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut array = [0; LENGTH];
    let mut at = 0;
    while at < LENGTH && at < text.len() {
        array[at] = text.as_bytes()[at];
        at += 1;
    }
    array
}

/// What a plugin's file says of itself, so that a tool can tell its release without loading it.
pub const BUILT_FOR_TEXT: [u8; 40] = built_for_text(version::BUILT_FOR);

/// `plugin built for Slurm YY.MM.MICRO`, and NUL bytes to its end.
const fn built_for_text(version: Version) -> [u8; 40] {
    let mut text: [u8; 40] = array("plugin built for Slurm ");
    let (year, month) = version.release();
    let mut at = "plugin built for Slurm ".len();
    (text[at], text[at + 1], text[at + 2]) = (digit(year / 10), digit(year), b'.');
    (text[at + 3], text[at + 4], text[at + 5]) = (digit(month / 10), digit(month), b'.');
    at += 6;
    let micro = version.number() & 0xff;
    let mut unit = if micro >= 100 {
        100
    } else if micro >= 10 {
        10
    } else {
        1
    };
    while unit > 0 {
        text[at] = digit(micro / unit);
        at += 1;
        unit /= 10;
    }
    text
}

const fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
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
            #[used]
            static BUILT_FOR: [u8; 40] = $crate::__private::BUILT_FOR_TEXT;
            extern "C" fn set_version() {
                $crate::__private::set_version(&plugin_version);
            }
            #[used]
            #[unsafe(link_section = ".init_array")]
            static CONSTRUCTOR: extern "C" fn() = set_version;
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_says_what_it_was_built_for_as_slurm_would() {
        for number in [0x160508, 0x180b05, 0x1a0500, 0x19050c, 0x1a05ff] {
            let version = Version::from_number(number);
            let text = built_for_text(version);
            let text = std::str::from_utf8(&text).unwrap().trim_end_matches('\0');
            assert_eq!(text, format!("plugin built for Slurm {version}"));
        }
    }
}
