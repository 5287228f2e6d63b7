//! What is counted of TLS.

use std::fmt;

use l4way_model::ListenerId;
use l4way_session::HandshakeSnapshot;
use prometheus_client::registry::Unit;

use super::{Encoder, listener_name};
use crate::certificates::Certificate;

type Labels = [(&'static str, String); 2];

fn labels(listener: &ListenerId) -> Labels {
    [("gateway", listener.gateway.to_string()), ("listener", listener_name(listener))]
}

pub(super) fn handshakes(
    handshakes: &[HandshakeSnapshot],
    encoder: &mut Encoder<'_>,
) -> fmt::Result {
    let rows: Vec<_> = handshakes.iter().map(|row| (labels(&row.listener), row)).collect();
    encoder.counters(
        "tls_handshakes",
        "TLS handshakes of clients that succeeded, by version and whether an earlier session was \
         resumed.",
        None,
        rows.iter().flat_map(|(labels, row)| {
            row.succeeded().map(move |(kind, count)| {
                let version = if kind.tls13 { "1.3" } else { "1.2" };
                let resumed = if kind.resumed { "true" } else { "false" };
                ((&labels[..], [("version", version), ("resumed", resumed)]), count)
            })
        }),
    )?;
    encoder.counters(
        "tls_handshakes_failed",
        "Clients of TLS and HTTPS listeners that got no session, by reason. Without a listener: no \
         listener was for them.",
        None,
        rows.iter().flat_map(|(labels, row)| {
            row.failed()
                .map(move |(reason, count)| ((&labels[..], [("reason", reason.as_str())]), count))
        }),
    )?;
    encoder.histograms(
        "tls_handshake",
        "Time from an accepted connection to the end of its TLS handshake.",
        rows.iter().map(|(labels, row)| (&labels[..], &row.time)),
    )
}

pub(super) fn certificates(certificates: &[Certificate], encoder: &mut Encoder<'_>) -> fmt::Result {
    encoder.gauges_of(
        "certificate_expiry_timestamp",
        "When a certificate that a listener shows expires.",
        &Unit::Seconds,
        certificates.iter().map(|certificate| {
            let name = [("certificate", certificate.name.to_string())];
            ((labels(&certificate.listener), name), certificate.not_after)
        }),
    )
}
