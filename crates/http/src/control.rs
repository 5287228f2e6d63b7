use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use l4way_host::{Heart, local_ports, raise_descriptors, random_seed};
use l4way_model::{
    BindFailure, Config, EndpointPlace, EndpointTable, HttpListener, HttpPort, ListenerId,
    ListenerReport,
};
use l4way_proxy::HttpsSink;
use l4way_proxy_core::{DescriptorBudget, Limits, Rng, Seldom, WantedLimits};
use l4way_tls::Originators;
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    HttpCounters, HttpSettings,
    accept::Socket,
    counters::RequestLabels,
    drain::Drain,
    endpoints::{Endpoints, Upstreams},
    https::{self, Reception},
    loops::Identity,
    ongoing::Exchange,
    pulse::Pulse,
    room::Room,
    table::{Make, Table, View},
    watch::{Watched, watch},
};

/// The name of its thread.
const THREAD: &str = "http";

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
    /// One for each wanted port without TLS.
    tables: Vec<Arc<Table>>,
    originators: Originators,
    /// By which the rules of a configuration without a Gateway's UID are known to others.
    identity: Identity,
    upstreams: Upstreams,
    sockets: BTreeMap<SocketAddr, Socket>,
    /// Where the clients of HTTPS listeners come in.
    reception: Arc<Reception>,
    /// Ports of HTTPS listeners, by the addresses that others have bound them on.
    https: BTreeMap<SocketAddr, Https>,
    /// Of sockets that are closed, and of ports of HTTPS listeners that are gone, whose connections may
    /// not have ended. What comes back takes its connections back.
    draining: BTreeMap<(Kind, SocketAddr), Drain>,
    /// Of listeners whose port can't be bound.
    failures: BTreeMap<ListenerId, BindFailure>,
    /// Whether it takes nothing new any more.
    drained: bool,
}

/// How clients come to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// By a socket of its own.
    Http,
    /// By the workers.
    Https,
}

/// A port of HTTPS listeners.
#[derive(Debug)]
struct Https {
    table: Arc<Table>,
    port: https::Port,
    drain: Drain,
}

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: HttpSettings,
    pub(crate) counters: Arc<HttpCounters>,
    pub(crate) room: Arc<Room>,
    /// The endpoints that views get: of the backends that rules of the wanted configuration name.
    endpoints: ArcSwap<Endpoints>,
    rng: Mutex<Rng>,
    /// Who may be silent for too long.
    pub(crate) connections: Arc<Watched<Pulse>>,
    pub(crate) exchanges: Watched<Exchange>,
    /// Requests that come back.
    loops_told: Mutex<Seldom>,
}

impl Shared {
    /// Closes the connection to an endpoint that has waited longest for a request. False if none waits.
    pub(crate) fn close_idle_upstream(&self) -> bool {
        let endpoints = self.endpoints.load();
        let waiting = endpoints
            .upstreams()
            .filter_map(|upstream| upstream.pool.oldest().map(|since| (since, upstream)));
        let oldest = waiting.min_by_key(|(since, _)| *since);
        oldest.is_some_and(|(_, upstream)| upstream.pool.close_oldest())
    }

    pub(crate) fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that a request has come back, if that hasn't been told lately.
    pub(crate) fn tell_loop(&self, labels: &RequestLabels, client: IpAddr) {
        let now = Instant::now().into_std();
        let told = self.loops_told.lock().unwrap_or_else(PoisonError::into_inner).note(now);
        let (Some(times), Some(listener), Some(route)) = (told, &labels.listener, &labels.route)
        else {
            return;
        };
        tracing::warn!(
            times,
            %listener,
            %route,
            %client,
            "requests of this route come back to its own listener and are answered 508: its backend leads here, \
             perhaps by a name or another proxy"
        );
    }
}

/// Tells how many requests are on their way to endpoints. Cheap to share.
#[derive(Clone, Debug)]
pub struct EndpointRequests(Arc<Shared>);

impl EndpointRequests {
    /// How many requests are on their way to each of these endpoints, in the same order: for all backends
    /// that have its address, and 0 where the table has changed.
    pub fn count(&self, endpoints: &[EndpointPlace]) -> Vec<u64> {
        let known = self.0.endpoints.load();
        endpoints.iter().map(|place| u64::from(known.requests(place))).collect()
    }
}

