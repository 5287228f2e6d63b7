use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use l4way_model::{BackendId, BackendSource, Endpoint, EndpointSource, EndpointTable};

/// Where each backend's endpoints are, as addresses and names.
pub type EndpointSources = BTreeMap<BackendId, Vec<EndpointSource>>;

/// The addresses of names, sorted; `None` of one that wasn't found, or not looked up yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(pub BTreeMap<Arc<str>, Option<Arc<[IpAddr]>>>);

impl Addresses {
    /// The addresses of `name`, if it has any.
    pub fn of(&self, name: &str) -> Option<&Arc<[IpAddr]>> {
        self.0.get(name)?.as_ref()
    }
}

/// The backends whose endpoints the configuration itself says.
pub fn known(backends: BTreeMap<BackendId, BackendSource>) -> EndpointSources {
    let known = |(backend, source)| match source {
        BackendSource::Known(sources) => Some((backend, sources)),
        BackendSource::Slices(_) => None,
    };
    backends.into_iter().filter_map(known).collect()
}

/// The names that have to be followed to know where the backends are.
pub fn hostnames(backends: &EndpointSources) -> BTreeSet<Arc<str>> {
    backends.values().flatten().filter_map(hostname).cloned().collect()
}

/// The names of each backend that has some.
pub fn hostnames_by_backend(backends: &EndpointSources) -> BTreeMap<BackendId, Vec<Arc<str>>> {
    let named = backends.iter().map(|(backend, sources)| {
        (backend.clone(), sources.iter().filter_map(hostname).cloned().collect::<Vec<_>>())
    });
    named.filter(|(_, names)| !names.is_empty()).collect()
}

/// Each backend's endpoints: its addresses, and those of its names as far as they are known. An
/// endpoint that comes in both ways is there once.
pub fn endpoint_table(backends: &EndpointSources, addresses: &Addresses) -> EndpointTable {
    let row = |sources: &Vec<_>| endpoints(sources, addresses).into();
    let rows = backends.iter().map(|(backend, sources)| (backend.clone(), row(sources)));
    EndpointTable(rows.collect())
}

/// The name that a source has, if it is one.
pub(crate) fn hostname(source: &EndpointSource) -> Option<&Arc<str>> {
    match source {
        EndpointSource::Address(_) => None,
        EndpointSource::Dns { hostname, .. } => Some(hostname),
    }
}

/// The endpoints of a backend, sorted.
pub(crate) fn endpoints(sources: &[EndpointSource], addresses: &Addresses) -> Vec<Endpoint> {
    let mut endpoints = Vec::with_capacity(sources.len());
    for source in sources {
        endpoints.extend(endpoints_of(source, addresses));
    }
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

/// The endpoints that one source leads to.
pub(crate) fn endpoints_of(
    source: &EndpointSource,
    addresses: &Addresses,
) -> impl Iterator<Item = Endpoint> {
    let (known, found, port) = match source {
        EndpointSource::Address(endpoint) => (Some(endpoint.clone()), None, 0),
        EndpointSource::Dns { hostname, port } => (None, addresses.of(hostname), *port),
    };
    let found = found.into_iter().flat_map(|found| found.iter());
    known.into_iter().chain(found.map(move |address| SocketAddr::new(*address, port).into()))
}

#[cfg(test)]
mod tests {
    use l4way_model::Transport;

    use super::*;

    fn address(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn addresses_and_resolved_names_together_are_the_endpoints() {
        let dns = |hostname: &str| EndpointSource::Dns { hostname: hostname.into(), port: 5432 };
        let backend = BackendId {
            kind: "Backend".into(),
            namespace: "default".into(),
            name: "db".into(),
            port: None,
            transport: Transport::Tcp,
        };
        let sources = vec![
            EndpointSource::Address(address("10.0.0.1:5432")),
            dns("db.example"),
            dns("unknown.example"),
        ];
        let backends = known([(backend.clone(), BackendSource::Known(sources))].into());
        assert_eq!(hostnames(&backends), ["db.example", "unknown.example"].map(Into::into).into());
        let of_backend = &hostnames_by_backend(&backends)[&backend];
        assert_eq!(*of_backend, ["db.example", "unknown.example"].map(Into::into));

        let found = ["10.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let addresses = Addresses(BTreeMap::from([
            ("db.example".into(), Some(found.into())),
            ("unknown.example".into(), None),
        ]));
        let table = endpoint_table(&backends, &addresses);
        assert_eq!(*table.0[&backend], [address("10.0.0.1:5432"), address("[2001:db8::1]:5432")]);
    }
}
