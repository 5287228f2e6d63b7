//! What a proxy says of itself in its pod's Lease.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Acknowledgement, DocumentKind, EndpointSummary, Refusal, wire::FEATURES};

/// The annotation of a proxy's Lease that holds its [`Identity`]. Proxies from before there were versions
/// don't write it.
pub const IDENTITY_ANNOTATION: &str = "l4way.dev/proxy";

/// Who a proxy is, and what it can't take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The version of l4way.
    pub version: String,
    /// The features that it has beyond those of the first version of configurations.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// The latest documents, where it refuses them. What it ran before stays in force.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<DocumentKind, Refused>,
}

/// A document that a proxy refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Which one, by the hash of its index.
    pub hash: String,
    /// Why.
    #[serde(flatten)]
    pub refusal: Refusal,
}

impl Identity {
    /// This l4way.
    pub fn own() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: FEATURES.iter().map(|name| (*name).to_owned()).collect(),
            refused: BTreeMap::new(),
        }
    }
}

/// All that a proxy has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who it is, and what it refuses.
    pub identity: Identity,
    /// What is in force, as soon as something is.
    pub acknowledgement: Option<Acknowledgement>,
    /// Where nobody answers.
    pub endpoints: EndpointSummary,
}

impl Answer {
    /// The answer of this l4way while it has nothing in force.
    pub fn starting() -> Self {
        Self {
            identity: Identity::own(),
            acknowledgement: None,
            endpoints: EndpointSummary::default(),
        }
    }
}
