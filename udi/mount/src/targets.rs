//! Where mounts are inside.

use std::collections::BTreeMap;

use udi::{GuestPath, Mount};

/// Where the targets of mounts led when the UDI was staged, and were judged. Whoever mounts there
/// later follows no link: in what the user can write, links change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets(BTreeMap<GuestPath, GuestPath>);

impl Targets {
    /// Notes where `target` led.
    pub(crate) fn note(&mut self, target: &GuestPath, place: GuestPath) {
        // Most lead nowhere else.
        if *target != place {
            self.0.insert(target.clone(), place);
        }
    }

    /// Where the target of `mount` led; the target itself where no link was on the way.
    pub(crate) fn of<'a>(&'a self, mount: &'a Mount) -> &'a GuestPath {
        self.0.get(&mount.target).unwrap_or(&mount.target)
    }

    /// As text, for the steps that find the UDI staged: what [`Targets::parse`] reads.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(target, place)| format!("{target}\0{place}\0")).collect()
    }

    /// Reads such a text. What is not one is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = text.split('\0').map(GuestPath::parse);
        let mut targets = Self::default();
        while let (Some(Ok(target)), Some(Ok(place))) = (parts.next(), parts.next()) {
            targets.note(&target, place);
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn later_steps_read_what_was_noted(pairs in prop::collection::vec(("/\\PC{0,9}", "/[a-c\n]{0,3}"), 0..4)) {
            let mut targets = Targets::default();
            for (target, place) in pairs {
                if let (Ok(target), Ok(place)) = (GuestPath::parse(&target), GuestPath::parse(&place)) {
                    targets.note(&target, place);
                }
            }
            prop_assert_eq!(Targets::parse(&targets.text()), targets);
        }

        #[test]
        fn nonsense_is_no_place(text in "[/a\0]{0,20}") {
            let _ = Targets::parse(&text);
        }
    }
}
