//! Endpoints that are passed over: the log tells of them, and connections of our own try them again, so
//! that no client has to.

mod lines;
mod past;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use l4way_host::is_connected_to_itself;
use l4way_model::{BackendId, Config, EndpointAddress, EndpointTable, RouteId, Transport};
use l4way_proxy_core::{EndpointFailure, EndpointKey, EndpointOf, EndpointState, EndpointStore};
use rustix::{io::Errno, net::sockopt::set_socket_linger};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::Semaphore,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use self::{
    lines::{Line, Lines},
    past::Past,
};

/// How often it is looked for what has changed.
const LOOK: Duration = Duration::from_millis(250);
/// After so many looks what is unused is forgotten, also if no endpoint has gone: sessions that began before
/// may have noted something against one that has. It takes a walk over all endpoints.
const FORGET_EVERY: u64 = 40;
/// How many are tried at a time.
const AT_A_TIME: usize = 64;
/// How many changes are told at a time; many endpoints may go at once.
const TOLD: usize = 20;

/// What is known of endpoints, and whose they are. Cheap to share.
#[derive(Clone, Debug)]
pub(crate) struct EndpointHealth {
    store: Arc<EndpointStore>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    table: EndpointTable,
    connect_timeout: Duration,
    /// It has changed since what is unused was forgotten.
    is_changed: bool,
    routes: Routes,
    /// The backends that routes name, with weight or without.
    named: BTreeSet<BackendId>,
    /// The names that are looked up for backends.
    names: BTreeMap<BackendId, Vec<Arc<str>>>,
    lines: Lines,
    past: Past,
}

/// Every route with each of its backends that has weight.
type Routes = Arc<BTreeSet<(RouteId, BackendId)>>;

impl Shared {
    /// These backends have these endpoints. A backend is there as long as a route names it, or it has endpoints
    /// for the sessions that are left.
    fn set_rows(&mut self, rows: &EndpointTable) {
        self.is_changed = true;
        for (backend, endpoints) in &rows.0 {
            if !endpoints.is_empty() || self.named.contains(backend) {
                self.table.0.insert(backend.clone(), endpoints.clone());
            } else {
                self.table.0.remove(backend);
            }
        }
    }
}

/// How many endpoints of a backend are taken, and how many are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendHealth {
    pub(crate) backend: BackendId,
    pub(crate) taken: u64,
    pub(crate) passed_over: u64,
}

impl EndpointHealth {
    /// Of this store. The work goes on as long as the runtime.
    pub(crate) fn start(store: Arc<EndpointStore>) -> Self {
        let health = Self { store, shared: Arc::default() };
        tokio::spawn(health.clone().keep());
        health
    }

    /// These are all routes and endpoints there are from now on.
    pub(crate) fn set(&self, config: &Config, table: &EndpointTable) {
        let mut shared = self.shared();
        shared.connect_timeout = config.terms().connect_timeout;
        shared.routes = Arc::new(routes(config));
        // A backend that is missing has no endpoints.
        let named = config.routes().flat_map(|route| &route.targets);
        let named = named.filter_map(|weighted| weighted.target.backend());
        shared.named = named.cloned().collect();
        let missing = shared.named.iter().map(|backend| (backend.clone(), Arc::default()));
        shared.table = EndpointTable(missing.collect());
        shared.set_rows(table);
    }

    /// These are the names that are looked up for backends, to tell of those that lead nowhere.
    pub(crate) fn set_names(&self, names: BTreeMap<BackendId, Vec<Arc<str>>>) {
        self.shared().names = names;
    }

    /// These backends have these endpoints from now on.
    pub(crate) fn update(&self, changes: &EndpointTable) {
        self.shared().set_rows(changes);
    }

    /// Every backend's endpoints, counted.
    pub(crate) fn backends(&self) -> Vec<BackendHealth> {
        let (view, now) = (self.store.view(), Instant::now());
        let shared = self.shared();
        let count = |(backend, endpoints): (&BackendId, &Arc<[l4way_model::Endpoint]>)| {
            let is_taken = |address: &EndpointAddress| {
                view.state(EndpointOf { backend, address }, now) == EndpointState::Taken
            };
            let taken = endpoints.iter().filter(|endpoint| is_taken(&endpoint.address)).count();
            let passed_over = (endpoints.len() - taken) as u64;
            BackendHealth { backend: backend.clone(), taken: taken as u64, passed_over }
        };
        shared.table.0.iter().map(count).collect()
    }

    /// How often endpoints of a backend have failed sessions, by why.
    pub(crate) fn failures(&self) -> Vec<(BackendId, EndpointFailure, u64)> {
        self.store.failures()
    }

    async fn keep(self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let at_a_time = Arc::new(Semaphore::new(AT_A_TIME));
        for looks in 0_u64.. {
            look.tick().await;
            self.tell();
            let is_changed = std::mem::take(&mut self.shared().is_changed);
            if is_changed || looks.is_multiple_of(FORGET_EVERY) {
                self.forget_unused();
            }
            for key in self.store.take_trials(Instant::now()) {
                let (health, at_a_time) = (self.clone(), at_a_time.clone());
                tokio::spawn(async move {
                    let _place = at_a_time.acquire().await;
                    health.try_again(&key).await;
                });
            }
        }
    }

