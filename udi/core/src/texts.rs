//! A request as text: what options, environment and slurmctld carry.

/// One part of a request, each an option of srun, sbatch and salloc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `--image`
    Image,
    /// `--volume`, `;` between several.
    Volume,
    /// `--module`, `,` between several.
    Module,
    /// `--image-writable`
    Writable,
    /// `--image-batch`: `1` if asked for.
    Batch,
    /// `--image-entrypoint`: `1` if asked for.
    Entrypoint,
    /// `--image-workdir`
    Workdir,
}

impl Word {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Image,
        Self::Volume,
        Self::Module,
        Self::Writable,
        Self::Batch,
        Self::Entrypoint,
        Self::Workdir,
    ];

    /// The option's name.
    pub fn option(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Module => "module",
            Self::Writable => "image-writable",
            Self::Batch => "image-batch",
            Self::Entrypoint => "image-entrypoint",
            Self::Workdir => "image-workdir",
        }
    }

    /// The job environment's variable. The prefix keeps it through `--export=NONE`. Together
    /// they are the whole request: what a user writes there by hand counts as if it had been
    /// typed as an option.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Image => "SLURM_SHIFTER_IMAGE",
            Self::Volume => "SLURM_SHIFTER_VOLUME",
            Self::Module => "SLURM_SHIFTER_MODULE",
            Self::Writable => "SLURM_SHIFTER_WRITABLE",
            Self::Batch => "SLURM_SHIFTER_BATCH",
            Self::Entrypoint => "SLURM_SHIFTER_ENTRYPOINT",
            Self::Workdir => "SLURM_SHIFTER_WORKDIR",
        }
    }

    /// Whether it has no value: `1` says that it was given.
    pub fn is_flag(self) -> bool {
        matches!(self, Self::Batch | Self::Entrypoint)
    }

    /// Whether it decides what is inside. The others say what runs there and where it starts:
    /// steps that differ only in them share one UDI.
    pub fn shapes_the_inside(self) -> bool {
        !matches!(self, Self::Batch | Self::Entrypoint | Self::Workdir)
    }

    /// The variable for the user's default; and what our plugin leaves for slurmctld, Prolog and
    /// Epilog.
    pub fn short_variable(self) -> &'static str {
        let variable = self.variable();
        variable.strip_prefix("SLURM_").unwrap_or(variable)
    }
}

/// The words of a request. What was not given is absent, which is not the same as empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts([Option<String>; Word::ALL.len()]);

impl Texts {
    /// Image, volumes and modules; an empty text is an absent one.
    pub fn of(image: &str, volume: &str, module: &str) -> Self {
        let mut texts = Self::default();
        for (word, text) in [(Word::Image, image), (Word::Volume, volume), (Word::Module, module)] {
            texts.set(word, Some(text).filter(|text| !text.is_empty()).map(str::to_owned));
        }
        texts
    }

    /// What `word` says, if it was given.
    pub fn get(&self, word: Word) -> Option<&str> {
        self.0.get(word as usize).and_then(Option::as_deref)
    }

    /// What `word` says; nothing if it was not given.
    pub fn text(&self, word: Word) -> &str {
        self.get(word).unwrap_or_default()
    }

    /// Says, or takes back, a word.
    pub fn set(&mut self, word: Word, text: Option<String>) {
        if let Some(slot) = self.0.get_mut(word as usize) {
            *slot = text;
        }
    }

    /// What was given, in order.
    pub fn given(&self) -> impl Iterator<Item = (Word, &str)> {
        Word::ALL.into_iter().filter_map(|word| Some((word, self.get(word)?)))
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.given().next().is_none()
    }

    /// These where given, else those of `other`.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        for word in Word::ALL {
            if self.get(word).is_none() {
                self.set(word, other.get(word).map(str::to_owned));
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_names_and_a_place_of_its_own() {
        for (at, word) in Word::ALL.into_iter().enumerate() {
            assert_eq!(word as usize, at);
            let mut texts = Texts::default();
            texts.set(word, Some("x".into()));
            assert_eq!(texts.given().collect::<Vec<_>>(), [(word, "x")]);
            assert!(word.variable().starts_with("SLURM_SHIFTER_"));
            assert!(word.short_variable().starts_with("SHIFTER_"));
        }
    }

    #[test]
    fn what_was_given_replaces_the_others_word_by_word() {
        let job = Texts::of("a", "/old:/x", "m");
        assert_eq!(Texts::of("", "/new:/x", "").or(&job), Texts::of("a", "/new:/x", "m"));
        assert!(Texts::of("", "", "").is_empty());
    }
}
