use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use l4way_model::{BackendId, BackendSource, Endpoint, EndpointTable, Transport};
use l4way_translate::service_endpoints;

use crate::{Addresses, EndpointSources, Service, Slices, row::row, sources::hostname};

/// The backends that are followed, and where their endpoints are now. Endpoints on the proxy's own
/// host are left out.
#[derive(Debug, Default)]
pub struct Backends {
    followed: BTreeMap<BackendId, BackendSource>,
    /// The zone that the proxy runs in, whose endpoints are preferred.
    zone: Option<Arc<str>>,
    /// Where the endpoints are, the EndpointSlices read.
    sources: EndpointSources,
    /// Those of them that have names.
    named: BTreeSet<BackendId>,
    table: EndpointTable,
    refused: BTreeMap<BackendId, String>,
}

impl Backends {
    /// Follows these backends.
    pub fn new(
        followed: BTreeMap<BackendId, BackendSource>,
        zone: Option<Arc<str>>,
        slices: &Slices,
        addresses: &Addresses,
    ) -> Self {
        let ids: Vec<_> = followed.keys().cloned().collect();
        let mut backends = Self { followed, zone, ..Self::default() };
        for backend in &ids {
            backends.read(backend, slices, addresses);
        }
        backends
    }

    /// Takes in that the EndpointSlices of these Services may be different. Returns the rows that are.
    pub fn slices_changed<'a>(
        &mut self,
        services: impl IntoIterator<Item = &'a Service>,
        slices: &Slices,
        addresses: &Addresses,
    ) -> EndpointTable {
        let ports = services.into_iter().flat_map(|service| ports(&self.followed, service));
        let ports: Vec<_> = ports.cloned().collect();
        let changed = ports.into_iter().filter_map(|backend| {
            let row = self.read(&backend, slices, addresses)?;
            Some((backend, row))
        });
        EndpointTable(changed.collect())
    }

    /// Takes in that the addresses of names may be different. Returns the rows that are.
    pub fn addresses_changed(&mut self, addresses: &Addresses) -> EndpointTable {
        let named: Vec<_> = self.named.iter().cloned().collect();
        let changed = named.into_iter().filter_map(|backend| {
            let row = self.resolve(&backend, addresses)?;
            Some((backend, row))
        });
        EndpointTable(changed.collect())
    }

    /// Follows these backends no longer. Returns their rows, which have no endpoints now.
    pub fn remove(&mut self, backends: &[BackendId]) -> EndpointTable {
        for backend in backends {
            self.followed.remove(backend);
            self.sources.remove(backend);
            self.named.remove(backend);
            self.table.0.remove(backend);
            self.refused.remove(backend);
        }
        EndpointTable(backends.iter().map(|backend| (backend.clone(), Arc::default())).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.followed.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }

    /// Every backend's endpoints.
    pub fn table(&self) -> &EndpointTable {
        &self.table
    }

    /// The backends some of whose endpoints are left out, each with a sentence that names those.
    pub fn refused(&self) -> &BTreeMap<BackendId, String> {
        &self.refused
    }

    /// The names that have to be followed to know where the endpoints are.
    pub fn hostnames(&self) -> BTreeSet<Arc<str>> {
        let sources = self.named.iter().filter_map(|backend| self.sources.get(backend));
        sources.flatten().filter_map(hostname).cloned().collect()
    }

    /// Reads where a backend's endpoints are. Returns its row if that is different.
    fn read(
        &mut self,
        backend: &BackendId,
        slices: &Slices,
        addresses: &Addresses,
    ) -> Option<Arc<[Endpoint]>> {
        let now = match self.followed.get(backend)? {
            BackendSource::Known(sources) => sources.clone(),
            BackendSource::Slices(port) => {
                let slices = slices.of(&backend.namespace, &backend.name);
                service_endpoints(port, backend.transport, &slices, self.zone.as_deref())
            }
        };
        if now.iter().any(|source| hostname(source).is_some()) {
            self.named.insert(backend.clone());
        } else {
            self.named.remove(backend);
        }
        self.sources.insert(backend.clone(), now);
        self.resolve(backend, addresses)
    }

    /// Makes a backend's row anew. Returns it if it is different.
    fn resolve(&mut self, backend: &BackendId, addresses: &Addresses) -> Option<Arc<[Endpoint]>> {
        let (row, refused) = row(self.sources.get(backend)?, addresses);
        match refused {
            Some(refused) => drop(self.refused.insert(backend.clone(), refused)),
            None => drop(self.refused.remove(backend)),
        }
        if self.table.0.get(backend) == Some(&row) {
            return None;
        }
        self.table.0.insert(backend.clone(), row.clone());
        Some(row)
    }
}

