//! What is counted of HTTP.

use std::fmt;

use l4way_http::{HttpSnapshot, RequestLabels};

use super::{Encoder, listener_name};

/// The labels of every metric about requests; one that doesn't apply is empty.
fn request_labels(labels: &RequestLabels) -> Vec<(&'static str, String)> {
    let RequestLabels { listener, route, backend } = labels;
    let gateway = listener.as_ref().map(|listener| listener.gateway.to_string());
    vec![
        ("gateway", gateway.unwrap_or_default()),
        ("listener", listener.as_ref().map(listener_name).unwrap_or_default()),
        ("route", route.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("backend", backend.as_ref().map(ToString::to_string).unwrap_or_default()),
    ]
}

pub(super) fn encode(counters: &HttpSnapshot, encoder: &mut Encoder<'_>) -> fmt::Result {
    requests(counters, encoder)?;
    connections(counters, encoder)
}

fn requests(counters: &HttpSnapshot, encoder: &mut Encoder<'_>) -> fmt::Result {
    let rows: Vec<_> = counters.rows.iter().map(|row| (request_labels(&row.labels), row)).collect();
    encoder.counters(
        "http_requests",
        "HTTP requests answered, by an endpoint or by l4way, by class of the status code.",
        None,
        rows.iter().flat_map(|(labels, row)| {
            row.answered().map(move |(class, count)| ((&labels[..], [("code", class)]), count))
        }),
    )?;
    encoder.counters(
        "http_errors",
        "HTTP requests that no endpoint answered, or not to the end, by reason.",
        None,
        rows.iter().flat_map(|(labels, row)| {
            row.errors()
                .map(move |(reason, count)| ((&labels[..], [("reason", reason.as_str())]), count))
        }),
    )?;
    let upgraded = rows.iter().filter(|(_, row)| row.upgrades > 0);
    encoder.counters(
        "http_upgrades",
        "HTTP connections upgraded to another protocol.",
        None,
        upgraded.map(|(labels, row)| (&labels[..], row.upgrades)),
    )
}

fn connections(counters: &HttpSnapshot, encoder: &mut Encoder<'_>) -> fmt::Result {
    encoder.gauge(
        "http_connections_active",
        "HTTP connections of clients there are, upgraded ones among them.",
        None,
        counters.active_connections,
    )?;
    encoder.counter(
        "http_accept_pauses",
        "Times that accepting HTTP connections stopped for a while for lack of descriptors or \
         memory.",
        counters.accept_pauses,
    )?;
    encoder.counter(
        "http_limit_pauses",
        "Times that an HTTP connection had to wait, as there were as many sessions as there may be.",
        counters.limit_pauses,
    )?;
    encoder.counter(
        "http_idle_evictions",
        "Idle connections of HTTP and HTTPS that ended at the session limit, so that there was room \
         for others.",
        counters.idle_evictions,
    )
}
