//! What accounting keeps of a job's images: in the job's AdminComment, which only administrators
//! and this plugin can write, as
//!
//! ```text
//! shifter: image=docker:docker.io/library/ubuntu:14.04 digest=sha256:<64 hexadecimal digits>
//! ```
//!
//! behind `; ` if there was a comment before. Behind it stands ` data=NAME@DIGEST` for each data
//! image among the volumes, and ` modules=NAME@HASH,…` if there are modules, with those that came
//! along: HASH is of what `shifter.toml` said of the module then. An image of the node's own
//! (`local:/path`) has no ` digest=…`. The format is stable: more words may come behind, and no value
//! has a blank.

use udi::{ImageRef, Request};

const START: &str = "shifter: image=";
const BETWEEN: &str = "; ";

/// `comment` with the record at its end; a record that was there before is replaced. None for a
/// request whose image is not pinned: what it will be is not known yet.
pub(crate) fn with(comment: Option<&str>, request: &Request, modules: &str) -> Option<String> {
    let image = request.image();
    let mut record = format!("{START}{}", image.name());
    match image.digest() {
        Some(digest) => record.push_str(&format!(" digest={digest}")),
        None if matches!(image, ImageRef::Local(_)) => {}
        None => return None,
    }
    for (_, data) in request.data_images().filter(|(_, data)| data.digest().is_some()) {
        record.push_str(&format!(" data={data}"));
    }
    if !modules.is_empty() {
        record.push_str(&format!(" modules={modules}"));
    }
    let before = comment.unwrap_or_default().split(BETWEEN);
    let mut parts: Vec<_> =
        before.filter(|part| !part.is_empty() && !part.starts_with(START)).collect();
    parts.push(&record);
    Some(parts.join(BETWEEN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{digest, request};

    #[test]
    fn what_was_there_stays_and_an_old_record_goes() {
        let image = request("ubuntu:14.04", "").pinned(&digest("a"));
        let digest = digest("a");
        let record =
            format!("shifter: image=docker:docker.io/library/ubuntu:14.04 digest={digest}");
        assert_eq!(with(None, &image, "").unwrap(), record);
        assert_eq!(with(Some("mine"), &image, "").unwrap(), format!("mine; {record}"));
        let with_modules = with(None, &image, "a@1,b@2").unwrap();
        assert_eq!(with_modules, format!("{record} modules=a@1,b@2"));
        let old = "a; shifter: image=x digest=y modules=c@3; b";
        let again = with(Some(old), &image, "").unwrap();
        assert_eq!(again, format!("a; b; {record}"));
        assert!(!record.contains("@"), "the digest stands once: {record}");
    }

    #[test]
    fn data_images_stand_behind_and_an_image_of_the_nodes_own_has_no_digest() {
        let local = request("local:/srv/a", "genome:38:/g:squashfs;b:1:/b:squashfs");
        assert_eq!(with(None, &local, "").unwrap(), "shifter: image=local:/srv/a");
        let local = local.data_pinned(|_, _| Ok(digest("b"))).unwrap();
        assert_eq!(
            with(None, &local, "").unwrap(),
            format!(
                "shifter: image=local:/srv/a data=docker:docker.io/library/b:1@{0} \
                 data=docker:docker.io/library/genome:38@{0}",
                digest("b")
            )
        );
        assert_eq!(with(None, &request("ubuntu:14.04", ""), ""), None);
    }
}
