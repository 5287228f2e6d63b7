//! The tap on sessions: through it carriers tell of their sessions, to whoever listens.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
        mpsc::{SyncSender, TrySendError},
    },
    time::SystemTime,
};

use l4way_model::EndpointAddress;

use crate::{CloseReason, Labels, SessionRecord};

/// Records are wanted.
const RECORDS: u8 = 1;
/// There is an observer.
const OBSERVER: u8 = 2;

/// A session, by what is known of it from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStart {
    /// The listener (and with it the Gateway), route and backend.
    pub labels: Arc<Labels>,
    /// The client's address.
    pub downstream: SocketAddr,
    /// The address that the client wrote to.
    pub local: SocketAddr,
}

/// Decision on where a session goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To this endpoint, which has accepted the connection if it is one of TCP.
    Forwarded(EndpointAddress),
    /// Nowhere.
    Refused(CloseReason),
}

/// Listener to what happens to sessions: for flows and traces. It is called by those who carry
/// sessions, in the middle of their work, so it must not block.
pub trait SessionObserver: fmt::Debug + Send + Sync {
    /// A session began: its client is let in, and there is a backend for it.
    fn began(&self, session: &SessionStart);

    /// It was decided where a session goes. One that is refused has not begun. Datagrams that begin
    /// no session are refused by the batch. A connection of HTTPS gets no other verdict than a
    /// refusal, for each of its requests goes its own way.
    fn decided(&self, session: &SessionStart, verdict: &Verdict);

    /// A session ended, or a connection was refused.
    fn ended(&self, record: &SessionRecord);
}

/// The tap on sessions. It has two outlets: the access log's, for records, which may be opened and
/// closed while sessions run; and an observer's. While both are closed it costs a session the look
/// whether they are, and nothing is collected. Clones are one and the same.
///
/// A session leaves a record if somebody listens when it ends. If nobody did when it began, the
/// record tells the beginning by the clock at its end.
#[derive(Clone, Debug, Default)]
pub struct Tap(Arc<Outlets>);

#[derive(Debug, Default)]
struct Outlets {
    /// The open ones: [`RECORDS`], [`OBSERVER`] or both.
    open: AtomicU8,
    /// Sink of records, once they have been wanted.
    sink: OnceLock<SyncSender<SessionRecord>>,
    observer: OnceLock<Arc<dyn SessionObserver>>,
}

impl Tap {
    /// Records go to this sink from the beginning.
    pub fn to(sink: SyncSender<SessionRecord>) -> Self {
        let tap = Self::default();
        tap.switch_on(Some(sink));
        tap
    }

    /// Switches records on. They go to `sink`, unless there has been another one before.
    pub fn switch_on(&self, sink: Option<SyncSender<SessionRecord>>) {
        if let Some(sink) = sink {
            // Whoever makes a second one has to see that it gets nothing.
            let _ = self.0.sink.set(sink);
        }
        self.0.open.fetch_or(RECORDS, Relaxed);
    }

    /// Switches records off. The sink stays open.
    pub fn switch_off(&self) {
        self.0.open.fetch_and(!RECORDS, Relaxed);
    }

    /// Has an observer told of all sessions from now on, unless there is one already.
    pub fn observe(&self, observer: Arc<dyn SessionObserver>) {
        if self.0.observer.set(observer).is_ok() {
            self.0.open.fetch_or(OBSERVER, Relaxed);
        }
    }

    /// True if records are wanted.
    pub fn wants_records(&self) -> bool {
        self.open() & RECORDS != 0
    }

