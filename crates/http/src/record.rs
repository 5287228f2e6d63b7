//! Records of HTTPS connections, for the access log.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use l4way_session::{CloseReason, Labels, SessionRecord, SessionStart, TlsRecord, Verdict};
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
        if self.shared.settings.tap.is_open() {
            self.tls = describe_session(self.tls.server_name.take(), session, Some(terminator));
        }
    }

    /// Tells that the session begins.
    pub(crate) fn begin(&self) {
        self.shared.settings.tap.begin(|| self.session_start());
    }

    /// Tells that the session doesn't begin.
    pub(crate) fn refuse(self, reason: CloseReason) {
        self.shared.settings.tap.decide(|| (self.session_start(), Verdict::Refused(reason)));
        self.end(reason);
    }

    /// Tells of the session's end.
    pub(crate) fn end(self, reason: CloseReason) {
        let is_taken = self.shared.settings.tap.end(|| {
            let Self { labels, downstream, local, .. } = self;
            let session = SessionStart { labels, downstream, local };
            SessionRecord {
                bytes_upstream: self.meter.upstream.load(Relaxed),
                bytes_downstream: self.meter.downstream.load(Relaxed),
                tls: Some(Box::new(self.tls)),
                ..SessionRecord::new(session, Some(self.started), self.begun.elapsed(), reason)
            }
        });
        if !is_taken {
            self.shared.counters.records_dropped.increment();
        }
    }

    /// Start of the session, as observers have it.
    fn session_start(&self) -> SessionStart {
        SessionStart { labels: self.labels.clone(), downstream: self.downstream, local: self.local }
    }
}
