use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use l4way_model::{BackendId, BackendSource, Endpoint, EndpointSource, EndpointTable};

use super::Addresses;

/// How many endpoints a sentence names.
const NAMED: usize = 3;

/// Where each backend's endpoints are, as addresses and names.
pub(crate) type EndpointSources = BTreeMap<BackendId, Vec<EndpointSource>>;

/// The backends whose endpoints the configuration itself says.
pub(crate) fn known(backends: BTreeMap<BackendId, BackendSource>) -> EndpointSources {
    let known = |(backend, source)| match source {
        BackendSource::Known(sources) => Some((backend, sources)),
        BackendSource::Slices(_) => None,
    };
    backends.into_iter().filter_map(known).collect()
}

/// The names that have to be followed to know where the backends are.
pub(crate) fn hostnames(backends: &EndpointSources) -> BTreeSet<Arc<str>> {
    let hostnames = backends.values().flatten().filter_map(|source| match source {
        EndpointSource::Address(_) => None,
        EndpointSource::Dns { hostname, .. } => Some(hostname.clone()),
    });
    hostnames.collect()
}

/// Each backend's endpoints: its addresses, and those of its names as far as they are known. An
/// endpoint that comes in both ways is there once.
pub(crate) fn endpoint_table(backends: &EndpointSources, addresses: &Addresses) -> EndpointTable {
    let rows = backends.iter().map(|(backend, sources)| {
        let endpoints: BTreeSet<Endpoint> =
            sources.iter().flat_map(|source| endpoints(source, addresses)).collect();
        (backend.clone(), endpoints.into_iter().collect())
    });
    EndpointTable(rows.collect())
}

/// Each backend's endpoints without those on the host that connects to them, and for each backend
/// that has such endpoints a sentence that names them: whoever writes a route would reach through
/// the proxy what he can't reach himself.
pub(crate) fn without_local(
    backends: &EndpointSources,
    addresses: &Addresses,
) -> (EndpointTable, BTreeMap<BackendId, String>) {
    let mut table = endpoint_table(backends, addresses);
    let mut refused = BTreeMap::new();
    for (backend, row) in &mut table.0 {
        if row.iter().any(Endpoint::is_local) {
            *row = row.iter().filter(|endpoint| !endpoint.is_local()).cloned().collect();
            let sentence = refusal(&backends[backend], addresses);
            refused.insert(backend.clone(), sentence);
        }
    }
    (table, refused)
}

/// Why some of a backend's endpoints are left out.
fn refusal(sources: &[EndpointSource], addresses: &Addresses) -> String {
    let local = |source: &EndpointSource| {
        let local = endpoints(source, addresses).into_iter().filter(Endpoint::is_local);
        local.map(|endpoint| named(source, &endpoint)).collect::<Vec<_>>()
    };
    let local: BTreeSet<_> = sources.iter().flat_map(local).collect();
    let mut names: Vec<_> = local.iter().take(NAMED).map(String::as_str).collect();
    let more = format!("{} more", local.len() - names.len());
    if local.len() > names.len() {
        names.push(&more);
    }
    format!(
        "endpoints on the proxy's own host are left out: {}; use addresses of other hosts",
        names.join(", ")
    )
}

fn named(source: &EndpointSource, endpoint: &Endpoint) -> String {
    match source {
        EndpointSource::Address(_) => endpoint.address.to_string(),
        EndpointSource::Dns { hostname, .. } => format!("{} of {hostname}", endpoint.address),
    }
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

    fn backend() -> BackendId {
        BackendId {
            kind: "Backend".into(),
            namespace: "default".into(),
            name: "db".into(),
            port: None,
            transport: Transport::Tcp,
        }
    }

    #[test]
    fn addresses_and_resolved_names_together_are_the_endpoints() {
        let sources = vec![
            EndpointSource::Address(address("10.0.0.1:5432")),
            dns("db.example"),
            dns("unknown.example"),
        ];
        let backends = known([(backend(), BackendSource::Known(sources))].into());
        assert_eq!(hostnames(&backends), ["db.example", "unknown.example"].map(Into::into).into());

        let found = ["10.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let addresses = Addresses(BTreeMap::from([
            ("db.example".into(), Some(found.into())),
            ("unknown.example".into(), None),
        ]));
        let table = endpoint_table(&backends, &addresses);
        assert_eq!(*table.0[&backend()], [address("10.0.0.1:5432"), address("[2001:db8::1]:5432")]);
        let (same, refused) = without_local(&backends, &addresses);
        assert_eq!((same, refused), (table, BTreeMap::new()));
    }

    #[test]
    fn endpoints_on_the_own_host_are_left_out_and_named() {
        let sources = vec![
            EndpointSource::Address(address("10.0.0.1:5432")),
            EndpointSource::Address(address("169.254.169.254:80")),
            EndpointSource::Address(address("[::ffff:127.0.0.1]:80")),
            dns("db.example"),
        ];
        let found = ["0.0.0.0", "10.0.0.2", "::1"].map(|text| text.parse().unwrap());
        let addresses = Addresses(BTreeMap::from([("db.example".into(), Some(found.into()))]));
        let (table, refused) = without_local(&[(backend(), sources)].into(), &addresses);
        assert_eq!(*table.0[&backend()], [address("10.0.0.1:5432"), address("10.0.0.2:5432")]);
        assert_eq!(
            refused[&backend()],
            "endpoints on the proxy's own host are left out: 0.0.0.0:5432 of db.example, \
             169.254.169.254:80, [::1]:5432 of db.example, 1 more; use addresses of other hosts"
        );
    }
}
