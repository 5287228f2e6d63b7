//! What is known of endpoints: whether somebody answers there. An endpoint where nobody does is *passed
//! over* as long as its backend has another: for a second first, twice as long after each failure, up to
//! half a minute.
//!
//! This is the one thing that workers share and write. There is an entry only for an endpoint that
//! something is noted against. A worker has a [`HealthView`]: a copy of the entries, which it brings up
//! to date once a turn by comparing one atomic number. A session that meets a failure takes a lock, and so
//! does one that is the first to succeed after that; others don't.

mod told;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use l4way_model::{BackendId, EndpointAddress, Transport};

pub use self::told::PassedOver;
use crate::{Rng, endpoint::less_loaded};

/// How long an endpoint is passed over after its first failure.
const FIRST: Duration = Duration::from_secs(1);
/// How long at most.
const LONGEST: Duration = Duration::from_secs(30);
/// How many ends before an endpoint's first byte, one after the other, are its failure.
const SUSPICIONS: u32 = 3;

/// Why nobody seems to answer at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointFailure {
    /// It refused a connection, or an ICMP message said so (ECONNREFUSED).
    Refused,
    /// It didn't accept a connection in time.
    Timeout,
    /// There is no way to it (EHOSTUNREACH, ENETUNREACH and the like), or no such socket file.
    Unreachable,
    /// It proved another name than was asked for, or couldn't speak TLS.
    Tls,
    /// It ended connections before its first byte.
    Closed,
}

impl EndpointFailure {
    /// The failure as metrics and records spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Closed => "closed",
        }
    }

    /// Whether it is known of the address itself, whatever the backend says there.
    fn is_of_address(self) -> bool {
        match self {
            Self::Refused | Self::Timeout | Self::Unreachable | Self::Closed => true,
            Self::Tls => false,
        }
    }
}

/// What something is known of: an address, for every backend that has it; or an address on the terms of
/// one backend, such as its TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The transport: a host may take TCP and not UDP.
    pub transport: Transport,
    /// The address.
    pub address: EndpointAddress,
    /// The backend on whose terms it is known.
    pub backend: Option<BackendId>,
}

/// An endpoint of a backend, as sessions meet it.
#[derive(Clone, Copy, Debug)]
pub struct EndpointOf<'a> {
    /// The backend.
    pub backend: &'a BackendId,
    /// The address.
    pub address: &'a EndpointAddress,
}

/// An endpoint is passed over from now on, or taken again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Which one.
    pub key: EndpointKey,
    /// Why it is passed over; `None` if it is taken again.
    pub failure: Option<EndpointFailure>,
    /// When it failed last.
    pub failed_at: Instant,
}

/// Whether a new session takes an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Nothing speaks against it.
    Taken,
    /// Another one is better, if there is one.
    PassedOver,
    /// As before, but it is time to [try](EndpointStore::begin_trial) it.
    Due,
}

/// All that is noted against endpoints.
#[derive(Debug)]
pub struct EndpointStore {
    began: Instant,
    /// Grows with each change that a [`HealthView`] has to know.
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<EndpointKey, Record>,
    /// What views have of it, since the generation in which it was made.
    view: (u64, Arc<Notes>),
    /// What has changed since it was asked last.
    news: Vec<HealthChange>,
    /// How often endpoints of a backend have failed.
    failures: BTreeMap<(BackendId, EndpointFailure), u64>,
}

/// What is noted against an endpoint.
#[derive(Debug, Default)]
struct Record {
    /// When it is tried again, in milliseconds since the store began; `None` while it is taken.
    retry_at: Option<u64>,
    /// Failures, one after the other; each but the first is of a trial.
    failures: u32,
    last: Option<EndpointFailure>,
    /// When that was, in milliseconds since the store began.
    failed_at: u64,
    /// Whether somebody tries it now.
    on_trial: bool,
    /// Ends before its first byte, one after the other.
    suspicions: u32,
    /// The first client that met one, and whether another one has.
    client: Option<(IpAddr, bool)>,
}

/// When endpoints are tried again that something is noted against.
#[derive(Clone, Debug, Default)]
struct Notes {
    of_addresses: HashMap<(Transport, EndpointAddress), Option<u64>>,
    of_backends: HashMap<BackendId, HashMap<EndpointAddress, Option<u64>>>,
}

