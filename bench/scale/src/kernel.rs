//! The kernel path with many listeners: until all of them are in the kernel, and until one changed
//! endpoint is.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use l4way_kernel::{KernelPath, SourceAddress};
use l4way_model::{
    ApplyReport, BackendId, Config, Endpoint, EndpointTable, GatewayId, Listener, ListenerId,
    ListenerReport, PathReport, Route, RouteId, Target, Transport, WeightedTarget,
};
use l4way_proxy::{Proxy, ProxySettings};

use crate::{
    Result, say,
    stats::{Stats, milliseconds},
};

/// What the columns of [`measure`] are.
pub(crate) const HEADER: &str = "
The kernel path, with 10 endpoints for each listener: milliseconds until nftables has all of them, and until
it has one changed endpoint.

listeners  endpoints      all  median     99 %    worst  changes";

/// The numbers of listeners that are measured.
pub(crate) const LISTENERS: [usize; 3] = [100, 1_000, 10_000];
const ENDPOINTS: usize = 10;
const CHANGES: usize = 500;
const FIRST_PORT: usize = 10_000;

/// Measures it. This process has to have a network namespace of its own, which forwards.
pub(crate) fn measure(listeners: usize) -> Result<()> {
    let cannot = |error| format!("can't start a proxy: {error}");
    let settings = ProxySettings::default();
    let proxy = Proxy::start(settings.clone()).map_err(cannot)?;
    let mut kernel = KernelPath::start(l4way_kernel::KernelSettings {
        source_address: SourceAddress::default(),
        drain_deadline: settings.drain_deadline,
        tap: settings.tap,
        counters: proxy.counters(),
    })?;
    let config = Config::new((0..listeners).map(listener))
        .map_err(|error| format!("no configuration: {error}"))?;
    let mut table =
        EndpointTable((0..listeners).map(|nth| (backend(nth), endpoints(nth, 0))).collect());
    let bound = config.listener_ids().map(|id| (id.clone(), ListenerReport::Bound));
    let bound = ApplyReport { listeners: bound.collect(), ..ApplyReport::default() };
    let nobody: l4way_kernel::ProxiedFlows<'_> = &|_| Vec::new();

    let begin = Instant::now();
    let paths = kernel.apply(&config, &table, &bound, nobody);
    let all = begin.elapsed();
    if let Some((id, path)) = paths.iter().find(|(_, path)| **path != PathReport::Kernel) {
        return Err(format!("{id} isn't on the kernel path: {path:?}"));
    }
    let changes = (0..CHANGES).map(|change| {
        // Those that follow each other are far apart.
        let nth = change * 7_919 % listeners;
        let changed = [(backend(nth), endpoints(nth, 1 + change))];
        table.0.extend(changed.clone());
        let changed = EndpointTable(changed.into());
        let begin = Instant::now();
        match kernel.update_endpoints(&config, &table, &changed, &bound, nobody) {
            None => Ok(begin.elapsed()),
            Some(_) => Err("a listener was planned anew".to_owned()),
        }
    });
    let stats = Stats::new(changes.collect::<Result<_>>()?);
    say(&format!(
        "{listeners:>9} {:>10} {:>8} {:>7} {:>8} {:>8} {CHANGES:>8}",
        listeners * ENDPOINTS,
        milliseconds(all),
        milliseconds(stats.median()),
        milliseconds(stats.percentile(99)),
        milliseconds(stats.max()),
    ));
    Ok(())
}

fn listener(nth: usize) -> Listener {
    let targets = vec![WeightedTarget { weight: 1, target: Target::Backend(backend(nth)) }];
    let (kind, namespace) = ("TCPRoute".into(), "scale".into());
    Listener {
        id: ListenerId {
            gateway: GatewayId::new("scale", "all"),
            listener_set: None,
            name: format!("listener-{nth}").into(),
        },
        transport: Transport::Tcp,
        addresses: vec![Ipv4Addr::UNSPECIFIED.into()],
        port: (FIRST_PORT + nth) as u16,
        route: Some(Route {
            id: RouteId { kind, namespace, name: format!("route-{nth}").into() },
            targets,
        }),
    }
}

fn backend(nth: usize) -> BackendId {
    BackendId {
        kind: "Service".into(),
        namespace: "scale".into(),
        name: format!("backend-{nth}").into(),
        port: Some(8_000),
        transport: Transport::Tcp,
    }
}

/// The endpoints of a backend; the first of them is another one after each change.
fn endpoints(nth: usize, change: usize) -> Arc<[Endpoint]> {
    let stay = Ipv4Addr::new(10, 0, 0, 0).to_bits() + (nth * ENDPOINTS) as u32;
    let changed = Ipv4Addr::new(172, 16, 0, 1).to_bits() + change as u32;
    let addresses = [changed].into_iter().chain(stay + 1..stay + ENDPOINTS as u32);
    let endpoint = |bits| Endpoint::from(SocketAddr::from((Ipv4Addr::from_bits(bits), 8_000)));
    addresses.map(endpoint).collect()
}
