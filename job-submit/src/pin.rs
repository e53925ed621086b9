//! Writing the digest into the job.

use slurm::job_submit::JobDescription;
use udi::{ImageRef, Names, Request};

use crate::asked::PLACES;

/// Replaces the image's name by the pinned one wherever the job has it. A name of another image
/// stays: what the node makes of it is checked there.
pub(crate) fn write(
    job: &mut JobDescription<'_>,
    request: &Request,
    names: &Names,
) -> Result<(), slurm::Error> {
    let pinned = request.image();
    for place in PLACES {
        let there = job.variable_os(place.list, place.image);
        let is_ours = there.as_ref().and_then(|text| text.to_str()).is_some_and(|text| {
            ImageRef::parse(text, names).is_ok_and(|image| may_become(&image, pinned))
        });
        if is_ours {
            job.set_variable(place.list, place.image, &pinned.to_string())?;
        }
    }
    Ok(())
}

/// Whether `pinned` is `image` with a digest.
fn may_become(image: &ImageRef, pinned: &ImageRef) -> bool {
    image.digest().is_none() && image.name() == pinned.name()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ImageRef {
        let names = Names { registry: "docker.io".into(), tag: "latest".into() };
        ImageRef::parse(text, &names).unwrap()
    }

    #[test]
    fn only_the_same_name_without_a_digest_is_pinned() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = parse(&format!("ubuntu:14.04@{digest}"));
        assert!(may_become(&parse("docker:ubuntu:14.04"), &pinned));
        assert!(!may_become(&parse("ubuntu:16.04"), &pinned));
        let other = format!("ubuntu:14.04@sha256:{}", "b".repeat(64));
        assert!(!may_become(&parse(&other), &pinned));
    }
}