    /// Connects to an address and closes at once, to see whether somebody answers.
    async fn try_again(&self, key: &EndpointKey) {
        let within = self.shared().connect_timeout;
        let connect = async {
            match &key.address {
                EndpointAddress::Ip(address) => {
                    let stream = TcpStream::connect(address).await?;
                    if is_connected_to_itself(&stream, *address) {
                        set_socket_linger(&stream, Some(Duration::ZERO))?;
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    Ok(())
                }
                EndpointAddress::Unix(path) => UnixStream::connect(&**path).await.map(drop),
            }
        };
        let failure = match timeout(within, connect).await {
            Ok(Ok(())) => return self.store.connected(key),
            // Its queue is full: it is there.
            Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.store.connected(key);
            }
            Ok(Err(error)) => failure(&error),
            Err(_) => Some(EndpointFailure::Timeout),
        };
        if let Some(failure) = failure {
            self.store.failed(key, failure, Instant::now());
        }
    }

    /// Says once of each endpoint that it is passed over, and once that it is taken again.
    fn tell(&self) {
        let now = Instant::now();
        let lines = {
            let Shared { lines, past, .. } = &mut *self.shared();
            for change in self.store.take_news() {
                past.note(&change);
                lines.note(&change);
            }
            past.forget_old(now);
            lines.due(now)
        };
        for Line { key, failure, times } in lines.iter().take(TOLD) {
            let (endpoint, backends) = (&key.address, self.backends_of(key));
            match failure {
                Some(failure) => warn!(
                    %endpoint,
                    backends,
                    failure = failure.as_str(),
                    times,
                    "nobody answers at an endpoint: sessions go to others while there are any"
                ),
                None => info!(%endpoint, backends, times, "an endpoint answers again"),
            }
        }
        if lines.len() > TOLD {
            warn!("{} more endpoints have stopped or begun to answer", lines.len() - TOLD);
        }
    }

    /// The backends that have an endpoint, as a person reads them.
    fn backends_of(&self, key: &EndpointKey) -> String {
        if let Some(backend) = &key.backend {
            return backend.to_string();
        }
        let shared = self.shared();
        let has = |(backend, _): &(&BackendId, &Arc<[l4way_model::Endpoint]>)| {
            backend.transport == key.transport
        };
        let of = shared.table.0.iter().filter(has).filter(|(_, endpoints)| {
            endpoints.iter().any(|endpoint| endpoint.address == key.address)
        });
        of.map(|(backend, _)| backend.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Forgets what is known of endpoints that no backend has any more, and what was counted of backends
    /// that are gone.
    fn forget_unused(&self) {
        let shared = self.shared();
        self.store.retain_backends(|backend| shared.table.0.contains_key(backend));
        if !self.store.knows_any() {
            return;
        }
        let used = shared.table.0.iter().flat_map(|(backend, endpoints)| {
            endpoints.iter().map(move |endpoint| (backend.transport, &endpoint.address))
        });
        let used: HashSet<(Transport, &EndpointAddress)> = used.collect();
        self.store.retain(|key| used.contains(&(key.transport, &key.address)));
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every route with each of its backends that has weight.
fn routes(config: &Config) -> BTreeSet<(RouteId, BackendId)> {
    let backends = config.routes().flat_map(|route| {
        let weighted = route.targets.iter().filter(|target| target.weight > 0);
        weighted.filter_map(|weighted| Some((route.id.clone(), weighted.target.backend()?.clone())))
    });
    backends.collect()
}

/// What an error says of the endpoint; nothing if it is this host that lacks something.
fn failure(error: &io::Error) -> Option<EndpointFailure> {
    let is_short = matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    );
    match error.kind() {
        _ if is_short => None,
        io::ErrorKind::ConnectionRefused => Some(EndpointFailure::Refused),
        io::ErrorKind::TimedOut => Some(EndpointFailure::Timeout),
        _ => Some(EndpointFailure::Unreachable),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    fn backend() -> BackendId {
        BackendId {
            kind: "Backend".into(),
            namespace: "default".into(),
            name: "b".into(),
            port: None,
            transport: Transport::Tcp,
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_answers_again_is_found_without_a_client() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        drop(listener);
        let store = EndpointStore::new(Instant::now());
        let health = EndpointHealth::start(store.clone());
        let endpoints: Arc<[l4way_model::Endpoint]> = [address.into()].into();
        health.set(&Config::default(), &EndpointTable([(backend(), endpoints)].into()));
        let ip = EndpointAddress::Ip(address);
        let endpoint = EndpointOf { backend: &backend(), address: &ip };
        store.view().failed(endpoint, EndpointFailure::Refused, Instant::now());
        let counted = |taken, passed_over| BackendHealth { backend: backend(), taken, passed_over };
        assert_eq!(health.backends(), [counted(0, 1)]);
        assert_eq!(health.failures(), [(backend(), EndpointFailure::Refused, 1)]);

        let _listener = TcpListener::bind(address).unwrap();
        timeout(Duration::from_secs(60), async {
            while health.backends() != [counted(1, 0)] {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("it is tried again");
    }

    #[tokio::test]
    async fn what_no_backend_has_is_not_tried() {
        let store = EndpointStore::new(Instant::now());
        let health = EndpointHealth::start(store.clone());
        let address = EndpointAddress::Ip(SocketAddr::from(([127, 0, 0, 1], 1)));
        let endpoint = EndpointOf { backend: &backend(), address: &address };
        store.view().failed(endpoint, EndpointFailure::Refused, Instant::now());
        health.forget_unused();
        assert!(!store.knows_any());
    }
}
