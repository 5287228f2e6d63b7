use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use l4way_model::{BackendId, Endpoint, EndpointTable};
use l4way_translate::EndpointSource;

use super::Addresses;

/// The names that have to be followed to know where the backends are.
pub(crate) fn hostnames(backends: &BTreeMap<BackendId, Vec<EndpointSource>>) -> BTreeSet<Arc<str>> {
    let hostnames = backends.values().flatten().filter_map(|source| match source {
        EndpointSource::Address(_) => None,
        EndpointSource::Dns { hostname, .. } => Some(hostname.clone()),
    });
    hostnames.collect()
}

/// Each backend's endpoints: its addresses, and those of its names as far as they are known. An
/// endpoint that comes in both ways is there once.
pub(crate) fn endpoint_table(
    backends: &BTreeMap<BackendId, Vec<EndpointSource>>,
    addresses: &Addresses,
) -> EndpointTable {
    let rows = backends.iter().map(|(backend, sources)| {
        let endpoints: BTreeSet<Endpoint> =
            sources.iter().flat_map(|source| endpoints(source, addresses)).collect();
        (backend.clone(), endpoints.into_iter().collect())
    });
    EndpointTable(rows.collect())
}

fn endpoints(source: &EndpointSource, addresses: &Addresses) -> Vec<Endpoint> {
    match source {
        EndpointSource::Address(endpoint) => vec![endpoint.clone()],
        EndpointSource::Dns { hostname, port } => {
            let found = addresses.of(hostname).into_iter().flat_map(|found| found.iter());
            found.map(|address| SocketAddr::new(*address, *port).into()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use l4way_model::Transport;

    use super::*;

    fn address(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    fn dns(hostname: &str) -> EndpointSource {
        EndpointSource::Dns { hostname: hostname.into(), port: 5432 }
    }

    #[test]
    fn addresses_and_resolved_names_together_are_the_endpoints() {
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
        let backends = BTreeMap::from([(backend.clone(), sources)]);
        assert_eq!(hostnames(&backends), ["db.example", "unknown.example"].map(Into::into).into());

        let found = ["10.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let addresses = Addresses(BTreeMap::from([
            ("db.example".into(), Some(found.into())),
            ("unknown.example".into(), None),
        ]));
        let table = endpoint_table(&backends, &addresses);
        assert_eq!(*table.0[&backend], [address("10.0.0.1:5432"), address("[2001:db8::1]:5432")]);
    }
}
