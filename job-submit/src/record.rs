//! What accounting keeps of a job's image: in the job's AdminComment, which only administrators
//! and this plugin can write, as
//!
//! ```text
//! shifter: image=docker:docker.io/library/ubuntu:14.04 digest=sha256:<64 hexadecimal digits>
//! ```
//!
//! behind `; ` if there was a comment before. The format is stable; both values have no blanks.

use udi::{Digest, ImageRef};

const START: &str = "shifter: image=";
const BETWEEN: &str = "; ";

/// `comment` with the record at its end. A record that was there before is replaced.
pub(crate) fn with(comment: Option<&str>, image: &ImageRef, digest: &Digest) -> String {
    let before = comment.unwrap_or_default().split(BETWEEN);
    let mut parts: Vec<_> =
        before.filter(|part| !part.is_empty() && !part.starts_with(START)).collect();
    let record = format!("{START}{} digest={digest}", image.name());
    parts.push(&record);
    parts.join(BETWEEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_and_an_old_record_goes() {
        let names = udi::Names { registry: "docker.io".into(), tag: "latest".into() };
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let image = ImageRef::parse("ubuntu:14.04", &names).unwrap().pinned(&digest);
        let record = format!("shifter: image={} digest={digest}", image.name());
        assert_eq!(with(None, &image, &digest), record);
        assert_eq!(with(Some("mine"), &image, &digest), format!("mine; {record}"));
        let again = with(Some("a; shifter: image=x digest=y; b"), &image, &digest);
        assert_eq!(again, format!("a; b; {record}"));
        assert!(!record.contains("@"), "the digest stands once: {record}");
    }
}
