use std::collections::BTreeMap;

use l4way_model::{ApplyReport, BackendId, BindFailure, ListenerId, ListenerReport, PathReport};
use serde::{Deserialize, Serialize};

/// The annotation of a proxy's Lease that holds its [`Acknowledgement`].
pub const ACKNOWLEDGEMENT_ANNOTATION: &str = "l4way.dev/applied";

/// What a proxy answers when it has applied a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement {
    /// Which configuration, by the hash of its index.
    pub hash: String,
    /// Which key pairs, by the hash of theirs, if it needs any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// How many listeners it has bound: all of the configuration but those that failed.
    pub bound: usize,
    /// The listeners that it could not bind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(ListenerId, BindFailure)>,
    /// Backends with addresses that sessions may not go to, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_backends: Vec<(BackendId, String)>,
    /// Who carries the sessions of each listener, where the kernel may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<(ListenerId, PathReport)>,
}

impl Acknowledgement {
    /// The answer of a proxy that reports this of the configuration of this hash, with the key pairs of
    /// that one.
    pub fn new(hash: impl Into<String>, keys: Option<String>, report: &ApplyReport) -> Self {
        let failed: Vec<_> = report
            .listeners
            .iter()
            .filter_map(|(id, report)| match report {
                ListenerReport::Bound => None,
                ListenerReport::Failed(failure) => Some((id.clone(), failure.clone())),
            })
            .collect();
        Self {
            hash: hash.into(),
            keys,
            bound: report.listeners.len() - failed.len(),
            failed,
            refused_backends: report.refused_backends.clone().into_iter().collect(),
            paths: report.paths.clone().into_iter().collect(),
        }
    }

    /// What it says of each of the configuration's listeners.
    pub fn report<'a>(&self, listeners: impl IntoIterator<Item = &'a ListenerId>) -> ApplyReport {
        let failed: BTreeMap<_, _> =
            self.failed.iter().map(|(id, failure)| (id, failure)).collect();
        let report = |id: &ListenerId| match failed.get(id) {
            Some(failure) => ListenerReport::Failed((*failure).clone()),
            None => ListenerReport::Bound,
        };
        ApplyReport {
            listeners: listeners.into_iter().map(|id| (id.clone(), report(id))).collect(),
            refused_backends: self.refused_backends.iter().cloned().collect(),
            paths: self.paths.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use l4way_model::{BindFailureKind, GatewayId};

    use super::*;

    #[test]
    fn an_answer_says_what_the_report_said() {
        let id = |name: &str| ListenerId {
            gateway: GatewayId::new("default", "gw"),
            listener_set: None,
            name: name.into(),
        };
        let failure = BindFailure {
            bind: "0.0.0.0:80".parse().unwrap(),
            kind: BindFailureKind::PortTaken,
            message: "taken".to_owned(),
        };
        let report = ApplyReport {
            listeners: BTreeMap::from([
                (id("a"), ListenerReport::Bound),
                (id("b"), ListenerReport::Failed(failure)),
            ]),
            refused_backends: BTreeMap::new(),
            paths: BTreeMap::from([(id("a"), PathReport::Proxy("it has no route".to_owned()))]),
        };
        let answer = Acknowledgement::new("hash", None, &report);
        let written = serde_json::to_string(&answer).unwrap();
        let read: Acknowledgement = serde_json::from_str(&written).unwrap();
        assert_eq!(read, answer);
        assert_eq!(read.report([&id("a"), &id("b")]), report);
    }
}
