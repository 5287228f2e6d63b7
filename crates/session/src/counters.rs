//! Counters. Each writer has rows of its own, resolved once when a session begins; a reader
//! adds them up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use l4way_model::{BackendId, ListenerId, RouteId, Transport};

use crate::{
    CloseReason, Writer,
    snapshot::{
        HandshakeSnapshot, HistogramSnapshot, RowSnapshot, SessionSnapshot, WorkerSnapshot,
    },
    writer::ByWriter,
};

/// Labels of a row of counters: the sessions that it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    /// TCP or UDP.
    pub transport: Transport,
    /// The listener, and with it the Gateway.
    pub listener: ListenerId,
    /// The route; none for sessions that a listener without a route refuses.
    pub route: Option<RouteId>,
    /// The backend; none for sessions that are refused before one is chosen.
    pub backend: Option<BackendId>,
}

/// A number that only ever grows, with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction: only the thread that owns the counter may call it.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// From the client to the endpoint.
    Upstream,
    /// From the endpoint to the client.
    Downstream,
}

/// Upper bounds of the histograms' buckets, in microseconds; a last bucket takes the rest.
pub(crate) const BUCKETS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// Durations, counted in buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS_US.len() + 1],
    sum_us: Counter,
}

impl Histogram {
    #[inline]
    pub(crate) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BUCKETS_US.partition_point(|&bound| bound < us)].add(1);
        self.sum_us.add(us);
    }

    fn add_to(&self, snapshot: &mut HistogramSnapshot) {
        for (total, bucket) in snapshot.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.get();
        }
        snapshot.sum += Duration::from_micros(self.sum_us.get());
    }
}

/// One writer's counters of one listener, route and backend. Only one thread at a time may write
/// each.
#[derive(Debug)]
pub struct Row {
    labels: Arc<Labels>,
    /// Sessions that were begun; refused ones aren't.
    opened: Counter,
    ended: [Counter; CloseReason::ALL.len()],
    bytes: [Counter; 2],
    datagrams: [Counter; 2],
    /// UDP: datagrams that the kernel would not send on: too long, no room, forbidden, …
    dropped: [Counter; 2],
    /// TCP: from the choice of the endpoint until it accepted, over all attempts.
    connect_time: Histogram,
    /// UDP: from a session's first datagram to the first reply.
    first_reply: Histogram,
    /// UDP: sessions that ended without any reply.
    unanswered: Counter,
}

/// A counter for each reason.
fn counters() -> [Counter; CloseReason::ALL.len()] {
    std::array::from_fn(|_| Counter::default())
}

impl Row {
    fn new(labels: Arc<Labels>) -> Self {
        Self {
            labels,
            opened: Counter::default(),
            ended: counters(),
            bytes: Default::default(),
            datagrams: Default::default(),
            dropped: Default::default(),
            connect_time: Histogram::default(),
            first_reply: Histogram::default(),
            unanswered: Counter::default(),
        }
    }

    /// The sessions that it counts.
    #[inline]
    pub fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    /// A session was begun.
    #[inline]
    pub fn open(&self) {
        self.opened.add(1);
    }

    /// TCP: the endpoint accepted, so long after it was chosen, failed attempts included.
    #[inline]
    pub fn connected(&self, took: Duration) {
        self.connect_time.observe(took);
    }

    /// UDP: the first reply came, so long after the session's first datagram.
    #[inline]
    pub fn replied(&self, took: Duration) {
        self.first_reply.observe(took);
    }

    /// A UDP session ended without any reply.
    #[inline]
    pub fn unanswered(&self) {
        self.unanswered.add(1);
    }

    /// A session ended.
    #[inline]
    pub fn end(&self, reason: CloseReason) {
        self.ended[reason as usize].add(1);
    }

    /// Sessions were refused: connections, or datagrams that would begin one.
    #[inline]
    pub fn refuse(&self, reason: impl Into<CloseReason>, count: u64) {
        self.ended[reason.into() as usize].add(count);
    }

