//! What a running l4way says of itself: served at `/status`, printed by `l4way status`.

use l4way_resources::{Diagnostic, status::StatusUpdate};
use serde::{Deserialize, Serialize};

use crate::{EndpointReport, Overview};

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// l4way's version.
    pub version: String,
    /// What the process is doing.
    pub phase: Phase,
    /// What was decided without being asked, such as whose the Gateways are.
    pub notes: Vec<String>,
    /// What is wrong in the manifests: a file that can't be used, a route that gets no traffic.
    pub problems: Vec<Diagnostic>,
    /// Every Gateway, listener and route at a glance.
    pub overview: Overview,
    /// How endpoints are at the time of the question; only who carries sessions tells of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointReport>,
    /// Every object's status as the API has it.
    pub objects: Vec<StatusUpdate>,
}

impl StatusReport {
    /// The report of a process that has just begun.
    pub fn starting() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: Phase::Starting,
            notes: Vec::new(),
            problems: Vec::new(),
            overview: Overview::default(),
            endpoints: None,
            objects: Vec::new(),
        }
    }
}

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// No listener is bound yet.
    Starting,
    /// Sessions are taken.
    Serving,
    /// Sessions are taken, but no more should come: the process is about to drain.
    Leaving,
    /// No new session is taken, and the old ones are waited for.
    Draining,
}

impl Phase {
    /// The phase as `/readyz` tells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
        }
    }
}
