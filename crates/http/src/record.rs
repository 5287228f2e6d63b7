//! Records of HTTPS connections, for the access log.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::TrySendError},
    time::{Instant, SystemTime},
};

use l4way_model::Transport;
use l4way_proxy::{CloseReason, Labels, SessionRecord, TlsRecord};
use l4way_tls::Terminator;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use crate::{control::Shared, metered::Meter};

/// What there is to tell of a connection when it has ended.
pub(crate) struct Record {
    pub(crate) shared: Arc<Shared>,
    pub(crate) labels: Arc<Labels>,
    pub(crate) downstream: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) started: SystemTime,
    pub(crate) begun: Instant,
    pub(crate) tls: TlsRecord,
    pub(crate) meter: Arc<Meter>,
}

impl Record {
    /// Takes down what the TLS session is like.
    pub(crate) fn describe(&mut self, session: &ServerConnection, terminator: &Terminator) {
        if self.shared.settings.records.is_none() {
            return;
        }
        let tls13 = session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let suite = session.negotiated_cipher_suite();
        let protocol = session.alpn_protocol();
        self.tls = TlsRecord {
            server_name: self.tls.server_name.take(),
            version: Some(if tls13 { "1.3" } else { "1.2" }),
            cipher_suite: suite.map(l4way_tls::suite_name),
            application_protocol: protocol.map(|name| String::from_utf8_lossy(name).into_owned()),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            client: session.peer_certificates().and_then(|chain| terminator.identify(chain)),
        };
    }

    /// Hands it over.
    pub(crate) fn end(self, reason: CloseReason) {
        let Some(sink) = &self.shared.settings.records else { return };
        let record = SessionRecord {
            transport: Transport::Tcp,
            labels: self.labels,
            endpoint: None,
            downstream: self.downstream,
            local: self.local,
            bytes_upstream: self.meter.upstream.load(Relaxed),
            bytes_downstream: self.meter.downstream.load(Relaxed),
            datagrams_upstream: 0,
            datagrams_downstream: 0,
            started: self.started,
            duration: self.begun.elapsed(),
            connect_time: None,
            reason,
            tls: Some(Box::new(self.tls)),
        };
        if let Err(TrySendError::Full(_)) = sink.try_send(record) {
            self.shared.counters.records_dropped.increment();
        }
    }
}
