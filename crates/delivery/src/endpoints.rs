//! What a proxy says of the endpoints of its backends in its pod's Lease.

use l4way_model::BackendId;
use serde::{Deserialize, Serialize};

/// The annotation of a proxy's Lease that holds its [`EndpointSummary`], while there is something to say.
/// Controllers that don't know it pass it over, and proxies that don't write it pass nothing over as far as
/// is known.
pub const ENDPOINTS_ANNOTATION: &str = "l4way.dev/endpoints";

/// How many backends there is room for, and how many bytes of JSON: a Lease is small, and written often.
const MOST_BACKENDS: usize = 20;
const MOST_BYTES: usize = 8 << 10;

/// The backends of which a proxy passes endpoints over because nobody answers there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSummary {
    /// Some of them; those of which no endpoint is left come first.
    #[serde(default)]
    pub backends: Vec<BackendSummary>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

/// A backend of which endpoints are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendSummary {
    /// The backend.
    pub backend: BackendId,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// How many of them are passed over.
    pub passed_over: usize,
    /// Why one of those is, as the metrics spell it.
    pub reason: String,
}

impl EndpointSummary {
    /// Of these backends, as many as there is room for.
    pub fn new(backends: impl Iterator<Item = BackendSummary>) -> Self {
        let mut backends: Vec<_> = backends.collect();
        backends.sort_by_key(|of| of.passed_over < of.endpoints);
        let mut room = MOST_BYTES;
        let fits = |of: &&BackendSummary| {
            let bytes = serde_json::to_string(of).map_or(usize::MAX, |text| text.len());
            room = room.saturating_sub(bytes);
            room > 0
        };
        let kept = backends.iter().take(MOST_BACKENDS).take_while(fits).count();
        let more = backends.len() - kept;
        backends.truncate(kept);
        Self { backends, more }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.more == 0
    }
}

impl BackendSummary {
    /// Whether no endpoint is left.
    pub fn has_none_left(&self) -> bool {
        self.passed_over >= self.endpoints
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use l4way_model::Transport;

    use super::*;

    fn summary(name: &str, passed_over: usize) -> BackendSummary {
        let backend = BackendId {
            kind: "Service".into(),
            namespace: "default".into(),
            name: name.into(),
            port: Some(80),
            transport: Transport::Tcp,
        };
        BackendSummary { backend, endpoints: 2, passed_over, reason: "refused".to_owned() }
    }

    #[test]
    fn what_has_none_left_comes_first() {
        let said = EndpointSummary::new([summary("some", 1), summary("all", 2)].into_iter());
        assert_eq!(said.backends, [summary("all", 2), summary("some", 1)]);
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<EndpointSummary>(&text).unwrap(), said);
        // What a later release adds is passed over.
        let later = text.replacen('{', r#"{"newer":true,"#, 1);
        assert_eq!(serde_json::from_str::<EndpointSummary>(&later).unwrap(), said);
    }

    #[test]
    fn it_has_its_bounds_however_much_there_is_to_say() {
        for length in [1, 253] {
            let name = |n| format!("{n}{}", "x".repeat(length));
            let said = EndpointSummary::new((0..1_000).map(|n| summary(&name(n), 1)));
            assert_eq!(said.backends.len() + said.more, 1_000);
            assert!((10..=MOST_BACKENDS).contains(&said.backends.len()), "{said:?}");
            let text = serde_json::to_string(&said).unwrap();
            assert!(text.len() < MOST_BYTES + 100, "{}", text.len());
        }
    }
}
