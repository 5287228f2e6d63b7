//! Records of HTTPS connections, for the access log.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use l4way_model::Transport;
use l4way_session::{CloseReason, Labels, SessionRecord, TlsRecord};
use l4way_tls::{Terminator, describe_session};
use rustls::CommonState;

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
    pub(crate) fn describe(&mut self, session: &CommonState, terminator: &Terminator) {
        if self.shared.settings.records.is_on() {
            self.tls = describe_session(self.tls.server_name.take(), session, Some(terminator));
        }
    }

    /// Hands it over.
    pub(crate) fn end(self, reason: CloseReason) {
        let is_taken = self.shared.settings.records.record(|| SessionRecord {
            transport: Transport::Tcp,
            labels: self.labels,
            endpoint: None,
            attempts: 0,
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
        });
        if !is_taken {
            self.shared.counters.records_dropped.increment();
        }
    }
}
