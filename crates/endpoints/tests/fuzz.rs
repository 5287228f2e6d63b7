//! Sequences of EndpointSlices, in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use l4way_endpoints::{Addresses, Backends, Service, Slices};
use l4way_fuzz::Target;
use l4way_model::{BackendId, BackendSource, ServicePort, Transport};
use l4way_resources::api::{
    EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForZone, ObjectMeta,
    SliceEndpoint,
};

const NAMESPACES: [&str; 2] = ["team", "other"];
const ADDRESSES: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "2001:db8::1",
    "127.0.0.1",
    "db.example",
    "",
    "10.0.0.256",
];

/// What is brought up to date row by row is what one would read anew, and each change tells just the rows that
/// are different.
#[test]
fn endpoint_slices() {
    Target::new("endpoint_slices").run(|bytes| {
        let addresses = addresses();
        let mut all = Model::new();
        let mut slices = Slices::default();
        let mut backends = Backends::new(followed(), zone(), &slices, &addresses);
        let mut told = backends.table().clone();
        let mut bytes = Bytes(bytes.iter());
        while let Some(step) = bytes.next() {
            let concerned = change(step, &mut bytes, &mut slices, &mut all);
            let changed = backends.slices_changed(&concerned, &slices, &addresses);
            for (backend, row) in &changed.0 {
                assert_ne!(told.0.get(backend), Some(row), "{backend:?} is told and is the same");
            }
            told.0.extend(changed.0);
            let anew = Backends::new(followed(), zone(), &listed(&all), &addresses);
            assert_eq!(backends.table(), anew.table());
            assert_eq!(backends.refused(), anew.refused());
            assert_eq!(backends.hostnames(), anew.hostnames());
            assert_eq!(told, *anew.table());
        }
    });
}

fn addresses() -> Addresses {
    let found = Arc::from(["10.0.1.1".parse().expect("an address")]);
    Addresses([("db.example".into(), Some(found))].into())
}

fn zone() -> Option<Arc<str>> {
    Some("a".into())
}

fn followed() -> BTreeMap<BackendId, BackendSource> {
    let ports = [("db", "", 1), ("db", "admin", 2), ("web", "", 1)];
    let transports = [Transport::Tcp, Transport::Udp];
    let each = NAMESPACES.iter().flat_map(|namespace| ports.map(|port| (*namespace, port)));
    let each = each.flat_map(|port| transports.map(|transport| (port, transport)));
    let followed = each.map(|((namespace, (service, name, number)), transport)| {
        let backend = BackendId {
            kind: "Service".into(),
            namespace: namespace.into(),
            name: service.into(),
            port: Some(number),
            transport,
        };
        let port = ServicePort { name: name.into(), publish_not_ready: service == "web" };
        (backend, BackendSource::Slices(port))
    });
    followed.collect()
}

/// The EndpointSlices that there are, by namespace and name.
type Model = BTreeMap<(Arc<str>, Arc<str>), EndpointSlice>;

fn listed(all: &Model) -> Slices {
    let mut slices = Slices::default();
    for ((namespace, _), slice) in all {
        slices.set(namespace, slice.clone());
    }
    slices
}

/// One change, to both. Returns the Services that it is about.
fn change(step: u8, bytes: &mut Bytes<'_>, slices: &mut Slices, all: &mut Model) -> Vec<Service> {
    let namespace: Arc<str> = bytes.of(NAMESPACES).into();
    let key = |slice: &EndpointSlice| (namespace.clone(), slice.metadata.name.clone());
    match step % 8 {
        0..=3 => {
            let slice = slice(bytes);
            all.insert(key(&slice), slice.clone());
            slices.set(&namespace, slice)
        }
        4 | 5 => {
            let slice = slice(bytes);
            all.remove(&key(&slice));
            slices.remove(&namespace, &slice.metadata.name)
        }
        _ => {
            // A list that is read in pages may have an object twice, the second time as it is now.
            let listed: Vec<_> = (0..bytes.below(4)).map(|_| slice(bytes)).collect();
            all.retain(|(of, _), _| *of != namespace);
            all.extend(listed.iter().map(|slice| (key(slice), slice.clone())));
            let concerned = slices.replace(&namespace, listed);
            slices.retain(&NAMESPACES.map(Arc::from).into_iter().collect::<BTreeSet<_>>());
            concerned
        }
    }
}

fn slice(bytes: &mut Bytes<'_>) -> EndpointSlice {
    let label = EndpointSlice::SERVICE_NAME_LABEL.to_owned();
    let service = bytes.of([Some("db"), Some("web"), Some("db"), None]);
    EndpointSlice {
        metadata: ObjectMeta {
            name: bytes.of(["s1", "s2", "s3"]).into(),
            labels: service.map(|service| (label, service.to_owned())).into_iter().collect(),
            ..ObjectMeta::default()
        },
        address_type: bytes.of(["IPv4", "IPv6", "FQDN", "IPX"]).into(),
        endpoints: (0..bytes.below(4)).map(|_| endpoint(bytes)).collect(),
        ports: (0..bytes.below(3)).map(|_| port(bytes)).collect(),
    }
}

fn endpoint(bytes: &mut Bytes<'_>) -> SliceEndpoint {
    let hints = |name: &str| EndpointHints { for_zones: vec![ForZone { name: name.into() }] };
    SliceEndpoint {
        addresses: (0..bytes.below(3)).map(|_| bytes.of(ADDRESSES).into()).collect(),
        conditions: EndpointConditions {
            ready: bytes.of([None, Some(true), Some(false)]),
            serving: bytes.of([None, Some(true), Some(false)]),
            terminating: bytes.of([None, Some(true), Some(false)]),
        },
        zone: bytes.of([None, Some("a"), Some("b")]).map(Into::into),
        hints: bytes.of([None, Some("a"), Some("b")]).map(hints),
    }
}

fn port(bytes: &mut Bytes<'_>) -> EndpointPort {
    EndpointPort {
        name: bytes.of([None, Some(""), Some("admin")]).map(Into::into),
        protocol: bytes.of([None, Some("TCP"), Some("UDP"), Some("SCTP")]).map(Into::into),
        port: bytes.of([None, Some(80), Some(5432), Some(0)]),
    }
}

/// Choices out of bytes.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        self.0.next().copied()
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.next().unwrap_or_default()) % bound
    }

    fn of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.below(N)]
    }
}
