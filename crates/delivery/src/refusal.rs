use std::{collections::BTreeSet, fmt};

use l4way_model::DuplicateBind;
use serde::{Deserialize, Serialize};

/// Why an l4way can't take a document that it has been given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The features that it requires and this l4way lacks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// A clause for a person, of which the l4way is the subject: `it lacks the feature "x"`.
    pub message: String,
}

impl Refusal {
    pub(super) fn version(version: u32) -> Self {
        let message = format!("it can't read a document of version {version}");
        Self { features: BTreeSet::new(), message }
    }

    pub(super) fn features(features: BTreeSet<String>) -> Self {
        let names: Vec<_> = features.iter().map(|name| format!("{name:?}")).collect();
        let noun = if names.len() == 1 { "feature" } else { "features" };
        let message = format!("it lacks the {noun} {}", names.join(", "));
        Self { features, message }
    }

    pub(super) fn content(error: serde_json::Error) -> Self {
        Self { features: BTreeSet::new(), message: format!("it can't read it: {error}") }
    }

    /// The refusal of a configuration in which two listeners want the same socket.
    pub fn contradiction(duplicate: &DuplicateBind) -> Self {
        Self { features: BTreeSet::new(), message: format!("it can't run it: {duplicate}") }
    }

    pub(super) fn unreadable() -> Self {
        Self { features: BTreeSet::new(), message: "it can't read it".to_owned() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