/// What a worker knows of endpoints.
#[derive(Clone, Debug)]
pub struct HealthView {
    store: Arc<EndpointStore>,
    seen: u64,
    notes: Arc<Notes>,
}

impl EndpointStore {
    /// A store that knows nothing yet. Times before `began` count as it.
    pub fn new(began: Instant) -> Arc<Self> {
        Arc::new(Self { began, generation: AtomicU64::new(0), inner: Mutex::default() })
    }

    /// What is known now.
    pub fn view(self: &Arc<Self>) -> HealthView {
        let mut view = HealthView { store: self.clone(), seen: 0, notes: Arc::default() };
        view.refresh();
        view
    }

    /// What has changed since this was called last.
    pub fn take_news(&self) -> Vec<HealthChange> {
        std::mem::take(&mut self.lock().news)
    }

    /// The endpoints that are passed over, and why.
    pub fn passed_over(&self) -> Vec<(EndpointKey, EndpointFailure)> {
        let inner = self.lock();
        let passed = inner.records.iter().filter(|(_, record)| record.retry_at.is_some());
        passed.filter_map(|(key, record)| Some((key.clone(), record.last?))).collect()
    }

    /// The addresses that are passed over and that a bare connection is to try now. The caller tells of
    /// each whether it has [connected](Self::connected) or [failed](Self::failed).
    pub fn take_trials(&self, now: Instant) -> Vec<EndpointKey> {
        // It proves nothing of UDP, nor of what is said on a connection.
        let connects = |key: &EndpointKey| key.transport == Transport::Tcp && key.backend.is_none();
        let passed = self.passed_over().into_iter().map(|(key, _)| key);
        passed.filter(connects).filter(|key| self.begin_trial(key, now)).collect()
    }

    /// Whether something is noted against any endpoint.
    pub fn knows_any(&self) -> bool {
        !self.lock().records.is_empty()
    }

    /// How often sessions have found nobody at the endpoints of a backend, by why.
    pub fn failures(&self) -> Vec<(BackendId, EndpointFailure, u64)> {
        let counted =
            |(key, count): (&(BackendId, EndpointFailure), &u64)| (key.0.clone(), key.1, *count);
        self.lock().failures.iter().map(counted).collect()
    }

    fn count(&self, backend: &BackendId, failure: EndpointFailure) {
        *self.lock().failures.entry((backend.clone(), failure)).or_default() += 1;
    }

    /// Forgets the endpoints that no backend has any more.
    pub fn retain(&self, is_used: impl Fn(&EndpointKey) -> bool) {
        let mut inner = self.lock();
        let before = inner.records.len();
        inner.records.retain(|key, _| is_used(key));
        if inner.records.len() != before {
            self.changed();
        }
    }

    /// Whether it is time to try an endpoint that is passed over, and nobody else does. Who is told so tries
    /// it, and may find nobody. If he says nothing, somebody else tries it as much later as after a failure.
    pub fn begin_trial(&self, key: &EndpointKey, now: Instant) -> bool {
        let mut inner = self.lock();
        let now = self.millis(now);
        let Some(record) = inner.records.get_mut(key) else { return false };
        if record.retry_at.is_none_or(|retry_at| now < retry_at) {
            return false;
        }
        if std::mem::replace(&mut record.on_trial, true) && key.transport == Transport::Udp {
            // Whoever tried it last has met no error since, and nobody has to answer in UDP.
            self.take_again(&mut inner, key);
            return false;
        }
        record.retry_at = Some(next_retry(key, record, now));
        self.changed();
        true
    }

    /// Nobody answers there, as a client can't cause. It counts once for all who meet it while it is passed
    /// over anyway.
    pub fn failed(&self, key: &EndpointKey, failure: EndpointFailure, now: Instant) {
        let mut inner = self.lock();
        let now = self.millis(now);
        let record = inner.records.entry(key.clone()).or_default();
        (record.last, record.failed_at) = (Some(failure), now);
        let was_taken = record.retry_at.is_none();
        if !was_taken && !record.on_trial {
            return;
        }
        record.on_trial = false;
        record.failures = record.failures.saturating_add(1);
        record.retry_at = Some(next_retry(key, record, now));
        if was_taken {
            let failed_at = self.instant(now);
            inner.news.push(HealthChange { key: key.clone(), failure: Some(failure), failed_at });
        }
        self.changed();
    }

