//! What is counted of the kernel path beside sessions, which are in the proxy's metrics.

use std::{collections::BTreeMap, fmt};

use l4way_kernel::Totals;
use l4way_model::{ListenerId, PathReport};

use super::{Encoder, listener_name};

/// Nothing where the kernel may not carry sessions.
pub(super) fn encode(
    totals: Option<Totals>,
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
    if let Some(totals) = totals {
        encoder.counter(
            "kernel_events_lost",
            "Times that conntrack's events were lost; what they told of is found by a dump, but for \
             the last bytes and the end of sessions.",
            totals.lost_events,
        )?;
    }
    Ok(())
}
