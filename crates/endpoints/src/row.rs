//! One backend's endpoints, without those on the host that connects to them: whoever writes a route
//! would reach through the proxy what he can't reach himself.

use std::{collections::BTreeSet, sync::Arc};

use l4way_model::{Endpoint, EndpointSource};

use crate::{
    Addresses,
    sources::{endpoints, endpoints_of},
};

/// How many endpoints a sentence names.
const NAMED: usize = 3;

/// The endpoints that sessions may go to, and a sentence that names those they may not, if there are
/// any.
pub(crate) fn row(
    sources: &[EndpointSource],
    addresses: &Addresses,
) -> (Arc<[Endpoint]>, Option<String>) {
    let mut row = endpoints(sources, addresses);
    if !row.iter().any(Endpoint::is_local) {
        return (row.into(), None);
    }
    row.retain(|endpoint| !endpoint.is_local());
    (row.into(), Some(refusal(sources, addresses)))
}

/// Why some of a backend's endpoints are left out.
fn refusal(sources: &[EndpointSource], addresses: &Addresses) -> String {
    let local = |source| {
        let local = endpoints_of(source, addresses).filter(Endpoint::is_local);
        local.map(move |endpoint| named(source, &endpoint))
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn endpoints_on_the_own_host_are_left_out_and_named() {
        let address = |text: &str| Endpoint::from(text.parse::<SocketAddr>().unwrap());
        let sources = [
            EndpointSource::Address(address("10.0.0.1:5432")),
            EndpointSource::Address(address("169.254.169.254:80")),
            EndpointSource::Address(address("[::ffff:127.0.0.1]:80")),
            EndpointSource::Dns { hostname: "db.example".into(), port: 5432 },
        ];
        let found = ["0.0.0.0", "10.0.0.2", "::1"].map(|text| text.parse().unwrap());
        let addresses = Addresses([("db.example".into(), Some(found.into()))].into());
        let (row, refused) = row(&sources, &addresses);
        assert_eq!(*row, [address("10.0.0.1:5432"), address("10.0.0.2:5432")]);
        assert_eq!(
            refused.unwrap(),
            "endpoints on the proxy's own host are left out: 0.0.0.0:5432 of db.example, \
             127.0.0.1:80, 169.254.169.254:80, 1 more; use addresses of other hosts"
        );
    }
}
