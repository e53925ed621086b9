//! Writing what was decided into the job.

use slurm::job_submit::JobDescription;
use udi::{ImageRef, Names, Request, Texts, Word};
use udi_store::provenance;

use crate::asked::PLACES;

/// Replaces the images' names by the pinned ones wherever the job has them, and tells the nodes
/// whether its script `enters` and what its `modules` were. A name of another image stays: what the node makes of it is checked
/// there.
pub(crate) fn write(
    job: &mut JobDescription<'_>,
    asked: &Texts,
    request: &Request,
    names: &Names,
    (enters, modules): (bool, &str),
) -> Result<(), slurm::Error> {
    let pinned = request.to_texts();
    for place in PLACES {
        let text = |job: &JobDescription<'_>, word| {
            job.variable_os(place.list, &place.variable(word))?.into_string().ok()
        };
        let Some(image) = text(job, Word::Image) else { continue };
        let is_ours = ImageRef::parse(&image, names).is_ok_and(|i| may_become(&i, request.image()));
        if !is_ours {
            continue;
        }
        job.set_variable(place.list, &place.variable(Word::Image), pinned.text(Word::Image))?;
        let volume = text(job, Word::Volume);
        if request.data_images().next().is_some() && volume.as_deref() == asked.get(Word::Volume) {
            job.set_variable(place.list, &place.variable(Word::Volume), pinned.text(Word::Volume))?;
        }
        if place.is_jobs_environment() {
            let says = if enters { "1" } else { "" };
            job.set_variable(place.list, &place.variable(Word::Batch), says)?;
            if !modules.is_empty() {
                job.set_variable(place.list, provenance::VARIABLE, modules)?;
            }
        }
    }
    Ok(())
}

/// Whether `pinned` is `image`, with a digest if it had none.
fn may_become(image: &ImageRef, pinned: &ImageRef) -> bool {
    image == pinned || image.digest().is_none() && image.name() == pinned.name()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ImageRef {
        let names = Names { registry: "docker.io".into(), tag: "latest".into() };
        ImageRef::parse(text, &names).unwrap()
    }

    #[test]
    fn only_the_same_name_is_pinned_and_no_digest_replaced() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = parse(&format!("ubuntu:14.04@{digest}"));
        assert!(may_become(&parse("docker:ubuntu:14.04"), &pinned));
        assert!(may_become(&pinned, &pinned));
        assert!(!may_become(&parse("ubuntu:16.04"), &pinned));
        let other = format!("ubuntu:14.04@sha256:{}", "b".repeat(64));
        assert!(!may_become(&parse(&other), &pinned));
    }
}