    /// It ended a connection before its first byte, though something had been passed on to it. A client can
    /// cause that. So it is a failure only after three in a row that two clients at least have met.
    pub fn suspected(&self, key: &EndpointKey, client: IpAddr, now: Instant) {
        let mut inner = self.lock();
        let record = inner.records.entry(key.clone()).or_default();
        record.suspicions = record.suspicions.saturating_add(1);
        let (first, others) = record.client.unwrap_or((client, false));
        let others = others || first != client;
        record.client = Some((first, others));
        let is_failure = record.suspicions >= SUSPICIONS && others;
        drop(inner);
        self.changed();
        if is_failure {
            self.failed(key, EndpointFailure::Closed, now);
        }
    }

    /// It has accepted a connection. That answers for its address, but not for what is said then.
    pub fn connected(&self, key: &EndpointKey) {
        let mut inner = self.lock();
        let Some(record) = inner.records.get_mut(key) else { return };
        if record.last == Some(EndpointFailure::Closed) {
            // What it does now is to be seen; until then, its failures stay noted.
            if record.on_trial {
                self.take_again(&mut inner, key);
            }
            return;
        }
        (record.failures, record.last) = (0, None);
        let is_suspected = record.suspicions > 0;
        self.take_again(&mut inner, key);
        if !is_suspected {
            inner.records.remove(key);
            self.changed();
        }
    }

    /// It has sent something: nothing speaks against it any more.
    pub fn answered(&self, key: &EndpointKey) {
        let mut inner = self.lock();
        self.take_again(&mut inner, key);
        if inner.records.remove(key).is_some() {
            self.changed();
        }
    }

    fn take_again(&self, inner: &mut Inner, key: &EndpointKey) {
        let Some(record) = inner.records.get_mut(key) else { return };
        record.on_trial = false;
        let failed_at = self.instant(record.failed_at);
        if record.retry_at.take().is_some() {
            inner.news.push(HealthChange { key: key.clone(), failure: None, failed_at });
            self.changed();
        }
    }

