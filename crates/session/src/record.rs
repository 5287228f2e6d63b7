use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, SystemTime},
};

use l4way_model::{EndpointAddress, Transport};

use crate::{ClientIdentity, CloseReason, Labels};

/// What happened in one session, for the access log.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// TCP or UDP.
    pub transport: Transport,
    /// The listener (and with it the Gateway), route and backend.
    pub labels: Arc<Labels>,
    /// The endpoint, if the session got as far as trying one: the last one that was tried.
    pub endpoint: Option<EndpointAddress>,
    /// How many endpoints were tried, this one among them; 0 if none was. A UDP session has one: where a
    /// client's datagrams go elsewhere, that is another session.
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

/// The way to where records go, which may be switched on and off while sessions run. Off, it costs a
/// session the look whether it is on. Clones are one and the same.
///
/// A session leaves a record if it is on when the session ends. If it was off when the session began,
/// the record tells the beginning by the clock at its end.
#[derive(Clone, Debug, Default)]
pub struct Records(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    on: AtomicBool,
    /// Where they go, once it has been on.
    sink: OnceLock<SyncSender<SessionRecord>>,
}

impl Records {
    /// Records go to this sink from the beginning.
    pub fn to(sink: SyncSender<SessionRecord>) -> Self {
        Self(Arc::new(Switch { on: AtomicBool::new(true), sink: sink.into() }))
    }

    /// Switches it on. Records go to `sink`, unless there has been another one before.
    pub fn switch_on(&self, sink: Option<SyncSender<SessionRecord>>) {
        if let Some(sink) = sink {
            // Whoever makes a second one has to see that it gets nothing.
            let _ = self.0.sink.set(sink);
        }
        self.0.on.store(true, Relaxed);
    }

    /// Switches it off. The sink stays open.
    pub fn switch_off(&self) {
        self.0.on.store(false, Relaxed);
    }

    /// Whether anybody wants records; if not, nothing should be spent on collecting them.
    pub fn is_on(&self) -> bool {
        self.0.on.load(Relaxed)
    }

    /// Hands a record over, if it is on. False if the sink has no room for it.
    pub fn record(&self, record: impl FnOnce() -> SessionRecord) -> bool {
        if !self.is_on() {
            return true;
        }
        let Some(sink) = self.0.sink.get() else { return true };
        match sink.try_send(record()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.switch_off();
                true
            }
        }
    }
}

/// When something began that has gone on for so long, if nobody has asked the clock then.
pub fn began_before(duration: Duration) -> SystemTime {
    SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH)
}
