//! From objects to configuration and status, with nothing known before.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use l4way_model::{ApplyReport, ListenerId, ListenerReport};
use l4way_resources::Snapshot;
use l4way_scale_bench::{Size, snapshot};
use l4way_translate::{
    GatewayObserved, Graph, Observed, Proxies, Settings, compile, graph, provisions, status,
};

use crate::{
    Result,
    memory::{Resident, mebibytes},
    say,
    stats::{Stats, milliseconds},
};

/// What the columns of [`measure`] are.
pub(crate) const HEADER: &str = "\
From objects to configuration and status, from scratch: milliseconds, and MiB resident.
Target for 1,000 Gateways, 10,000 routes, 100,000 endpoints: 1000 ms, 1024 MiB.

gateways  routes  endpoints  for          graph  config  status   total   worst  objects  at most";

/// How often each is measured.
const REPETITIONS: usize = 11;

/// Measures it as `l4way run` does it, and as `l4way controller`.
pub(crate) fn measure(size: Size) -> Result<()> {
    let snapshot = snapshot(size)?;
    let objects = Resident::of("self")?.now;
    tell(size, "run", objects, &snapshot, &Settings::default(), |graph| {
        compile(graph).config.listener_ids().cloned().collect()
    })?;
    tell(size, "controller", objects, &snapshot, &Settings::in_cluster(), |graph| {
        let provisions = provisions(graph);
        let configs = provisions.iter().map(|provision| &provision.compiled.config);
        configs.flat_map(|config| config.listener_ids()).cloned().collect()
    })
}

/// Prints a row.
fn tell(
    size: Size,
    what: &str,
    objects: u64,
    snapshot: &Snapshot,
    settings: &Settings,
    configure: impl Fn(&Graph) -> Vec<ListenerId>,
) -> Result<()> {
    let rounds: Vec<_> =
        (0..REPETITIONS).map(|_| Round::measure(snapshot, settings, &configure)).collect();
    let median = |part: fn(&Round) -> Duration| {
        milliseconds(Stats::new(rounds.iter().map(part).collect()).median())
    };
    let total = Stats::new(rounds.iter().map(Round::total).collect());
    let Size { gateways, routes, endpoints } = size;
    say(&format!(
        "{gateways:>8} {routes:>7} {endpoints:>10}  {what:<10} {:>7} {:>7} {:>7} {:>7} {:>7}  {:>7} {:>8}",
        median(|round| round.graph),
        median(|round| round.config),
        median(|round| round.status),
        milliseconds(total.median()),
        milliseconds(total.max()),
        mebibytes(objects),
        mebibytes(Resident::of("self")?.peak),
    ));
    Ok(())
}

/// How long the parts of one translation took.
struct Round {
    graph: Duration,
    config: Duration,
    status: Duration,
}

impl Round {
    fn measure(
        snapshot: &Snapshot,
        settings: &Settings,
        configure: impl Fn(&Graph) -> Vec<ListenerId>,
    ) -> Self {
        let begin = Instant::now();
        let related = graph(snapshot, settings);
        let graph = begin.elapsed();
        let begin = Instant::now();
        let listeners = configure(&related);
        let config = begin.elapsed();
        // What proxies answer isn't part of it.
        let bound = listeners.into_iter().map(|listener| (listener, ListenerReport::Bound));
        let report = ApplyReport { listeners: bound.collect(), ..ApplyReport::default() };
        let confirmed =
            || GatewayObserved { proxies: Proxies::Confirmed, ..GatewayObserved::default() };
        let gateways = snapshot.gateways.keys().map(|key| (key.clone(), confirmed()));
        let observed = Observed { gateways: gateways.collect() };
        let begin = Instant::now();
        black_box(status(&related, &report, &observed));
        Self { graph, config, status: begin.elapsed() }
    }

    fn total(&self) -> Duration {
        self.graph + self.config + self.status
    }
}
