//! Every backend's endpoints, and how busy each one is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use l4way_model::{BackendId, EndpointAddress, EndpointTable};
use l4way_proxy_core::{Rng, less_loaded};

use crate::pool::Pool;

/// Every backend's endpoints at one time.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(BTreeMap<BackendId, Vec<Arc<Upstream>>>);

/// An endpoint, with the connections to it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: EndpointAddress,
    pub(crate) pool: Pool,
    /// Requests that are on their way there, their answers included.
    requests: AtomicU32,
}

impl Endpoints {
    /// The endpoints of `table`. Those that were there before keep their connections.
    pub(crate) fn new(table: &EndpointTable, before: &Self) -> Self {
        let known = before.upstreams().map(|upstream| (upstream.address.clone(), upstream.clone()));
        let mut upstreams: BTreeMap<_, _> = known.collect();
        let mut upstream = |address: &EndpointAddress| {
            let new = || {
                let address = address.clone();
                Arc::new(Upstream { address, pool: Pool::default(), requests: AtomicU32::new(0) })
            };
            upstreams.entry(address.clone()).or_insert_with(new).clone()
        };
        let backends = table.0.iter().map(|(id, endpoints)| {
            (id.clone(), endpoints.iter().map(|endpoint| upstream(&endpoint.address)).collect())
        });
        Self(backends.collect())
    }

    /// All of them; one that several backends have, several times.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.values().flatten()
    }

    /// The endpoint for a request to this backend: the less busy of two that haven't been tried.
    /// Its index is added to the tried ones.
    pub(crate) fn choose(
        &self,
        backend: &BackendId,
        rng: &mut Rng,
        tried: &mut Vec<usize>,
    ) -> Option<UpstreamLease> {
        let upstreams = self.0.get(backend)?;
        let requests = |index: usize| upstreams[index].requests.load(Relaxed);
        let index = less_loaded(rng, upstreams.len(), tried, requests)?;
        tried.insert(tried.partition_point(|&before| before < index), index);
        Some(UpstreamLease::new(upstreams[index].clone()))
    }
}

/// A request's hold on its endpoint: it counts among the endpoint's requests.
#[derive(Debug)]
pub(crate) struct UpstreamLease(Arc<Upstream>);

impl UpstreamLease {
    fn new(upstream: Arc<Upstream>) -> Self {
        upstream.requests.fetch_add(1, Relaxed);
        Self(upstream)
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.0
    }
}

impl Drop for UpstreamLease {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use l4way_model::{Endpoint, Transport};

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
        let first = Endpoints::new(&table(&[1, 2]), &Endpoints::default());
        let mut tried = Vec::new();
        let leases = [(); 3].map(|()| first.choose(&backend(), &mut rng, &mut tried));
        let [Some(one), Some(other), None] = leases else { panic!("{leases:?}") };
        assert_ne!(one.upstream().address, other.upstream().address);
        assert_eq!(tried, [0, 1]);
        let second = Endpoints::new(&table(&[2, 3]), &first);
        let stays = second.upstreams().next().unwrap();
        assert!([&one, &other].iter().any(|lease| Arc::ptr_eq(lease.upstream(), stays)));
        assert_eq!(stays.requests.load(Relaxed), 1);
    }
}
