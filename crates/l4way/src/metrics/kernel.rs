//! What is counted of the kernel path beside sessions, which are in the proxy's metrics.

use std::{collections::BTreeMap, fmt};

use l4way_kernel::EndpointRow;
use l4way_model::{ListenerId, PathReport};

use super::{Encoder, SessionLabel, directions, listener_name, session_labels};
use crate::kernel_path::KernelSnapshot;

/// Nothing where the kernel may not carry sessions.
pub(super) fn encode(
    snapshot: Option<&KernelSnapshot>,
    paths: &BTreeMap<ListenerId, PathReport>,
    encoder: &mut Encoder<'_>,
) -> fmt::Result {
    if !paths.is_empty() {
        encoder.gauges(
            "listener_on_kernel_path",
            "1 if the kernel carries the listener's new sessions, 0 if the proxy does.",
            paths.iter().map(|(id, path)| {
                let labels = [("gateway", id.gateway.to_string()), ("listener", listener_name(id))];
                (labels, u64::from(*path == PathReport::Kernel))
            }),
        )?;
    }
    let Some(KernelSnapshot { totals, endpoints: rows }) = snapshot else { return Ok(()) };
    endpoints(rows, encoder)?;
    encoder.counter(
        "kernel_events_lost",
        "Times that conntrack's events were lost. A dump makes them good, but for the last bytes of \
         sessions that ended and why they did.",
        totals.lost_events,
    )
}

fn endpoints(rows: &[std::sync::Arc<EndpointRow>], encoder: &mut Encoder<'_>) -> fmt::Result {
    let labelled: Vec<_> = rows.iter().map(|row| (labels(row), row)).collect();
    let all = || labelled.iter().map(|(labels, row)| (labels.as_slice(), row));
    encoder.counters(
        "kernel_endpoint_sessions_opened",
        "Sessions begun on the kernel path, by endpoint.",
        None,
        all().map(|(labels, row)| (labels, row.opened())),
    )?;
    encoder.gauges(
        "kernel_endpoint_sessions_active",
        "Sessions there are on the kernel path, by endpoint.",
        all().map(|(labels, row)| (labels, row.active())),
    )?;
    encoder.counters(
        "kernel_endpoint_session",
        "Payload bytes on the kernel path, by endpoint and direction.",
        Some(&prometheus_client::registry::Unit::Bytes),
        all().flat_map(|(labels, row)| {
            let [upstream, downstream] = row.bytes();
            directions(labels, upstream, downstream)
        }),
    )
}

fn labels(row: &EndpointRow) -> Vec<SessionLabel> {
    let mut labels = session_labels(&row.labels);
    labels.push(("endpoint", row.endpoint.to_string()));
    labels
}