impl HttpProxy {
    /// Starts its thread, with nothing to carry yet.
    ///
    /// # Errors
    /// If the thread or its epoll instance can't be made.
    pub fn start(settings: HttpSettings) -> io::Result<Self> {
        let own = || {
            let limits = Limits::new(raise_descriptors(), local_ports(), WantedLimits::default());
            DescriptorBudget::new(limits.session_descriptors, NonZeroUsize::MIN)
        };
        let budget = settings.process.descriptors.clone().unwrap_or_else(own);
        let counters = Arc::<HttpCounters>::default();
        let connections = Arc::<Watched<Pulse>>::default();
        let shared = Arc::new(Shared {
            room: Room::new(budget, connections.clone(), settings.silence, counters.clone()),
            settings,
            counters,
            endpoints: ArcSwap::default(),
            rng: Mutex::new(Rng::new(random_seed())),
            connections,
            exchanges: Watched::default(),
            loops_told: Mutex::default(),
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let reception = Arc::new(Reception::new(shared.clone(), handle.clone()));
        handle.spawn(expire_idle(shared.clone()));
        handle.spawn(watch(shared.clone()));
        let (stop, stopped) = oneshot::channel();
        let run = move || drop(runtime.block_on(stopped));
        let thread = thread::Builder::new().name(THREAD.to_owned()).spawn(run)?;
        Ok(Self {
            shared,
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
            wanted: Arc::default(),
            tables: Vec::new(),
            originators: Originators::default(),
            identity: Identity::default(),
            upstreams: Upstreams::default(),
            sockets: BTreeMap::new(),
            reception,
            https: BTreeMap::new(),
            draining: BTreeMap::new(),
            failures: BTreeMap::new(),
            drained: false,
        })
    }

    /// How many requests are on their way to endpoints, to be asked by any thread at any time.
    pub fn endpoint_requests(&self) -> EndpointRequests {
        EndpointRequests(self.shared.clone())
    }

    /// Where workers give the clients of HTTPS listeners to.
    pub fn https(&self) -> Arc<dyn HttpsSink> {
        self.reception.clone()
    }

    /// Gets ready for `config`, with these endpoints: serves the clients of its HTTPS listeners from now
    /// on, and stops listening on the ports that it has no HTTP listeners on. On return they are free.
    /// Their connections end after the requests that there are, and have
    /// [`HttpSettings::drain_deadline`] left, unless the port is back before.
    pub fn prepare(&mut self, config: &Arc<Config>, endpoints: &EndpointTable) {
        let wanted: BTreeSet<_> = config.http_ports().iter().flat_map(HttpPort::binds).collect();
        let unwanted = |bind: &SocketAddr| !wanted.contains(bind);
        self.close(unwanted, self.shared.settings.drain_deadline);
        self.wanted = config.clone();
        self.update_originators();
        self.set_endpoints(endpoints);
        let identity = self.identity();
        let make = Make {
            counters: &self.shared.counters,
            originators: &self.originators,
            identity: &identity,
        };
        let table = |port| Arc::new(Table::of_http(port, &make));
        self.tables = config.http_ports().iter().map(table).collect();
        self.update_https();
    }

    /// Carries the HTTP listeners of the configuration that it is [ready](Self::prepare) for. What
    /// becomes of each is in the report; one that fails doesn't keep the others from it. Requests that
    /// there are go on as they began.
    pub fn listen(&mut self) -> Report {
        self.carry_out();
        self.report()
    }

    /// Sends requests for these backends to these endpoints from now on. A backend that isn't among
    /// them keeps what it has.
    pub fn update_endpoints(&mut self, changes: &EndpointTable) {
        let before = self.shared.endpoints.load_full();
        let Some(endpoints) = before.update(changes, &mut self.upstreams) else { return };
        self.shared.endpoints.store(Arc::new(endpoints));
        let config = self.wanted.clone();
        for (port, table) in config.http_ports().iter().zip(&self.tables) {
            self.show(port, table);
        }
        for Https { table, port, .. } in self.https.values() {
            port.view.store(Arc::new(self.view(table)));
        }
    }

    /// Whose requests come back, as the proxies of one Gateway are one.
    fn identity(&self) -> Identity {
        let uid = self.wanted.gateway_uid();
        uid.map_or_else(|| self.identity.clone(), |uid| Identity::of_gateway(uid))
    }

    /// Makes what begins the TLS sessions of requests.
    fn update_originators(&mut self) {
        let to_begin = self.wanted.http_rules().flat_map(|rule| rule.route.backend_tls());
        self.originators.update(to_begin.map(|(_, tls)| tls));
    }

    /// Serves the clients of the wanted HTTPS listeners; has the connections of others end.
    fn update_https(&mut self) {
        let (config, identity) = (self.wanted.clone(), self.identity());
        let mut before = std::mem::take(&mut self.https);
        for wanted in config.tls_ports().iter().filter(|port| port.has_https()) {
            let make = Make {
                counters: &self.shared.counters,
                originators: &self.originators,
                identity: &identity,
            };
            let table = Arc::new(Table::of_tls(wanted, &make));
            for bind in wanted.binds() {
                let view = Arc::new(self.view(&table));
                let https = match before.remove(&bind) {
                    Some(known) => {
                        known.port.view.store(view);
                        Https { table: table.clone(), ..known }
                    }
                    None => {
                        let drain = self.drain_of(Kind::Https, bind);
                        let drained = drain.drained();
                        let port = https::Port { view: Arc::new(ArcSwap::new(view)), drained };
                        Https { table: table.clone(), port, drain }
                    }
                };
                self.https.insert(bind, https);
            }
        }
        let ports = self.https.iter().map(|(bind, https)| (*bind, https.port.clone()));
        self.reception.open(ports.collect());
        let deadline = Instant::now() + self.shared.settings.drain_deadline;
        for (bind, https) in before {
            https.drain.begin(deadline);
            self.draining.insert((Kind::Https, bind), https.drain);
        }
    }

    /// What ends the connections of a socket that is about to listen: those that it had when it was
    /// closed may go on.
    fn drain_of(&mut self, kind: Kind, bind: SocketAddr) -> Drain {
        let Some(drain) = self.draining.remove(&(kind, bind)) else { return Drain::new() };
        if !self.drained {
            drain.take_back();
        }
        drain
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
        self.draining.values().for_each(|drain| drain.begin(deadline));
        self.https.values().for_each(|https| https.drain.begin(deadline));
        self.close(|_| true, within);
    }

    /// Whether it has been told to drain and all connections have ended.
    pub fn is_drained(&self) -> bool {
        self.drained && self.shared.counters.active_connections() == 0
    }

    /// The counters, to be read by any thread at any time.
    pub fn counters(&self) -> Arc<HttpCounters> {
        self.shared.counters.clone()
    }

    /// Its thread, to see whether that still gets to what it is told.
    pub fn heart(&self) -> Heart {
        let runtime = self.runtime.clone();
        // A runtime that has ended drops the task at once.
        Heart::new(THREAD, move |answer| drop(runtime.spawn(async move { drop(answer) })))
    }

    /// Takes the endpoints of the backends that requests go to.
    fn set_endpoints(&mut self, table: &EndpointTable) {
        let targets = self.wanted.http_rules().flat_map(|rule| &rule.route.targets);
        let named: BTreeSet<_> = targets.filter_map(|target| target.target.backend()).collect();
        let endpoints = Endpoints::new(named, table, &mut self.upstreams);
        self.shared.endpoints.store(Arc::new(endpoints));
    }

    /// Closes the sockets that are meant.
    fn close(&mut self, meant: impl Fn(&SocketAddr) -> bool, within: Duration) {
        self.draining.retain(|_, drain| !drain.is_over());
        let deadline = Instant::now() + within;
        for (bind, socket) in self.sockets.extract_if(.., |bind, _| meant(bind)) {
            self.draining.insert((Kind::Http, bind), socket.close(deadline));
        }
    }

    /// Listens on every wanted port, and shows requests what there is.
    fn carry_out(&mut self) {
        self.failures.clear();
        if self.drained {
            return;
        }
        let config = self.wanted.clone();
        let tables = self.tables.clone();
        for (port, table) in config.http_ports().iter().zip(&tables) {
            if let Err(failure) = self.open(port, table) {
                let failed = port.listeners.iter().map(|l| (l.id.clone(), failure.clone()));
                self.failures.extend(failed);
                let binds: BTreeSet<_> = port.binds().collect();
                let deadline = self.shared.settings.drain_deadline;
                self.close(|bind| binds.contains(bind), deadline);
            }
        }
    }

    /// Listens on a port's addresses, as far as it doesn't yet.
    fn open(&mut self, port: &HttpPort, table: &Arc<Table>) -> Result<(), BindFailure> {
        self.show(port, table);
        for bind in port.binds() {
            if !self.sockets.contains_key(&bind) {
                let view = Arc::new(self.view(table));
                let (runtime, shared) = (self.runtime.clone(), self.shared.clone());
                let drain = || self.drain_of(Kind::Http, bind);
                let socket = Socket::open(&runtime, shared, bind, view, drain)?;
                self.sockets.insert(bind, socket);
            }
        }
        Ok(())
    }

    /// Shows the requests of a port's sockets this table and the endpoints of now.
    fn show(&self, port: &HttpPort, table: &Arc<Table>) {
        let view = Arc::new(self.view(table));
        for socket in port.binds().filter_map(|bind| self.sockets.get(&bind)) {
            socket.show(view.clone());
        }
    }

    fn view(&self, table: &Arc<Table>) -> View {
        View {
            table: table.clone(),
            endpoints: self.shared.endpoints.load_full(),
            terms: self.wanted.terms(),
            http_terms: self.wanted.http_terms().clone(),
        }
    }

    fn report(&self) -> Report {
        let listeners = self.wanted.http_ports().iter().flat_map(|port| &port.listeners);
        let report = |listener: &HttpListener| match self.failures.get(&listener.id) {
            Some(failure) => ListenerReport::Failed(failure.clone()),
            None => ListenerReport::Bound,
        };
        listeners.map(|listener| (listener.id.clone(), report(listener))).collect()
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
