//! Where somebody answers, and where nobody does.

use std::fmt;

use super::Encoder;
use crate::endpoint_health::{BackendHealth, EndpointHealth};

/// Nothing while there is nobody who knows.
pub(super) fn encode(health: Option<&EndpointHealth>, encoder: &mut Encoder<'_>) -> fmt::Result {
    let Some(health) = health else { return Ok(()) };
    let backends = health.backends();
    encoder.gauges(
        "backend_endpoints",
        "Endpoints of a backend: taken by new sessions, or passed over because nobody answers there.",
        backends.iter().flat_map(|BackendHealth { backend, taken, passed_over }| {
            [("taken", *taken), ("passed_over", *passed_over)].map(|(state, count)| {
                let backend = ("backend", backend.to_string());
                ([backend, ("state", state.to_owned())], count)
            })
        }),
    )?;
    encoder.counters(
        "backend_failed_attempts",
        "Times that a session or request met nobody at an endpoint of a backend.",
        None,
        health.failures().into_iter().map(|(backend, failure, count)| {
            let backend = ("backend", backend.to_string());
            ([backend, ("reason", failure.as_str().to_owned())], count)
        }),
    )
}