    /// True if anybody listens; if not, nothing should be spent on collecting what there is to
    /// tell.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.open() != 0
    }

    /// Tells that a session begins. Returns the time by the clock, if anybody listens, for its
    /// record.
    #[inline]
    pub fn begin(&self, session: impl FnOnce() -> SessionStart) -> Option<SystemTime> {
        if !self.is_open() {
            return None;
        }
        if let Some(observer) = self.observer() {
            observer.began(&session());
        }
        Some(SystemTime::now())
    }

    /// Tells where a session goes.
    #[inline]
    pub fn decide(&self, verdict: impl FnOnce() -> (SessionStart, Verdict)) {
        if let Some(observer) = self.observer() {
            let (session, verdict) = verdict();
            observer.decided(&session, &verdict);
        }
    }

    /// Tells of the end of a session. False if the access log has no room for the record.
    #[inline]
    pub fn end(&self, record: impl FnOnce() -> SessionRecord) -> bool {
        !self.is_open() || self.put(record())
    }

    fn put(&self, record: SessionRecord) -> bool {
        if let Some(observer) = self.observer() {
            observer.ended(&record);
        }
        let Some(sink) = self.0.sink.get().filter(|_| self.wants_records()) else { return true };
        match sink.try_send(record) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.switch_off();
                true
            }
        }
    }

    #[inline]
    fn open(&self) -> u8 {
        self.0.open.load(Relaxed)
    }

    #[inline]
    fn observer(&self) -> Option<&Arc<dyn SessionObserver>> {
        if self.open() & OBSERVER == 0 { None } else { self.0.observer.get() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, mpsc},
        time::Duration,
    };

    use l4way_model::{GatewayId, ListenerId, Transport};

    use super::*;

    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Notes {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl SessionObserver for Notes {
        fn began(&self, session: &SessionStart) {
            self.0.lock().unwrap().push(format!("{} began", session.downstream));
        }

        fn decided(&self, _: &SessionStart, verdict: &Verdict) {
            self.0.lock().unwrap().push(format!("{verdict:?}"));
        }

        fn ended(&self, record: &SessionRecord) {
            self.0.lock().unwrap().push(record.reason.to_string());
        }
    }

    fn start() -> SessionStart {
        let gateway = GatewayId::new("ns", "gw");
        let listener = ListenerId { gateway, listener_set: None, name: "l".into() };
        SessionStart {
            labels: Arc::new(Labels {
                transport: Transport::Tcp,
                listener,
                route: None,
                backend: None,
            }),
            downstream: "192.0.2.1:1000".parse().unwrap(),
            local: "192.0.2.2:80".parse().unwrap(),
        }
    }

    fn record(reason: CloseReason) -> SessionRecord {
        SessionRecord::new(start(), None, Duration::ZERO, reason)
    }

    #[test]
    fn nothing_is_collected_while_nobody_listens() {
        let tap = Tap::default();
        assert_eq!(tap.begin(|| unreachable!()), None);
        tap.decide(|| unreachable!());
        assert!(tap.end(|| unreachable!()));
    }

    #[test]
    fn an_observer_is_told_of_all_and_the_log_of_ends() {
        let (sink, records) = mpsc::sync_channel(1);
        let (tap, notes) = (Tap::to(sink), Arc::new(Notes::default()));
        tap.observe(notes.clone());
        assert!(tap.begin(start).is_some());
        tap.decide(|| (start(), Verdict::Refused(CloseReason::NoRoute)));
        assert!(tap.end(|| record(CloseReason::Closed)));
        assert_eq!(notes.take(), ["192.0.2.1:1000 began", "Refused(NoRoute)", "closed"]);
        assert!(!tap.end(|| record(CloseReason::Closed)), "there is no room");
        assert_eq!(records.try_recv().unwrap().reason, CloseReason::Closed);
        tap.switch_off();
        assert!(tap.end(|| record(CloseReason::Drained)));
        assert_eq!(notes.take(), ["closed", "drained"]);
        assert!(records.try_recv().is_err());
    }

    #[test]
    fn without_an_observer_verdicts_cost_nothing() {
        let (sink, records) = mpsc::sync_channel(1);
        let tap = Tap::to(sink);
        assert!(tap.begin(|| unreachable!()).is_some());
        tap.decide(|| unreachable!());
        drop(records);
        assert!(tap.end(|| record(CloseReason::Closed)));
        assert!(!tap.is_open(), "a log that is gone is switched off");
    }
}
