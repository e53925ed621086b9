//! The oldest kernel we work on.

use udi::{Error, Result};

/// mount_setattr(2) came in 5.12; 5.14 is what the oldest supported distribution has.
const FLOOR: (u32, u32) = (5, 14);

/// Refuses a kernel older than 5.14.
pub fn check() -> Result<()> {
    let uname = rustix::system::uname();
    check_release(&uname.release().to_string_lossy())
}

/// Whether the kernel is of this version or newer. What a distribution has taken back into an
/// older one is not seen.
pub(crate) fn is_at_least(version: (u32, u32)) -> bool {
    let uname = rustix::system::uname();
    self::version(&uname.release().to_string_lossy()).is_none_or(|it| it >= version)
}

fn check_release(release: &str) -> Result<()> {
    match version(release) {
        Some(version) if version < FLOOR => Err(Error::admin(format!(
            "this node's kernel is {release}, and images need {}.{} or newer",
            FLOOR.0, FLOOR.1
        ))),
        _ => Ok(()),
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_before_5_14_is_refused_by_name() {
        for old in ["5.10.0-32-amd64", "4.18.0", "5.13.19+"] {
            let error = check_release(old).unwrap_err().to_string();
            assert!(error.contains(old) && error.contains("5.14 or newer"), "{error}");
        }
        for new in ["5.14.0-427.el9", "6.1.0-33-amd64", "10.0"] {
            check_release(new).unwrap();
        }
    }

    /// Run by itself on old kernels, where the other root tests cannot work.
    #[test]
    #[ignore = "says what this kernel is: testbed/kernels reads it"]
    fn this_kernel_is_supported() {
        if let Err(error) = check() {
            panic!("{error}");
        }
    }
}
