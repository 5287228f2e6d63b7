use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, SystemTime},
};

use l4way_model::{EndpointAddress, Transport};
use l4way_tls::{ClientIdentity, Terminator, suite_name};
use rustls::CommonState;

use crate::{
    CloseReason, HandshakeKind,
    counters::{Labels, WorkerCounters},
};

/// What happened in one session, for the access log.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// TCP or UDP.
    pub transport: Transport,
    /// The listener (and with it the Gateway), route and backend.
    pub labels: Arc<Labels>,
    /// The endpoint, if the session got as far as choosing one: the last one that was tried.
    pub endpoint: Option<EndpointAddress>,
    /// The client's address.
    pub downstream: SocketAddr,
    /// The address that the client wrote to.
    pub local: SocketAddr,
    /// Payload bytes from the client to the endpoint.
    pub bytes_upstream: u64,
    /// Payload bytes from the endpoint to the client.
    pub bytes_downstream: u64,
    /// Datagrams from the client to the endpoint; 0 for TCP.
    pub datagrams_upstream: u64,
    /// Datagrams from the endpoint to the client; 0 for TCP.
    pub datagrams_downstream: u64,
    /// When the session began.
    pub started: SystemTime,
    /// How long it lasted.
    pub duration: Duration,
    /// How long the connection to the endpoint took, failed attempts included; for UDP, the time to
    /// the first reply. `None` if it never came to that.
    pub connect_time: Option<Duration>,
    /// Why it ended.
    pub reason: CloseReason,
    /// What its TLS session with the client was like; of those that go through to the endpoint, the
    /// server name is known.
    pub tls: Option<Box<TlsRecord>>,
}

/// A client's TLS session, for the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsRecord {
    /// The server name that the client asked for (RFC 6066, section 3).
    pub server_name: Option<Box<str>>,
    /// The version, if the proxy ended the session: `1.2` or `1.3`.
    pub version: Option<&'static str>,
    /// The cipher suite, by its IANA name, if the proxy ended the session.
    pub cipher_suite: Option<String>,
    /// The application protocol (RFC 7301), if one was agreed on.
    pub application_protocol: Option<String>,
    /// Whether the client resumed an earlier session.
    pub resumed: bool,
    /// Who the client is, if it showed a certificate.
    pub client: Option<ClientIdentity>,
}

impl TlsRecord {
    /// A session that the proxy ended, of a client that asked for this name. Who the client is,
    /// `terminator` tells.
    pub fn of(
        server_name: Option<Box<str>>,
        session: &CommonState,
        terminator: Option<&Terminator>,
    ) -> Self {
        let protocol = session.alpn_protocol();
        Self {
            server_name,
            version: Some(if HandshakeKind::of(session).tls13 { "1.3" } else { "1.2" }),
            cipher_suite: session.negotiated_cipher_suite().map(suite_name),
            application_protocol: protocol.map(|name| String::from_utf8_lossy(name).into_owned()),
            resumed: HandshakeKind::of(session).resumed,
            client: terminator
                .zip(session.peer_certificates())
                .and_then(|(terminator, chain)| terminator.identify(chain)),
        }
    }
}

/// A worker's way to the record sink.
#[derive(Debug)]
pub(crate) struct Recorder {
    sink: Option<SyncSender<SessionRecord>>,
}

impl Recorder {
    pub(crate) fn new(sink: Option<SyncSender<SessionRecord>>) -> Self {
        Self { sink }
    }

    /// Whether anybody wants records; if not, nothing should be spent on collecting them.
    pub(crate) fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Hands a record over, or counts it as dropped if the sink can't take it now.
    pub(crate) fn record(
        &mut self,
        counters: &WorkerCounters,
        record: impl FnOnce() -> SessionRecord,
    ) {
        let Some(sink) = &self.sink else { return };
        match sink.try_send(record()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => counters.records_dropped.add(1),
            Err(TrySendError::Disconnected(_)) => self.sink = None,
        }
    }
}
