use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Place, Severity};

/// Objects of kinds that l4way doesn't read: of each kind how many, and where the first is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassedOver(BTreeMap<String, (Place, usize)>);

impl PassedOver {
    pub(super) fn add(&mut self, kind: String, place: &Place, count: usize) {
        self.0.entry(kind).or_insert_with(|| (place.clone(), 0)).1 += count;
    }

    /// Adds what another text holds, to name each kind once for all of them.
    pub fn merge(&mut self, other: &Self) {
        for (kind, (place, count)) in &other.0 {
            self.add(kind.clone(), place, *count);
        }
    }

    /// A note for each kind.
    pub fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        self.0.iter().map(|(kind, (place, count))| {
            let objects = if *count == 1 { "object" } else { "objects" };
            let message =
                format!("{kind} is not a kind that l4way reads: {count} {objects} passed over");
            Diagnostic::new(Severity::Note, message).at(place.clone())
        })
    }
}
