//! Every backend's endpoints, and how busy each one is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use l4way_model::{BackendId, Endpoint, EndpointAddress, EndpointPlace, EndpointTable};
use l4way_proxy_core::{EndpointOf, HealthView, Rng};

use crate::pool::Pool;

/// Every backend's endpoints at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints(BTreeMap<BackendId, Arc<Row>>);

/// One backend's endpoints.
#[derive(Debug, Default)]
struct Row {
    /// As the table had them.
    endpoints: Arc<[Endpoint]>,
    upstreams: Box<[Arc<Upstream>]>,
}

/// An endpoint, with the connections to it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: EndpointAddress,
    pub(crate) pool: Pool,
    /// Requests that are on their way there, their answers included.
    requests: AtomicU32,
}

/// All endpoints there are, each of them once, however many backends have it.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    known: HashMap<EndpointAddress, Weak<Upstream>>,
    /// Those that are gone are forgotten when there are so many.
    forget_at: usize,
}

impl Upstreams {
    fn row(&mut self, endpoints: &Arc<[Endpoint]>) -> Arc<Row> {
        let upstreams = endpoints.iter().map(|endpoint| self.get(&endpoint.address)).collect();
        Arc::new(Row { endpoints: endpoints.clone(), upstreams })
    }

    fn get(&mut self, address: &EndpointAddress) -> Arc<Upstream> {
        if let Some(known) = self.known.get(address).and_then(Weak::upgrade) {
            return known;
        }
        if self.known.len() >= self.forget_at {
            self.known.retain(|_, upstream| upstream.strong_count() > 0);
            self.forget_at = 2 * self.known.len() + 1;
        }
        let (address, pool) = (address.clone(), Pool::default());
        let upstream = Arc::new(Upstream { address, pool, requests: AtomicU32::new(0) });
        self.known.insert(upstream.address.clone(), Arc::downgrade(&upstream));
        upstream
    }
}

impl Endpoints {
    /// The endpoints that `table` has for these backends, and no others. Endpoints that were there
    /// before keep their connections.
    pub(crate) fn new<'a>(
        backends: impl IntoIterator<Item = &'a BackendId>,
        table: &EndpointTable,
        upstreams: &mut Upstreams,
    ) -> Self {
        let none = Arc::default();
        let mut row = |backend| upstreams.row(table.0.get(backend).unwrap_or(&none));
        Self(backends.into_iter().map(|backend| (backend.clone(), row(backend))).collect())
    }

    /// With these rows, as far as they are its backends', if some are different. Endpoints that were
    /// there before keep their connections.
    pub(crate) fn update(&self, rows: &EndpointTable, upstreams: &mut Upstreams) -> Option<Self> {
        let differs = |(backend, now): (&BackendId, &Arc<[Endpoint]>)| {
            let row = self.0.get(backend)?;
            (row.endpoints != *now).then(|| (backend.clone(), upstreams.row(now)))
        };
        let changed: Vec<_> = rows.0.iter().filter_map(differs).collect();
        (!changed.is_empty()).then(|| {
            let mut updated = self.clone();
            updated.0.extend(changed);
            updated
        })
    }

    /// All of them; one that several backends have, several times.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.values().flat_map(|row| &row.upstreams)
    }

    /// How many requests are on their way to an endpoint, for all backends that have its address; 0 if it
    /// isn't in its place.
    pub(crate) fn requests(&self, place: &EndpointPlace) -> u32 {
        let upstream = self.0.get(&place.backend).and_then(|row| row.upstreams.get(place.index));
        let upstream = upstream.filter(|upstream| upstream.address == place.address);
        upstream.map_or(0, |upstream| upstream.requests.load(Relaxed))
    }

    /// The endpoint for a request to this backend: the less busy of two that haven't been tried.
    /// Its index is added to the tried ones.
    pub(crate) fn choose(
        &self,
        backend: &BackendId,
        rng: &mut Rng,
        health: &HealthView,
        tried: &mut Vec<usize>,
    ) -> Option<UpstreamLease> {
        let now = Instant::now();
        let upstreams = &self.0.get(backend)?.upstreams;
        let endpoint = |index: usize| EndpointOf { backend, address: &upstreams[index].address };
        let requests = |index: usize| upstreams[index].requests.load(Relaxed);
        let index = health.choose(rng, upstreams.len(), tried, now, endpoint, requests)?;
        tried.insert(tried.partition_point(|&before| before < index), index);
        Some(UpstreamLease::new(upstreams[index].clone()))
    }
}

/// A request's hold on its endpoint: it counts among the endpoint's requests.
#[derive(Debug)]
pub(crate) struct UpstreamLease {
    upstream: Arc<Upstream>,
}

impl UpstreamLease {
    fn new(upstream: Arc<Upstream>) -> Self {
        upstream.requests.fetch_add(1, Relaxed);
        Self { upstream }
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for UpstreamLease {
    fn drop(&mut self) {
        self.upstream.requests.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use l4way_model::Transport;
    use l4way_proxy_core::EndpointStore;

    use super::*;

    fn backend() -> BackendId {
        BackendId {
            kind: "Service".into(),
            namespace: "ns".into(),
            name: "b".into(),
            port: Some(80),
            transport: Transport::Tcp,
        }
    }

    fn table(ports: &[u16]) -> EndpointTable {
        let endpoint = |&port: &u16| Endpoint::from(SocketAddr::from(([127, 0, 0, 1], port)));
        EndpointTable([(backend(), ports.iter().map(endpoint).collect())].into())
    }

    #[test]
    fn an_endpoint_is_tried_once_and_stays_the_same_over_changes() {
        let mut rng = Rng::new(1);
        let health = EndpointStore::new(Instant::now()).view();
        let mut upstreams = Upstreams::default();
        let none = Endpoints::new([&backend()], &EndpointTable::default(), &mut upstreams);
        assert!(none.choose(&backend(), &mut rng, &health, &mut Vec::new()).is_none());
        let first = none.update(&table(&[1, 2]), &mut upstreams).unwrap();
        let mut tried = Vec::new();
        let leases = [(); 3].map(|()| first.choose(&backend(), &mut rng, &health, &mut tried));
        let [Some(one), Some(other), None] = leases else { panic!("{leases:?}") };
        assert_ne!(one.upstream().address, other.upstream().address);
        assert_eq!(tried, [0, 1]);
        assert!(first.update(&table(&[1, 2]), &mut upstreams).is_none());
        let second = Endpoints::new([&backend()], &table(&[2, 3]), &mut upstreams);
        let stays = second.upstreams().next().unwrap();
        assert!([&one, &other].iter().any(|lease| Arc::ptr_eq(lease.upstream(), stays)));
        assert_eq!(stays.requests.load(Relaxed), 1);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut upstreams = Upstreams::default();
        let mut endpoints = Endpoints::new([&backend()], &table(&[]), &mut upstreams);
        for port in 1..1_000 {
            endpoints = endpoints.update(&table(&[port]), &mut upstreams).unwrap();
        }
        assert!(upstreams.known.len() < 5, "{}", upstreams.known.len());
    }
}
