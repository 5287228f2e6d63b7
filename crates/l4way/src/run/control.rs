//! The control side: from manifests to a running proxy, and to what is said about both.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use l4way_model::{ApplyReport, BackendId, ListenerReport};
use l4way_resources::{Diagnostic, ReadOptions, Severity};
use l4way_source_file::{FileSource, Load, Watcher};
use l4way_translate::{
    Addresses, Compiled, EndpointSource, Graph, SUPERSEDED, Settings, compile, graph, status,
};
use tokio::sync::{Notify, watch};

use crate::{
    access_log::Output,
    cli::RunArgs,
    data_plane::DataPlane,
    demo::Demo,
    dns::{self, Addresses as Names, Resolver},
    metrics::ControlMetrics,
    output::print,
    overview::Overview,
    problems,
    report::{Phase, StatusReport},
    table,
};

/// Everything between the manifests and the data plane, and what is in force now.
pub(super) struct Control {
    source: FileSource,
    _watcher: Watcher,
    changed: Arc<Notify>,
    demo: Option<Demo>,
    resolver: Resolver,
    names: watch::Receiver<Names>,
    settings: Settings,
    data_plane: DataPlane,
    in_force: Option<InForce>,
    metrics: watch::Sender<ControlMetrics>,
    report: watch::Sender<Arc<StatusReport>>,
    phase: Phase,
    /// Standard output is the access log's.
    quiet: bool,
}

/// Tells when something has changed that the control side follows.
pub(super) struct Changes {
    manifests: Arc<Notify>,
    names: watch::Receiver<Names>,
}

/// Something that the control side follows.
pub(super) enum Change {
    /// A manifest.
    Manifests,
    /// The addresses of a name.
    Names,
}

impl Changes {
    /// Waits for the next change. Nothing is lost if the wait is given up.
    pub(super) async fn next(&mut self) -> Change {
        tokio::select! {
            () = self.manifests.notified() => Change::Manifests,
            // The sender is the resolver, which lives as long as the control side does.
            _ = self.names.changed() => Change::Names,
        }
    }
}

/// What was made of the last manifests.
struct InForce {
    load: Load,
    notes: Vec<String>,
    graph: Graph,
    backends: BTreeMap<BackendId, Vec<EndpointSource>>,
    applied: ApplyReport,
}

impl Control {
    /// Prepares to run the manifests that `args` name.
    ///
    /// # Errors
    /// If a path doesn't exist or can't be watched, or a thread can't be started.
    pub(super) fn new(
        args: &RunArgs,
        data_plane: DataPlane,
        report: watch::Sender<Arc<StatusReport>>,
    ) -> Result<Self, String> {
        let options = ReadOptions { channel: args.manifests.channel.into() };
        let source = FileSource::new(args.filenames.clone(), options);
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        let watcher = source
            .watch(move || notify.notify_one())
            .map_err(|error| format!("can't follow changes of the manifests: {error}"))?;
        let demo = args
            .demo_backends
            .then(Demo::start)
            .transpose()
            .map_err(|error| format!("can't start the demo backends: {error}"))?;
        let resolver = Resolver::start(dns::Sources::default());
        let metrics = ControlMetrics {
            session_descriptors: data_plane.limits().session_descriptors as u64,
            ..ControlMetrics::default()
        };
        Ok(Self {
            source,
            _watcher: watcher,
            changed,
            demo,
            names: resolver.subscribe(),
            resolver,
            settings: args.graph.settings(),
            data_plane,
            in_force: None,
            metrics: watch::Sender::new(metrics),
            report,
            phase: Phase::Starting,
            quiet: args.access_log.as_deref().map(Output::of) == Some(Output::Stdout),
        })
    }

    /// What the metrics say of the control side.
    pub(super) fn metrics(&self) -> watch::Receiver<ControlMetrics> {
        self.metrics.subscribe()
    }

    /// What to wait for, to call [`Self::follow`] and [`Self::refresh_endpoints`].
    pub(super) fn changes(&self) -> Changes {
        Changes { manifests: self.changed.clone(), names: self.resolver.subscribe() }
    }

    /// Reads the manifests, and puts them in force if something is different.
    pub(super) fn follow(&mut self) {
        if let Some(load) = self.source.reload() {
            self.put_in_force(load);
        }
    }

    /// Reads the manifests and puts them in force.
    pub(super) fn reload(&mut self) {
        let load = self.source.load();
        self.put_in_force(load);
    }

