//! What is counted.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::StatusCode;
use l4way_model::{BackendId, ListenerId, RefusedReason, RouteId};

use crate::snapshot::{HttpSnapshot, RequestRowSnapshot};

/// What a row of counters is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestLabels {
    /// The listener, and with it the Gateway; none for requests that belong to none.
    pub listener: Option<ListenerId>,
    /// The route; none for requests that no rule matches.
    pub route: Option<RouteId>,
    /// The backend; none for requests that are refused before one is chosen.
    pub backend: Option<BackendId>,
}

macro_rules! error_reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $status:expr;)*) => {
        /// Why a request wasn't answered by an endpoint, or not to the end: the fixed list that
        /// metrics use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ErrorReason {
            $($(#[$doc])* $name,)*
        }

        impl ErrorReason {
            /// Every reason, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The reason as metrics spell it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// What the client is answered, if it can be.
            pub fn status(self) -> Option<StatusCode> {
                match self {
                    $(Self::$name => $status,)*
                }
            }
        }
    };
}

error_reasons! {
    /// The request names no host, several, or something that is none.
    BadHost = "bad_host", Some(StatusCode::BAD_REQUEST);
    /// The request's target is none that HTTP has, or has a dot segment that some see and others don't.
    BadTarget = "bad_target", Some(StatusCode::BAD_REQUEST);
    /// The request's body can't be read.
    BadBody = "bad_body", Some(StatusCode::BAD_REQUEST);
    /// The request's body has another transfer coding than `chunked`.
    CodingNotSupported = "coding_not_supported", Some(StatusCode::NOT_IMPLEMENTED);
    /// CONNECT isn't for a gateway.
    MethodNotSupported = "method_not_supported", Some(StatusCode::NOT_IMPLEMENTED);
    /// No listener is for the host.
    NoListener = "no_listener", Some(StatusCode::NOT_FOUND);
    /// The host is another listener's than that of the TLS session.
    Misdirected = "misdirected", Some(StatusCode::MISDIRECTED_REQUEST);
    /// No rule of the listener matches.
    NoRoute = "no_route", Some(StatusCode::NOT_FOUND);
    /// The route's backendRef can't be resolved.
    InvalidBackend = "invalid_backend", Some(StatusCode::INTERNAL_SERVER_ERROR);
    /// The rule has no backend with weight.
    NoWeight = "no_weight", Some(StatusCode::INTERNAL_SERVER_ERROR);
    /// The backend has no endpoint.
    NoEndpoint = "no_endpoint", Some(StatusCode::SERVICE_UNAVAILABLE);
    /// The request has been forwarded by the same rule before.
    Loop = "loop", Some(StatusCode::LOOP_DETECTED);
    /// None of the endpoints that were tried could be connected to.
    ConnectFailed = "connect_failed", Some(StatusCode::SERVICE_UNAVAILABLE);
    /// There is no descriptor for a connection to an endpoint.
    OutOfResources = "out_of_resources", Some(StatusCode::SERVICE_UNAVAILABLE);
    /// The endpoint's TLS session could not be begun: its certificate doesn't prove what it has to, or
    /// it doesn't speak TLS.
    UpstreamTlsFailed = "upstream_tls_failed", Some(StatusCode::BAD_GATEWAY);
    /// The last endpoint that was tried didn't accept the connection in time.
    ConnectTimeout = "connect_timeout", Some(StatusCode::GATEWAY_TIMEOUT);
    /// The endpoint ended the connection before it answered, or what it answered is no HTTP.
    UpstreamFailed = "upstream_failed", Some(StatusCode::BAD_GATEWAY);
    /// The rest of the request didn't come within time.
    RequestTimeout = "request_timeout", Some(StatusCode::REQUEST_TIMEOUT);
    /// The endpoint took no more of the request for too long.
    UpstreamStalled = "upstream_stalled", Some(StatusCode::GATEWAY_TIMEOUT);
    /// The endpoint didn't answer, or go on with its answer, for too long.
    AnswerTimeout = "answer_timeout", Some(StatusCode::GATEWAY_TIMEOUT);
    /// The client took no more of the answer for too long.
    DownstreamStalled = "downstream_stalled", None;
    /// The memory budget was used up, and a side hadn't taken what was held for it for longest.
    MemoryBudget = "memory_budget", Some(StatusCode::SERVICE_UNAVAILABLE);
    /// The endpoint's answer broke off.
    UpstreamAborted = "upstream_aborted", None;
    /// The client went before there was an answer. One that has ended only its own side may still read one.
    DownstreamGone = "downstream_gone", Some(StatusCode::BAD_REQUEST);
}

