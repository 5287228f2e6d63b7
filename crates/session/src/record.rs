use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use l4way_model::{EndpointAddress, Transport};

use crate::{ClientIdentity, CloseReason, Labels, SessionStart};

/// Record of a session that has ended or was refused, for the access log.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// TCP or UDP.
    pub transport: Transport,
    /// The listener (and with it the Gateway), route and backend.
    pub labels: Arc<Labels>,
    /// The endpoint, if the session got as far as trying one: the last one that was tried.
    pub endpoint: Option<EndpointAddress>,
    /// Number of endpoints that were tried, this one among them; 0 if none was. A UDP session has
    /// one: where a client's datagrams go elsewhere, that is another session.
    pub attempts: u8,
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
    /// Time at which the session began.
    pub started: SystemTime,
    /// Time from its beginning to its end.
    pub duration: Duration,
    /// Time that the connection to the endpoint took, failed attempts included; for UDP, the time
    /// to the first reply. `None` if it never came to that.
    pub connect_time: Option<Duration>,
    /// Reason of its end.
    pub reason: CloseReason,
    /// Its TLS session with the client; of those that go through to the endpoint, the
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
    /// The client resumed an earlier session.
    pub resumed: bool,
    /// Identity of the client, if it showed a certificate.
    pub client: Option<ClientIdentity>,
}

impl SessionRecord {
    /// Record of a session that has carried nothing and tried no endpoint: whoever knows more
    /// changes it. Without `started`, the beginning is told by the clock now.
    pub fn new(
        session: SessionStart,
        started: Option<SystemTime>,
        duration: Duration,
        reason: CloseReason,
    ) -> Self {
        let SessionStart { labels, downstream, local } = session;
        Self {
            transport: labels.transport,
            labels,
            endpoint: None,
            attempts: 0,
            downstream,
            local,
            bytes_upstream: 0,
            bytes_downstream: 0,
            datagrams_upstream: 0,
            datagrams_downstream: 0,
            started: started.unwrap_or_else(|| began_before(duration)),
            duration,
            connect_time: None,
            reason,
            tls: None,
        }
    }
}

/// Beginning of something that has gone on for so long, if nobody has asked the clock then.
fn began_before(duration: Duration) -> SystemTime {
    SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH)
}