    /// Tells views that they are old. Whoever has changed something calls it.
    fn changed(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn instant(&self, millis: u64) -> Instant {
        self.began + Duration::from_millis(millis)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> (u64, Arc<Notes>) {
        let mut inner = self.lock();
        // Whatever changes next makes it old again.
        let generation = self.generation.load(Relaxed);
        if inner.view.0 != generation {
            inner.view = (generation, Arc::new(Notes::of(&inner.records)));
        }
        inner.view.clone()
    }
}

impl Notes {
    fn of(records: &BTreeMap<EndpointKey, Record>) -> Self {
        let mut notes = Self::default();
        for (EndpointKey { transport, address, backend }, record) in records {
            match backend {
                None => {
                    notes.of_addresses.insert((*transport, address.clone()), record.retry_at);
                }
                Some(backend) => {
                    let of = notes.of_backends.entry(backend.clone()).or_default();
                    of.insert(address.clone(), record.retry_at);
                }
            }
        }
        notes
    }

    fn is_empty(&self) -> bool {
        self.of_addresses.is_empty() && self.of_backends.is_empty()
    }

    /// What is noted against an endpoint: of its address, and on its backend's terms.
    fn against(&self, endpoint: EndpointOf<'_>) -> [Option<Option<u64>>; 2] {
        let EndpointOf { backend, address } = endpoint;
        let of_address = self.of_addresses.get(&(backend.transport, address.clone()));
        let of_backend = self.of_backends.get(backend).and_then(|of| of.get(address));
        [of_address.copied(), of_backend.copied()]
    }
}

impl HealthView {
    /// Brings it up to date. Cheap if nothing has changed.
    pub fn refresh(&mut self) {
        if self.store.generation.load(Relaxed) != self.seen {
            (self.seen, self.notes) = self.store.notes();
        }
    }

    /// Whether a new session takes an endpoint.
    pub fn state(&self, endpoint: EndpointOf<'_>, now: Instant) -> EndpointState {
        if self.notes.is_empty() {
            return EndpointState::Taken;
        }
        let retries = self.notes.against(endpoint).into_iter().flatten().flatten();
        match retries.max() {
            None => EndpointState::Taken,
            Some(retry_at) if retry_at <= self.store.millis(now) => EndpointState::Due,
            Some(_) => EndpointState::PassedOver,
        }
    }

    /// The same for a session that is about to choose: an endpoint is due for the one session that tries it,
    /// which has to take it then, and passed over for all others.
    fn state_for_session(&self, endpoint: EndpointOf<'_>, now: Instant) -> EndpointState {
        match self.state(endpoint, now) {
            EndpointState::Due if !self.begin_trial(endpoint, now) => EndpointState::PassedOver,
            state => state,
        }
    }

    /// The index of the endpoint that a session should take, out of `count`: the one with fewer
    /// `sessions` of two that are drawn at random and not passed over. `tried` are those that have
    /// failed the session, in rising order and without repeats: they are left out. `None` if
    /// nothing is left.
    pub fn choose<'e>(
        &self,
        rng: &mut Rng,
        count: usize,
        tried: &[usize],
        now: Instant,
        endpoint: impl Fn(usize) -> EndpointOf<'e>,
        sessions: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        let state = |index| self.state_for_session(endpoint(index), now);
        less_loaded(rng, count, tried, state, sessions)
    }

    /// Whether a session of ours is the one that tries an endpoint which is due: of UDP, or of one that
    /// fails on its backend's terms. An address of TCP is tried by a connection of nobody's.
    fn begin_trial(&self, endpoint: EndpointOf<'_>, now: Instant) -> bool {
        let [of_address, of_backend] = self.notes.against(endpoint);
        let tries_address = endpoint.backend.transport == Transport::Udp;
        let passed = |note: Option<Option<u64>>| note.flatten().is_some();
        match (passed(of_address), passed(of_backend)) {
            (true, _) if !tries_address => false,
            (true, _) => self.store.begin_trial(&endpoint.key(false), now),
            (false, true) => self.store.begin_trial(&endpoint.key(true), now),
            (false, false) => false,
        }
    }

    /// Nobody answers there, as a client can't cause.
    pub fn failed(&self, endpoint: EndpointOf<'_>, failure: EndpointFailure, now: Instant) {
        self.store.failed(&endpoint.key(!failure.is_of_address()), failure, now);
        self.store.count(endpoint.backend, failure);
    }

    /// It ended a connection before its first byte, though something had been passed on to it.
    pub fn suspected(&self, endpoint: EndpointOf<'_>, client: IpAddr, now: Instant) {
        self.store.suspected(&endpoint.key(false), client, now);
        self.store.count(endpoint.backend, EndpointFailure::Closed);
    }

    /// It has accepted a connection.
    pub fn connected(&self, endpoint: EndpointOf<'_>) {
        let [of_address, _] = self.noted(endpoint);
        if of_address.is_some() {
            self.store.connected(&endpoint.key(false));
        }
    }

    /// It has done what its backend's terms ask for, such as the end of a TLS handshake.
    pub fn agreed(&self, endpoint: EndpointOf<'_>) {
        let [_, of_backend] = self.noted(endpoint);
        if of_backend.is_some() {
            self.store.answered(&endpoint.key(true));
        }
    }

    /// It has sent something that is the client's.
    pub fn answered(&self, endpoint: EndpointOf<'_>) {
        let [of_address, _] = self.noted(endpoint);
        if of_address.is_some() {
            self.store.answered(&endpoint.key(false));
        }
    }

    fn noted(&self, endpoint: EndpointOf<'_>) -> [Option<Option<u64>>; 2] {
        if self.notes.is_empty() { [None, None] } else { self.notes.against(endpoint) }
    }
}

impl EndpointOf<'_> {
    fn key(self, on_backends_terms: bool) -> EndpointKey {
        EndpointKey {
            transport: self.backend.transport,
            address: self.address.clone(),
            backend: on_backends_terms.then(|| self.backend.clone()),
        }
    }
}

/// When an endpoint is tried again: up to a quarter later than it has to be, so that not all are tried at
/// once.
fn next_retry(key: &EndpointKey, record: &Record, now: u64) -> u64 {
    let doublings = record.failures.saturating_sub(1).min(5);
    let wait = (FIRST * (1 << doublings)).min(LONGEST);
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let port = match &key.address {
        EndpointAddress::Ip(address) => u64::from(address.port()),
        EndpointAddress::Unix(_) => 0,
    };
    let jitter = Rng::new(now ^ (port << 32)).below((wait / 4) as usize + 1) as u64;
    now + wait + jitter
}

#[cfg(test)]
mod tests;
