use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use l4way_model::{
    BindFailure, BindFailureKind, Config, EndpointTable, HttpPort, ListenerId, ListenerReport,
};
use l4way_proxy::random_seed;
use l4way_proxy_core::Rng;
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    Counters, Settings,
    accept::{Bind, Socket},
    drain::Drain,
    endpoints::Endpoints,
    table::{Table, View},
    tls::Certificates,
};

/// What became of each listener.
type Report = BTreeMap<ListenerId, ListenerReport>;

/// What runs HTTP and HTTPS listeners, seen from the one thread that controls it. Dropping it ends
/// all connections.
#[derive(Debug)]
pub struct HttpProxy {
    shared: Arc<Shared>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    wanted: Arc<Config>,
    /// One for each wanted port.
    tables: Vec<Arc<Table>>,
    certificates: Certificates,
    sockets: BTreeMap<Bind, Socket>,
    /// Of sockets that are closed and whose connections may not have ended.
    draining: Vec<Drain>,
    /// Of listeners whose port can't be bound.
    failures: BTreeMap<ListenerId, BindFailure>,
    /// Whether it takes nothing new any more.
    drained: bool,
}

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) counters: Arc<Counters>,
    /// The endpoints that views get.
    endpoints: ArcSwap<Endpoints>,
    rng: Mutex<Rng>,
}

impl Shared {
    pub(crate) fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpProxy {
    /// Starts its thread, with nothing to carry yet.
    ///
    /// # Errors
    /// If the thread or its epoll instance can't be made.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            settings,
            counters: Arc::default(),
            endpoints: ArcSwap::default(),
            rng: Mutex::new(Rng::new(random_seed())),
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        handle.spawn(expire_idle(shared.clone()));
        let (stop, stopped) = oneshot::channel();
        let run = move || drop(runtime.block_on(stopped));
        let thread = thread::Builder::new().name("http".to_owned()).spawn(run)?;
        Ok(Self {
            shared,
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
            wanted: Arc::default(),
            tables: Vec::new(),
            certificates: Certificates::default(),
            sockets: BTreeMap::new(),
            draining: Vec::new(),
            failures: BTreeMap::new(),
            drained: false,
        })
    }

    /// Stops listening on the ports that `config` has no HTTP or HTTPS listeners on. On return they
    /// are free. Their connections end after the requests that there are, and have
    /// [`Settings::drain_deadline`] left.
    pub fn release(&mut self, config: &Config) {
        let wanted: BTreeSet<_> = config.http_ports().iter().flat_map(binds).collect();
        let unwanted = |bind: &Bind| !wanted.contains(bind);
        self.close(unwanted, self.shared.settings.drain_deadline);
    }

    /// Carries the HTTP and HTTPS listeners of `config` from now on, with these endpoints. What
    /// becomes of each is in the report; one that fails doesn't keep the others from it. Requests
    /// that there are go on as they began.
    pub fn apply(&mut self, config: &Arc<Config>, endpoints: &EndpointTable) -> Report {
        self.release(config);
        self.wanted = config.clone();
        self.certificates.update(config);
        self.set_endpoints(endpoints);
        let table = |port| {
            let tls = |listener: &_| self.certificates.config(listener);
            Arc::new(Table::new(port, &self.shared.counters, tls))
        };
        self.tables = config.http_ports().iter().map(table).collect();
        self.carry_out();
        self.report()
    }

    /// Sends requests to these endpoints from now on.
    pub fn update_endpoints(&mut self, endpoints: &EndpointTable) {
        self.set_endpoints(endpoints);
        let config = self.wanted.clone();
        for (port, table) in config.http_ports().iter().zip(&self.tables) {
            self.show(port, table);
        }
    }

    /// Tries again to bind the ports that could not be bound. A new report if it differs from the
    /// last.
    pub fn retry_failed(&mut self) -> Option<Report> {
        if self.failures.is_empty() {
            return None;
        }
        let before = self.failures.clone();
        self.carry_out();
        (self.failures != before).then(|| self.report())
    }

    /// Takes no new connections any more, and has those that there are end after their requests.
    /// What is left after `within` is reset. Returns at once, see [`is_drained`](Self::is_drained).
    pub fn drain(&mut self, within: Duration) {
        self.drained = true;
        let deadline = Instant::now() + within;
        self.draining.iter().for_each(|drain| drain.begin(deadline));
        self.close(|_| true, within);
    }

