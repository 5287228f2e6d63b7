//! The parts of `l4way proxy` that a change of endpoints goes through.

use std::{net::Ipv4Addr, num::NonZeroUsize, sync::Arc};

use l4way_endpoints::{Addresses, Backends, Slices};
use l4way_http::HttpProxy;
use l4way_model::ListenerReport;
use l4way_proxy::Proxy;
use l4way_resources::api::EndpointSlice;
use l4way_translate::{Provision, Settings, graph, provisions};

use crate::{Size, snapshot};

/// What `l4way proxy` does with an EndpointSlice that it hears of, up to its workers.
pub struct Pod {
    slices: Slices,
    backends: Backends,
    addresses: Addresses,
    sessions: Proxy,
    http: HttpProxy,
    /// The EndpointSlices that there were at the start.
    first: Vec<EndpointSlice>,
}

impl Pod {
    /// A proxy that carries all of an installation with one Gateway.
    ///
    /// # Errors
    /// If there are more Gateways, or the proxy can't be started.
    pub fn start(size: Size) -> Result<Self, String> {
        let snapshot = snapshot(size)?;
        let provisions = provisions(&graph(&snapshot, &Settings::in_cluster()));
        let [Provision { compiled, .. }] = &provisions[..] else {
            return Err("a proxy carries one Gateway".to_owned());
        };
        let first: Vec<_> =
            snapshot.endpoint_slices.values().map(|slice| EndpointSlice::clone(slice)).collect();
        let mut slices = Slices::default();
        let namespace = first.first().map(|slice| slice.metadata.namespace.clone());
        slices.replace(&namespace.unwrap_or_default(), first.clone());
        let addresses = Addresses::default();
        let backends = Backends::new(compiled.backends.clone(), None, &slices, &addresses);
        let cannot = |error| format!("can't start a proxy: {error}");
        let workers = NonZeroUsize::new(2).unwrap_or(NonZeroUsize::MIN);
        let settings = l4way_proxy::ProxySettings { workers, ..Default::default() };
        let mut sessions = Proxy::start(settings).map_err(cannot)?;
        let mut http = HttpProxy::start(l4way_http::HttpSettings::default()).map_err(cannot)?;
        let config = Arc::new(compiled.config.clone());
        http.prepare(&config, backends.table());
        let report = sessions.apply(config, backends.table());
        http.listen();
        sessions.settle();
        let failed = report.listeners.iter().find(|(_, report)| **report != ListenerReport::Bound);
        match failed {
            None => Ok(Self { slices, backends, addresses, sessions, http, first }),
            Some((listener, report)) => Err(format!("{listener} isn't bound: {report:?}")),
        }
    }

    /// How many backends there are.
    pub fn backends(&self) -> usize {
        self.backends.len()
    }

    /// An EndpointSlice of which one endpoint has another address, as of a pod that was replaced:
    /// another one for each number.
    pub fn replaced(&self, number: usize) -> EndpointSlice {
        // Those that follow each other are far apart.
        let mut slice = self.first[number * 7_919 % self.first.len()].clone();
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 1).to_bits() + number as u32);
        let count = slice.endpoints.len();
        slice.endpoints[number % count].addresses = vec![address.to_string().into()];
        slice
    }

    /// Takes a changed EndpointSlice in, and waits until the workers have carried it out.
    ///
    /// # Errors
    /// If it isn't one backend that has changed.
    pub fn change(&mut self, slice: EndpointSlice) -> Result<(), String> {
        let namespace = slice.metadata.namespace.clone();
        let services = self.slices.set(&namespace, slice);
        let changes = self.backends.slices_changed(&services, &self.slices, &self.addresses);
        self.sessions.update_endpoints(&changes);
        self.http.update_endpoints(&changes);
        self.sessions.settle();
        if changes.0.len() == 1 { Ok(()) } else { Err(format!("this has changed: {changes:?}")) }
    }
}
