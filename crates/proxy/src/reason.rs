use std::fmt;

use l4way_model::RefusedReason;

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $class:ident;)*) => {
        /// Why a session ended or was never begun: the fixed list that metrics and records use.
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

            /// What kind of end it was.
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
    /// Out of descriptors, local ports or memory.
    OutOfResources = "out_of_resources", Error;
    /// The UDP session was silent for the session timeout.
    SessionTimeout = "session_timeout", Normal;
    /// The UDP session table was full, and this was the longest idle one.
    Evicted = "evicted", Error;
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
    /// Refused: the listener has no route.
    NoRoute = "no_route", Refused;
    /// Refused: the route's backendRef can't be resolved.
    InvalidBackend = "invalid_backend", Refused;
    /// Refused: the route's weights sum to 0.
    NoWeight = "no_weight", Refused;
    /// Refused: the backend has no endpoint that takes new sessions.
    NoEndpoint = "no_endpoint", Refused;
}

/// What kind of end a [`CloseReason`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseClass {
    /// As client, endpoint or operator wanted.
    Normal,
    /// Something went wrong.
    Error,
    /// The session was never begun, because the configuration refuses it.
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
