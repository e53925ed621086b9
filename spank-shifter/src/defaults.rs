//! What counts: options, the job's request, the user's defaults.

use slurm::spank::Spank;
use udi::{Error, Result, Texts, Word};

use crate::slurm_refused;

/// The user's defaults: `SHIFTER_IMAGE` and the like.
pub(crate) fn defaults(spank: &Spank<'_>) -> Result<Texts> {
    let mut texts = Texts::default();
    for word in [Word::Image, Word::Volume, Word::Module] {
        let text = spank.getenv(word.short_variable()).map_err(slurm_refused)?;
        texts.set(word, text.filter(|text| !text.is_empty()));
    }
    Ok(texts)
}

/// Options win over the job's request, word by word, and that over the user's defaults. These
/// count only where there is an image; alone, `SHIFTER_VOLUME` and `SHIFTER_MODULE` ask for nothing.
pub(crate) fn asked(given: Texts, of_job: &Texts, of_user: &Texts) -> Texts {
    let mut of_job = of_job.clone();
    if !given.is_empty() && of_job.text(Word::Image) == "none" {
        // Something for an image, and nothing says which.
        of_job = Texts::default();
        if given.get(Word::Image).is_none() {
            return given;
        }
    }
    let asked = given.or(&of_job);
    let with_defaults = asked.clone().or(of_user);
    if with_defaults.text(Word::Image).is_empty() { asked } else { with_defaults }
}

/// Names the variable behind a mistake in something that nobody typed for this job.
pub(crate) fn told_where_from(
    error: Error,
    asked: &Texts,
    given: &Texts,
    (of_job, in_a_job): (&Texts, bool),
) -> Error {
    let is_about = |(word, text): &(Word, &str)| {
        given.get(*word).is_none()
            && error.what().starts_with(&format!("--{}={text}", word.option()))
    };
    let found = asked.given().find(is_about).map(|(word, _)| (word, of_job.get(word).is_some()));
    match found {
        Some((_, true)) if in_a_job => error,
        Some((word, true)) => error.about(format!("{}: ", word.variable())),
        Some((word, false)) => error.about(format!("{}: ", word.short_variable())),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_win_over_the_jobs_request_and_that_over_the_users_defaults() {
        let job = Texts::of("job:1", "/job:/x", "");
        let user = Texts::of("user:1", "/user:/x", "mine");
        let none = Texts::default();
        for (given, of_job, expected) in [
            (Texts::of("", "", ""), &none, user.clone()),
            (Texts::of("a:1", "", ""), &none, Texts::of("a:1", "/user:/x", "mine")),
            (Texts::of("", "/a:/x", ""), &job, Texts::of("job:1", "/a:/x", "mine")),
            (Texts::of("", "", ""), &job, Texts::of("job:1", "/job:/x", "mine")),
        ] {
            assert_eq!(asked(given, of_job, &user), expected);
        }
        // A job that is checked has every word.
        let mut whole = job.clone();
        whole.set(Word::Module, Some(String::new()));
        assert_eq!(asked(none.clone(), &whole, &user), whole);
    }

    #[test]
    fn defaults_alone_ask_for_nothing_unless_they_name_an_image() {
        let none = Texts::default();
        assert_eq!(asked(none.clone(), &none, &Texts::of("", "/a:/x", "m")), none);
        let host = Texts::of("none", "", "");
        let user = Texts::of("user:1", "", "");
        assert_eq!(asked(none.clone(), &host, &user).text(Word::Image), "none");
        // On the host a volume is a mistake, not nothing.
        let volume = Texts::of("", "/a:/x", "");
        assert_eq!(asked(volume.clone(), &host, &user), volume);
    }

    #[test]
    fn a_mistake_in_a_variable_names_the_variable() {
        let texts = |image| Texts::of(image, "", "");
        let none = Texts::default();
        let error = || Error::user("--image=X:1: not an image name");
        let told = |given: &Texts, job: &Texts, in_a_job| {
            told_where_from(error(), &texts("X:1"), given, (job, in_a_job)).what()
        };
        let plain = "--image=X:1: not an image name";
        assert_eq!(told(&texts("X:1"), &none, false), plain);
        assert_eq!(told(&none, &none, true), format!("SHIFTER_IMAGE: {plain}"));
        assert_eq!(told(&none, &texts("X:1"), false), format!("SLURM_SHIFTER_IMAGE: {plain}"));
        assert_eq!(told(&none, &texts("X:1"), true), plain);
    }
}
