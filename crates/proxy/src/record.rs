use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, SystemTime},
};

use l4way_model::{EndpointAddress, Transport};

use crate::{
    CloseReason,
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