    /// Payload bytes of a session.
    #[inline]
    pub fn add_bytes(&self, toward: Toward, n: u64) {
        self.bytes[toward as usize].add(n);
    }

    /// Datagrams, and the bytes in all of them.
    #[inline]
    pub fn add_datagrams(&self, toward: Toward, datagrams: u64, bytes: u64) {
        self.datagrams[toward as usize].add(datagrams);
        self.add_bytes(toward, bytes);
    }

    /// Datagrams of a session that could not be sent.
    #[inline]
    pub fn add_dropped(&self, toward: Toward, datagrams: u64) {
        self.dropped[toward as usize].add(datagrams);
    }

    fn add_to(&self, snapshot: &mut RowSnapshot) {
        // Ends before beginnings, so that what happens meanwhile can't make more of the former.
        for (total, ended) in snapshot.ended.iter_mut().zip(&self.ended) {
            *total += ended.get();
        }
        snapshot.opened += self.opened.get();
        snapshot.bytes_upstream += self.bytes[Toward::Upstream as usize].get();
        snapshot.bytes_downstream += self.bytes[Toward::Downstream as usize].get();
        snapshot.datagrams_upstream += self.datagrams[Toward::Upstream as usize].get();
        snapshot.datagrams_downstream += self.datagrams[Toward::Downstream as usize].get();
        snapshot.dropped_upstream += self.dropped[Toward::Upstream as usize].get();
        snapshot.dropped_downstream += self.dropped[Toward::Downstream as usize].get();
        self.connect_time.add_to(&mut snapshot.connect_time);
        self.first_reply.add_to(&mut snapshot.first_reply);
        snapshot.unanswered += self.unanswered.get();
    }
}

/// Kind of TLS handshake, of those that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandshakeKind {
    /// The version: TLS 1.3, or else 1.2.
    pub tls13: bool,
    /// An earlier session was resumed.
    pub resumed: bool,
}

impl HandshakeKind {
    /// All there are.
    pub const ALL: [Self; 4] = [
        Self { tls13: false, resumed: false },
        Self { tls13: false, resumed: true },
        Self { tls13: true, resumed: false },
        Self { tls13: true, resumed: true },
    ];

    #[inline]
    fn index(self) -> usize {
        usize::from(self.tls13) * 2 + usize::from(self.resumed)
    }
}

/// One writer's counters of the TLS handshakes of one listener's clients. Only one thread may write
/// each.
#[derive(Debug)]
pub struct HandshakeRow {
    succeeded: [Counter; HandshakeKind::ALL.len()],
    failed: [Counter; CloseReason::ALL.len()],
    time: Histogram,
}

impl HandshakeRow {
    fn new() -> Self {
        let (succeeded, failed) = (Default::default(), counters());
        Self { succeeded, failed, time: Histogram::default() }
    }

    /// A handshake succeeded, so long after the connection was accepted.
    #[inline]
    pub fn succeed(&self, kind: HandshakeKind, took: Duration) {
        self.succeeded[kind.index()].add(1);
        self.time.observe(took);
    }

    /// A handshake failed, or none was begun.
    #[inline]
    pub fn fail(&self, reason: CloseReason) {
        self.failed[reason as usize].add(1);
    }

    fn add_to(&self, snapshot: &mut HandshakeSnapshot) {
        for (total, counter) in snapshot.succeeded.iter_mut().zip(&self.succeeded) {
            *total += counter.get();
        }
        for (total, counter) in snapshot.failed.iter_mut().zip(&self.failed) {
            *total += counter.get();
        }
        self.time.add_to(&mut snapshot.time);
    }
}

/// One worker's counters that belong to no listener. Only one thread may write each.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    pub(crate) accept_pauses: Counter,
    pub(crate) limit_pauses: Counter,
    pub(crate) hand_offs: Counter,
    pub(crate) records_dropped: Counter,
}