impl From<RefusedReason> for ErrorReason {
    fn from(reason: RefusedReason) -> Self {
        match reason {
            // A request's name is its host, and that is a listener's or a route's.
            RefusedReason::NoRoute | RefusedReason::UnrecognizedName => Self::NoRoute,
            RefusedReason::InvalidBackend => Self::InvalidBackend,
            RefusedReason::NoWeight => Self::NoWeight,
            RefusedReason::NoEndpoint => Self::NoEndpoint,
        }
    }
}

impl fmt::Display for ErrorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number that anybody may change.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of one listener, route and backend.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) labels: Arc<RequestLabels>,
    /// Requests that were answered, by the hundreds of the status code.
    answered: [Counter; 5],
    errors: [Counter; ErrorReason::ALL.len()],
    /// Connections that were upgraded to another protocol.
    pub(crate) upgrades: Counter,
}

impl Row {
    fn new(labels: Arc<RequestLabels>) -> Self {
        let (answered, errors) = Default::default();
        Self { labels, answered, errors, upgrades: Counter::default() }
    }

    /// A request was answered.
    pub(crate) fn answer(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        // What HTTP doesn't know is as bad as a failure of the endpoint.
        self.answered[class.clamp(1, 5) - 1].increment();
    }

    /// A request wasn't answered by an endpoint, or not to the end.
    pub(crate) fn error(&self, reason: ErrorReason) {
        self.errors[reason as usize].increment();
    }

    fn snapshot(&self) -> RequestRowSnapshot {
        RequestRowSnapshot {
            labels: self.labels.clone(),
            answered: self.answered.each_ref().map(Counter::get),
            errors: self.errors.each_ref().map(Counter::get),
            upgrades: self.upgrades.get(),
        }
    }
}

/// All the counters of an [`HttpProxy`]. Cheap to share: the one to hand to whoever serves metrics.
///
/// [`HttpProxy`]: crate::HttpProxy
#[derive(Debug, Default)]
pub struct HttpCounters {
    rows: Mutex<BTreeMap<Arc<RequestLabels>, Arc<Row>>>,
    connections: Counter,
    /// Times that accepting was paused for lack of descriptors or memory.
    pub(crate) accept_pauses: Counter,
    /// Times that connections waited for the session limit.
    pub(crate) limit_pauses: Counter,
    /// Idle connections that had to leave at the session limit.
    pub(crate) idle_evictions: Counter,
    /// Records that the access log had no room for.
    pub(crate) records_dropped: Counter,
}

impl HttpCounters {
    /// The row with these labels.
    pub(crate) fn row(&self, labels: RequestLabels) -> Arc<Row> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = Arc::new(labels);
        rows.entry(labels.clone()).or_insert_with(|| Arc::new(Row::new(labels))).clone()
    }

    /// The client connections that there are, upgraded ones among them.
    pub fn active_connections(&self) -> u64 {
        self.connections.get()
    }

    /// All of them at one time. A row lasts as long as its rule is in force or requests that took
    /// it are left; should it come back later, it starts at 0 like a counter after a restart.
    pub fn snapshot(&self) -> HttpSnapshot {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = HttpSnapshot {
            rows: rows.values().map(|row| row.snapshot()).collect(),
            active_connections: self.active_connections(),
            accept_pauses: self.accept_pauses.get(),
            limit_pauses: self.limit_pauses.get(),
            idle_evictions: self.idle_evictions.get(),
            records_dropped: self.records_dropped.get(),
        };
        // After they were read, so that a row's last counts are seen once.
        rows.retain(|_, row| Arc::strong_count(row) > 1);
        snapshot
    }
}

/// A connection, among the active ones while it lasts.
#[derive(Debug)]
pub(crate) struct ActiveConnection(Arc<HttpCounters>);

impl ActiveConnection {
    pub(crate) fn new(counters: Arc<HttpCounters>) -> Self {
        counters.connections.increment();
        Self(counters)
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        self.0.connections.decrement();
    }
}