    /// Whether it has been told to drain and all connections have ended.
    pub fn is_drained(&self) -> bool {
        self.drained && self.shared.counters.active_connections() == 0
    }

    /// The counters, to be read by any thread at any time.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    fn set_endpoints(&self, table: &EndpointTable) {
        let before = self.shared.endpoints.load_full();
        self.shared.endpoints.store(Arc::new(Endpoints::new(table, &before)));
    }

    /// Closes the sockets that are meant.
    fn close(&mut self, meant: impl Fn(&Bind) -> bool, within: Duration) {
        self.draining.retain(|drain| !drain.is_over());
        let deadline = Instant::now() + within;
        for (_, socket) in self.sockets.extract_if(.., |bind, _| meant(bind)) {
            self.draining.push(socket.close(deadline));
        }
    }

    /// Listens on every wanted port that has a listener to serve, and shows requests what there is.
    fn carry_out(&mut self) {
        self.failures.clear();
        if self.drained {
            return;
        }
        let config = self.wanted.clone();
        let tables = self.tables.clone();
        for (port, table) in config.http_ports().iter().zip(&tables) {
            let useful = port.listeners.iter().any(|l| self.certificates.failure(&l.id).is_none());
            let opened = if useful { self.open(port, table) } else { Ok(()) };
            if let Err(failure) = &opened {
                let failed = port.listeners.iter().map(|l| (l.id.clone(), failure.clone()));
                self.failures.extend(failed);
            }
            if !useful || opened.is_err() {
                let binds: BTreeSet<_> = binds(port).collect();
                let deadline = self.shared.settings.drain_deadline;
                self.close(|bind| binds.contains(bind), deadline);
            }
        }
    }

    /// Listens on a port's addresses, as far as it doesn't yet.
    fn open(&mut self, port: &HttpPort, table: &Arc<Table>) -> Result<(), BindFailure> {
        self.show(port, table);
        for bind in binds(port) {
            if !self.sockets.contains_key(&bind) {
                let view = Arc::new(self.view(table));
                let socket = Socket::open(&self.runtime, self.shared.clone(), bind, view)?;
                self.sockets.insert(bind, socket);
            }
        }
        Ok(())
    }

    /// Shows the requests of a port's sockets this table and the endpoints of now.
    fn show(&self, port: &HttpPort, table: &Arc<Table>) {
        let view = Arc::new(self.view(table));
        for socket in binds(port).filter_map(|bind| self.sockets.get(&bind)) {
            socket.show(view.clone());
        }
    }

    fn view(&self, table: &Arc<Table>) -> View {
        View { table: table.clone(), endpoints: self.shared.endpoints.load_full() }
    }

    fn report(&self) -> Report {
        let ports = self.wanted.http_ports().iter();
        let listeners = ports.flat_map(|port| port.listeners.iter().map(move |l| (port, &l.id)));
        let report = |(port, id): (&HttpPort, &ListenerId)| {
            let failure = self.without_certificate(port, id).or(self.failures.get(id).cloned());
            (id.clone(), failure.map_or(ListenerReport::Bound, ListenerReport::Failed))
        };
        listeners.map(report).collect()
    }

    fn without_certificate(&self, port: &HttpPort, id: &ListenerId) -> Option<BindFailure> {
        let message = self.certificates.failure(id)?.to_owned();
        Some(BindFailure { bind: port.binds().next()?, kind: BindFailureKind::Other, message })
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Its thread ends all tasks.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread's panic hook.
            let _ = thread.join();
        }
    }
}

/// The sockets that a port is listened to by.
fn binds(port: &HttpPort) -> impl Iterator<Item = Bind> + '_ {
    port.binds().map(|address| Bind { address, tls: port.tls })
}

/// Closes connections to endpoints that nobody needs.
async fn expire_idle(shared: Arc<Shared>) {
    let after = shared.settings.pool_timeout;
    let mut ticks = interval(after.max(Duration::from_millis(2)) / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.endpoints.load().upstreams().for_each(|upstream| upstream.pool.expire(after));
    }
}