impl WorkerCounters {
    /// Accepting pauses for lack of descriptors or memory (accept(2) failed).
    pub fn pause_accepting(&self) {
        self.accept_pauses.add(1);
    }

    /// The session limit stops accepting until sessions end.
    pub fn pause_at_limit(&self) {
        self.limit_pauses.add(1);
    }

    /// An accepted connection is handed to a less loaded worker.
    #[inline]
    pub fn hand_off(&self) {
        self.hand_offs.add(1);
    }

    /// The sink has no room for a session's record.
    pub fn drop_record(&self) {
        self.records_dropped.add(1);
    }
}

/// Counters of all sessions. Cheap to share: the one to hand to whoever serves metrics.
#[derive(Debug)]
pub struct SessionCounters {
    workers: Vec<Arc<WorkerCounters>>,
    /// The lock is taken by who reads or reconfigures, never by who carries sessions.
    rows: Mutex<BTreeMap<Arc<Labels>, ByWriter<Row>>>,
    handshakes: Mutex<BTreeMap<ListenerId, ByWriter<HandshakeRow>>>,
}

impl SessionCounters {
    /// Counters of a proxy with so many workers, all 0.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            rows: Mutex::default(),
            handshakes: Mutex::default(),
        }
    }

    /// Counters of a worker that belong to no listener.
    ///
    /// # Panics
    /// If there are not so many workers.
    pub fn worker(&self, worker: usize) -> Arc<WorkerCounters> {
        self.workers[worker].clone()
    }

    /// The writer's row with these labels.
    pub fn row(&self, labels: Labels, writer: Writer) -> Arc<Row> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = match rows.get_key_value(&labels) {
            Some((labels, _)) => labels.clone(),
            None => Arc::new(labels),
        };
        rows.entry(labels.clone()).or_default().get(writer, || Row::new(labels))
    }

    /// The writer's row of a listener's handshakes.
    pub fn handshakes(&self, listener: &ListenerId, writer: Writer) -> Arc<HandshakeRow> {
        let mut rows = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        rows.entry(listener.clone()).or_default().get(writer, HandshakeRow::new)
    }

    /// The backends that sessions are with. To look at them leaves every row for whoever takes the next
    /// [snapshot](Self::snapshot).
    pub fn busy_backends(&self) -> BTreeSet<BackendId> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let is_busy = |(labels, of_label): (&Arc<Labels>, &ByWriter<Row>)| {
            labels.backend.clone().filter(|_| sum(labels, of_label).active() > 0)
        };
        rows.iter().filter_map(is_busy).collect()
    }

    /// The sums over all writers. A row lasts as long as its route is in force, its listener drains
    /// or sessions that took it are left; should it come back later, it starts at 0 like a counter
    /// after a restart.
    pub fn snapshot(&self) -> SessionSnapshot {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = rows.iter().map(|(labels, of_label)| sum(labels, of_label));
        let mut handshakes = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        let handshake_sums = handshakes.iter().map(|(listener, of_listener)| {
            let mut sum = HandshakeSnapshot::new(listener.clone());
            of_listener.rows().for_each(|row| row.add_to(&mut sum));
            sum
        });
        let snapshot = SessionSnapshot {
            rows: sums.collect(),
            handshakes: handshake_sums.collect(),
            workers: self.workers.iter().map(|worker| WorkerSnapshot::of(worker)).collect(),
        };
        // After the sums, so that a row's last counts are seen once.
        rows.retain(|_, of_label| of_label.is_used());
        handshakes.retain(|_, of_listener| of_listener.is_used());
        snapshot
    }
}

/// Sums over all writers' rows with these labels.
fn sum(labels: &Arc<Labels>, rows: &ByWriter<Row>) -> RowSnapshot {
    let mut sum = RowSnapshot::new(labels.clone());
    rows.rows().for_each(|row| row.add_to(&mut sum));
    sum
}