/// The backends that are ports of a Service.
fn ports<'a>(
    followed: &'a BTreeMap<BackendId, BackendSource>,
    (namespace, name): &Service,
) -> impl Iterator<Item = &'a BackendId> {
    let first = BackendId {
        kind: "Service".into(),
        namespace: namespace.clone(),
        name: name.clone(),
        port: None,
        transport: Transport::Tcp,
    };
    let from = followed.range(first.clone()..).map(|(backend, _)| backend);
    from.take_while(move |backend| {
        (&backend.kind, &backend.namespace, &backend.name)
            == (&first.kind, &first.namespace, &first.name)
    })
}

#[cfg(test)]
mod tests {
    use l4way_model::{EndpointSource, ServicePort};
    use l4way_resources::api::EndpointSlice;
    use serde_json::json;

    use super::*;

    fn port(service: &str, port: u16) -> BackendId {
        BackendId {
            kind: "Service".into(),
            namespace: "default".into(),
            name: service.into(),
            port: Some(port),
            transport: Transport::Tcp,
        }
    }

    fn followed() -> BackendSource {
        BackendSource::Slices(ServicePort { name: "".into(), publish_not_ready: false })
    }

    fn slice(service: &str, addresses: &[&str]) -> EndpointSlice {
        let labels = json!({ EndpointSlice::SERVICE_NAME_LABEL: service });
        let endpoints: Vec<_> =
            addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
        serde_json::from_value(json!({
            "metadata": { "name": format!("{service}-1"), "labels": labels },
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "port": 8000 }],
        }))
        .unwrap()
    }

    fn endpoints(backends: &Backends, backend: &BackendId) -> Vec<String> {
        let row = backends.table().0[backend].iter();
        row.map(|endpoint| endpoint.address.to_string()).collect()
    }

    #[test]
    fn changes_are_told_row_by_row() {
        let [a1, a2, b] = [port("a", 1), port("a", 2), port("b", 1)];
        let namespace: Arc<str> = "default".into();
        let mut slices = Slices::default();
        let listed = vec![slice("a", &["10.0.0.1"]), slice("b", &["10.0.0.2"])];
        slices.replace(&namespace, listed);
        let addresses = Addresses::default();
        let all = [&a1, &a2, &b].map(|backend| (backend.clone(), followed()));
        let mut backends = Backends::new(all.into(), None, &slices, &addresses);
        assert_eq!((backends.len(), endpoints(&backends, &b)), (3, vec!["10.0.0.2:8000".into()]));

        let concerned = slices.set(&namespace, slice("a", &["10.0.0.3", "127.0.0.1"]));
        let changed = backends.slices_changed(&concerned, &slices, &addresses);
        assert!(changed.0.keys().eq([&a1, &a2]));
        for port in [&a1, &a2] {
            assert_eq!(endpoints(&backends, port), ["10.0.0.3:8000"]);
            assert_eq!(changed.0[port], backends.table().0[port]);
            assert!(backends.refused()[port].contains("127.0.0.1:8000"));
        }

        let concerned = slices.set(&namespace, slice("a", &["10.0.0.3"]));
        let changed = backends.slices_changed(&concerned, &slices, &addresses);
        assert_eq!((changed, backends.refused().len()), (EndpointTable::default(), 0));
        let removed = backends.remove(std::slice::from_ref(&a1));
        assert_eq!((backends.len(), backends.table().0.get(&a1)), (2, None));
        assert!(removed.0[&a1].is_empty());
        let changed = backends.slices_changed(&[(namespace, "c".into())], &slices, &addresses);
        assert!(changed.0.is_empty());
    }

    #[test]
    fn names_are_resolved_anew_when_their_addresses_change() {
        let backend = port("db", 1);
        let dns = EndpointSource::Dns { hostname: "db.example".into(), port: 5432 };
        let known = [(backend.clone(), BackendSource::Known(vec![dns]))];
        let (slices, none) = (Slices::default(), Addresses::default());
        let mut backends = Backends::new(known.into(), None, &slices, &none);
        assert_eq!(backends.hostnames(), ["db.example".into()].into());
        assert!(endpoints(&backends, &backend).is_empty());
        let found = ["10.0.0.1".parse().unwrap()];
        let found = Addresses([("db.example".into(), Some(found.into()))].into());
        assert_eq!(backends.addresses_changed(&found), *backends.table());
        assert_eq!(endpoints(&backends, &backend), ["10.0.0.1:5432"]);
        assert_eq!(backends.addresses_changed(&found), EndpointTable::default());
        assert_eq!(backends.addresses_changed(&none), *backends.table());
        assert!(endpoints(&backends, &backend).is_empty());
    }
}
