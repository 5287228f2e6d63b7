use std::fmt;

use l4way_model::RefusedReason;

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $class:ident;)*) => {
        /// Reason why a session ended or was never begun: the fixed list that metrics and records
        /// use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum CloseReason {
            $($(#[$doc])* $name,)*
        }

        impl CloseReason {
            /// Every reason, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The reason as metrics and records spell it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// Kind of end that it was.
            pub fn class(self) -> CloseClass {
                match self {
                    $(Self::$name => CloseClass::$class,)*
                }
            }
        }
    };
}

close_reasons! {
    /// Both sides said that they are done.
    Closed = "closed", Normal;
    /// The client reset the connection.
    DownstreamReset = "downstream_reset", Normal;
    /// The endpoint reset the connection.
    UpstreamReset = "upstream_reset", Error;
    /// The client no longer answers (keepalive, retransmission) or can't be reached.
    DownstreamLost = "downstream_lost", Error;
    /// The endpoint no longer answers (keepalive, retransmission) or can't be reached.
    UpstreamLost = "upstream_lost", Error;
    /// Every endpoint that was tried refused the connection, or the last one did.
    ConnectRefused = "connect_refused", Error;
    /// The last endpoint that was tried didn't answer in time.
    ConnectTimeout = "connect_timeout", Error;
    /// The last endpoint that was tried can't be reached: no route, no such socket file, …
    ConnectFailed = "connect_failed", Error;
    /// A side reset the connection; the kernel carried it, and doesn't tell which.
    Reset = "reset", Normal;
    /// The kernel carried the session, and hasn't told why it ended.
    Unknown = "unknown", Normal;
    /// HTTP: a head, the next request or a body didn't come within time, or wasn't taken.
    IdleTimeout = "idle_timeout", Normal;
    /// The memory budget was used up, and of those who take nothing this session's peer had been silent
    /// for longest.
    MemoryBudget = "memory_budget", Error;
    /// Out of descriptors, local ports or memory.
    OutOfResources = "out_of_resources", Error;
    /// The UDP session was silent for the session timeout.
    SessionTimeout = "session_timeout", Normal;
    /// The UDP session table was full, and this was the longest idle one.
    Evicted = "evicted", Error;
    /// The session limit was reached, and the client had been silent since the TCP session began.
    EvictedUnused = "evicted_unused", Error;
    /// The UDP session made room for another one, and had never been answered.
    EvictedUnanswered = "evicted_unanswered", Error;
    /// The session limit was reached, and the client of HTTPS had no request.
    EvictedIdle = "evicted_idle", Error;
    /// The session limit was reached, and the TCP session was silent for longest of those of the client that
    /// had most; with `atLimit: Evict` only.
    EvictedSilent = "evicted_silent", Error;
    /// An ICMP error came for the UDP session.
    IcmpUnreachable = "icmp_unreachable", Error;
    /// The UDP session's endpoint is gone; the client's next datagram begins a new one.
    EndpointRemoved = "endpoint_removed", Normal;
    /// The listener was removed and its drain deadline passed.
    ListenerRemoved = "listener_removed", Normal;
    /// The proxy was drained and the deadline passed.
    Drained = "drained", Normal;
    /// The proxy was stopped without a drain.
    Shutdown = "shutdown", Normal;
    /// The endpoint's TLS session could not be begun: its certificate doesn't prove what it has to, it
    /// wants one that the proxy doesn't have, or it doesn't speak TLS.
    UpstreamTlsFailed = "upstream_tls_failed", Error;
    /// What a peer sent is no TLS, or was changed on its way.
    TlsBroken = "tls_broken", Error;
    /// Refused: the listener has no route.
    NoRoute = "no_route", Refused;
    /// Refused: no listener or route is for the server name that the client asks for, or for clients
    /// that ask for none.
    UnrecognizedName = "unrecognized_name", Refused;
    /// Refused: the client's first bytes are neither TLS nor PostgreSQL's request for it.
    NotTls = "not_tls", Refused;
    /// Refused: the client sent nothing and waited for the server to speak first, as those of MySQL and
    /// MariaDB do.
    SilentAsMysql = "silent_as_mysql", Refused;
    /// Refused: the client took too long for its handshake.
    HandshakeTimeout = "handshake_timeout", Refused;
    /// Refused: client and listener have too little in common, or the client broke the protocol.
    HandshakeFailed = "handshake_failed", Refused;
    /// Refused: the client has no valid certificate.
    ClientCertificate = "client_certificate", Refused;
    /// Refused: the client left before its handshake was over.
    HandshakeAborted = "handshake_aborted", Refused;
    /// Refused: there were too many handshakes at a time, and this one had gone on longest.
    HandshakeEvicted = "handshake_evicted", Refused;
    /// Refused: the route's backendRef can't be resolved.
    InvalidBackend = "invalid_backend", Refused;
    /// Refused: the route's weights sum to 0.
    NoWeight = "no_weight", Refused;
    /// Refused: the backend has no endpoint that takes new sessions.
    NoEndpoint = "no_endpoint", Refused;
    /// Refused: the session came from this proxy, by the route that it would take again.
    Loop = "loop", Refused;
}

/// Kind of end that a [`CloseReason`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseClass {
    /// As client, endpoint or operator wanted.
    Normal,
    /// Something went wrong.
    Error,
    /// The session was never begun: the configuration refuses it, or its TLS handshake failed.
    Refused,
}

impl CloseClass {
    /// The class as metrics and records spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Error => "error",
            Self::Refused => "refused",
        }
    }
}

impl From<RefusedReason> for CloseReason {
    fn from(reason: RefusedReason) -> Self {
        match reason {
            RefusedReason::NoRoute => Self::NoRoute,
            RefusedReason::UnrecognizedName => Self::UnrecognizedName,
            RefusedReason::InvalidBackend => Self::InvalidBackend,
            RefusedReason::NoWeight => Self::NoWeight,
            RefusedReason::NoEndpoint => Self::NoEndpoint,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
