use std::{fmt::Display, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use l4way_model::Transport;
use l4way_session::{SessionRecord, TlsRecord};
use serde::{Serialize, Serializer};

use crate::metrics::listener_name;

/// A record as the log has it. The names are an interface: fields may be added, but those that are
/// there keep their names and meaning. What doesn't apply is null.
#[derive(Serialize)]
struct Line<'a> {
    /// When the session began: RFC 3339, UTC, milliseconds.
    time: String,
    /// `TCP` or `UDP`.
    protocol: Shown<Transport>,
    /// `namespace/name`.
    gateway: Shown<&'a l4way_model::GatewayId>,
    /// The listener's name in its Gateway; `namespace/set/name` if a ListenerSet brings it.
    listener: String,
    /// `kind/namespace/name`; null if the listener has none.
    route: Option<Shown<&'a l4way_model::RouteId>>,
    /// `kind/namespace/name:port`; null if the session was refused before one was chosen.
    backend: Option<Shown<&'a l4way_model::BackendId>>,
    /// The last address that was tried: `ip:port` or `unix:path`; null if none was.
    endpoint: Option<Shown<&'a l4way_model::EndpointAddress>>,
    /// How many endpoints were tried, that one among them; null if none was.
    attempts: Option<u8>,
    /// The client's address.
    downstream: std::net::SocketAddr,
    /// The address that the client wrote to.
    local: std::net::SocketAddr,
    /// Payload bytes from the client to the endpoint.
    bytes_upstream: u64,
    /// Payload bytes from the endpoint to the client.
    bytes_downstream: u64,
    /// Datagrams from the client to the endpoint; null for TCP.
    datagrams_upstream: Option<u64>,
    /// Datagrams from the endpoint to the client; null for TCP.
    datagrams_downstream: Option<u64>,
    /// How long the session lasted.
    duration_seconds: f64,
    /// How long it took to connect to the endpoint, failed attempts included; null for UDP, and if
    /// it was never connected.
    connect_seconds: Option<f64>,
    /// The time from the first datagram to the first reply; null for TCP, and without any reply.
    first_reply_seconds: Option<f64>,
    /// Why it ended: one of [`l4way_session::CloseReason`].
    reason: &'static str,
    /// What kind of end that is: `normal`, `error` or `refused`.
    class: &'static str,
    /// What the client's TLS session was like; null if there was none.
    tls: Option<Tls<'a>>,
}

/// A client's TLS session as the log has it.
#[derive(Serialize)]
struct Tls<'a> {
    /// The name that the client asked for.
    server_name: Option<&'a str>,
    /// `1.2` or `1.3`; null if the session went through to the endpoint, or never came about.
    version: Option<&'static str>,
    /// The cipher suite's IANA name.
    cipher_suite: Option<&'a str>,
    /// The application protocol that was agreed on.
    application_protocol: Option<&'a str>,
    /// Whether the client resumed an earlier session.
    resumed: bool,
    /// The subject of the client's certificate; null if it showed none.
    client_subject: Option<&'a str>,
    /// Its alternative names: `DNS:…`, `URI:…`, `IP:…`, `email:…`.
    client_alternative_names: Option<&'a [String]>,
    /// Whether an authority that the listener trusts has signed it.
    client_verified: Option<bool>,
}

impl<'a> Tls<'a> {
    fn of(record: &'a TlsRecord) -> Self {
        let client = record.client.as_ref();
        Self {
            server_name: record.server_name.as_deref(),
            version: record.version,
            cipher_suite: record.cipher_suite.as_deref(),
            application_protocol: record.application_protocol.as_deref(),
            resumed: record.resumed,
            client_subject: client.map(|client| &*client.subject),
            client_alternative_names: client.map(|client| &*client.alternative_names),
            client_verified: client.map(|client| client.verified),
        }
    }
}

/// Appends the record's line.
pub(super) fn append(batch: &mut Vec<u8>, record: &SessionRecord) {
    serde_json::to_writer(&mut *batch, &Line::of(record))
        .expect("a line has no map with keys that aren't strings, and memory takes every write");
    batch.push(b'\n');
}

impl<'a> Line<'a> {
    fn of(record: &'a SessionRecord) -> Self {
        let labels = &*record.labels;
        let is_udp = record.transport == Transport::Udp;
        let time = DateTime::<Utc>::from(record.started);
        let (connect_seconds, first_reply_seconds) = match record.transport {
            Transport::Tcp => (record.connect_time.map(seconds), None),
            Transport::Udp => (None, record.connect_time.map(seconds)),
        };
        Self {
            time: time.to_rfc3339_opts(SecondsFormat::Millis, true),
            protocol: Shown(record.transport),
            gateway: Shown(&labels.listener.gateway),
            listener: listener_name(&labels.listener),
            route: labels.route.as_ref().map(Shown),
            backend: labels.backend.as_ref().map(Shown),
            endpoint: record.endpoint.as_ref().map(Shown),
            attempts: Some(record.attempts).filter(|&attempts| attempts > 0),
            downstream: record.downstream,
            local: record.local,
            bytes_upstream: record.bytes_upstream,
            bytes_downstream: record.bytes_downstream,
            datagrams_upstream: is_udp.then_some(record.datagrams_upstream),
            datagrams_downstream: is_udp.then_some(record.datagrams_downstream),
            duration_seconds: seconds(record.duration),
            connect_seconds,
            first_reply_seconds,
            reason: record.reason.as_str(),
            class: record.reason.class().as_str(),
            tls: record.tls.as_deref().map(Tls::of),
        }
    }
}

/// In seconds, to the microsecond.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

/// A value as it is displayed.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