    fn put_in_force(&mut self, mut load: Load) {
        let mut notes = Vec::new();
        if let Some(demo) = &mut self.demo {
            notes.extend(demo.apply(&mut load.snapshot).iter().map(ToString::to_string));
        }
        let graph = graph(&load.snapshot, &self.settings);
        if let Addresses::Pool { held, .. } = &mut self.settings.addresses {
            *held = graph.assignments();
        }
        if graph.claims_every_gateway() {
            notes
                .insert(0, "no GatewayClass in the manifests: every Gateway is l4way's".to_owned());
        }
        let Compiled { config, backends } = compile(&graph);
        self.resolver.set_names(dns::hostnames(&backends));
        let endpoints = dns::endpoint_table(&backends, &self.names.borrow());
        let applied = self.data_plane.apply(Arc::new(config), &endpoints);
        let before = self.in_force.take().map(|in_force| in_force.applied).unwrap_or_default();
        log_listeners(&before, &applied);
        self.in_force = Some(InForce { load, notes, graph, backends, applied });
        self.metrics.send_modify(|metrics| metrics.reloads += 1);
        self.publish();
    }

    /// Sends sessions to the addresses that names have now.
    pub(super) fn refresh_endpoints(&mut self) {
        if let Some(in_force) = &self.in_force {
            let endpoints = dns::endpoint_table(&in_force.backends, &self.names.borrow());
            self.data_plane.update_endpoints(&endpoints);
        }
    }

    /// Tries again to bind the ports that could not be bound.
    pub(super) fn retry_failed(&mut self) {
        if let Some(applied) = self.data_plane.retry_failed()
            && let Some(in_force) = &mut self.in_force
        {
            log_listeners(&in_force.applied, &applied);
            in_force.applied = applied;
            self.publish();
        }
    }

    /// Says what the process is doing.
    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.report.send_modify(|report| Arc::make_mut(report).phase = phase);
    }

    /// Takes no new sessions any more.
    pub(super) fn drain(&mut self, within: Duration) {
        self.data_plane.drain(within);
    }

    /// Whether all sessions have ended.
    pub(super) fn is_drained(&self) -> bool {
        self.data_plane.is_drained()
    }

    /// How many sessions there are.
    pub(super) fn active_sessions(&self) -> u64 {
        self.data_plane.active_sessions()
    }

    /// Tells everybody what is in force now: the admin endpoint, the metrics, the log, and
    /// whoever reads standard output.
    fn publish(&mut self) {
        let Some(in_force) = &self.in_force else { return };
        let objects = status(&in_force.graph, &in_force.applied);
        let overview = Overview::new(&in_force.load.snapshot, &objects);
        let problems = problems::all(&in_force.load, &in_force.graph);
        let listening = in_force.applied.listeners.values();
        let bound = listening.filter(|report| matches!(report, ListenerReport::Bound)).count();
        if bound > 0 || in_force.applied.listeners.is_empty() {
            self.phase = Phase::Serving;
        }
        self.count(bound, &problems, &overview);
        let report = StatusReport {
            phase: self.phase,
            notes: in_force.notes.clone(),
            problems,
            overview,
            objects,
            ..StatusReport::starting()
        };
        let last = self.report.send_replace(Arc::new(report));
        let report = self.report.borrow();
        let known: HashSet<_> = last.problems.iter().map(ToString::to_string).collect();
        for problem in
            report.problems.iter().filter(|problem| !known.contains(&problem.to_string()))
        {
            log(problem);
        }
        if !self.quiet && (report.overview != last.overview || report.notes != last.notes) {
            let notes: String = report.notes.iter().map(|note| format!("{note}\n")).collect();
            print(&format!("{notes}{}", table::render(&report.overview)));
        }
    }

    fn count(&self, bound: usize, problems: &[Diagnostic], overview: &Overview) {
        let Some(in_force) = &self.in_force else { return };
        let bad_files = problems::bad_files(&in_force.load);
        let errors = in_force.load.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let superseded = overview
            .routes
            .iter()
            .filter(|route| route.conditions.iter().any(|condition| condition.kind == SUPERSEDED));
        self.metrics.send_modify(|metrics| {
            metrics.bad_files = bad_files as u64;
            metrics.invalid_objects = errors.filter(|error| error.object.is_some()).count() as u64;
            metrics.unbound_listeners = (in_force.applied.listeners.len() - bound) as u64;
            metrics.superseded_routes = superseded.count() as u64;
            if !problems.iter().any(Diagnostic::is_error) {
                metrics.last_good_reload = Some(SystemTime::now());
            }
        });
    }
}

/// Says which listeners can't be bound, or are at last.
fn log_listeners(before: &ApplyReport, after: &ApplyReport) {
    for (listener, report) in &after.listeners {
        let was = before.listeners.get(listener);
        match report {
            _ if was == Some(report) => {}
            ListenerReport::Failed(failure) => {
                tracing::warn!(%listener, "not listening: {}; retrying", failure.message);
            }
            ListenerReport::Bound if was.is_some() => tracing::info!(%listener, "listening"),
            ListenerReport::Bound => tracing::debug!(%listener, "listening"),
        }
    }
}

fn log(problem: &Diagnostic) {
    match problem.severity {
        Severity::Error => tracing::error!("{problem}"),
        Severity::Warning => tracing::warn!("{problem}"),
        Severity::Note => tracing::info!("{problem}"),
    }
}
