//! The control side: from manifests to a running proxy, and to what is said about both.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use l4way_endpoints::{
    Addresses as Names, EndpointSources, endpoint_table, hostnames, hostnames_by_backend, known,
};
use l4way_model::{BackendId, EndpointTable};
use l4way_observe::{Overview, Phase, StatusReport, table};
use l4way_resources::{Diagnostic, ReadOptions, Severity, Snapshot};
use l4way_source_file::{FileSource, Follower, Load};
use l4way_translate::{Addresses, Compiled, Graph, Observed, Settings, compile, graph, status};
use tokio::sync::{Notify, watch};

use crate::{
    access_log::Output,
    cli::RunArgs,
    clock,
    demo::Demo,
    dns::{self, Resolver},
    outlet::Outlet,
    problems,
    serving::Serving,
};

/// Everything between the manifests and the proxy, and what is in force now.
pub(super) struct Control {
    files: Follower,
    inbox: Arc<Inbox>,
    demo: Option<Demo>,
    resolver: Resolver,
    names: watch::Receiver<Names>,
    settings: Settings,
    serving: Serving,
    in_force: Option<InForce>,
    /// Standard output.
    output: Outlet,
    /// Standard output is the access log's.
    quiet: bool,
}

/// What the files' thread has read, and nobody has looked at yet: only the latest counts.
#[derive(Default)]
struct Inbox {
    load: Mutex<Option<Load>>,
    arrived: Notify,
}

impl Inbox {
    fn put(&self, load: Load) {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = Some(load);
        self.arrived.notify_one();
    }

    fn take(&self) -> Option<Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Tells when something has changed that the control side follows.
pub(super) struct Changes {
    inbox: Arc<Inbox>,
    names: watch::Receiver<Names>,
}

/// Something that the control side follows.
pub(super) enum Change {
    /// A manifest, or that there are the first.
    Manifests,
    /// The addresses of a name.
    Names,
}

impl Changes {
    /// Waits for the next change. Nothing is lost if the wait is given up.
    pub(super) async fn next(&mut self) -> Change {
        tokio::select! {
            () = self.inbox.arrived.notified() => Change::Manifests,
            // The sender is the resolver, which lives as long as the control side does.
            _ = self.names.changed() => Change::Names,
        }
    }
}

/// What was made of the last manifests.
struct InForce {
    load: Load,
    /// The objects of the load, and those that stand for demo backends.
    snapshot: Snapshot,
    notes: Vec<String>,
    graph: Graph,
    /// When there is something else to say of a certificate, in seconds of Unix time.
    next_time: Option<i64>,
    /// Where the endpoints are of all backends that have sessions or may get some: those that no route
    /// leads to any more are followed, too, as long as they are there.
    backends: EndpointSources,
}

impl Control {
    /// Begins to read the manifests that `args` name: the first change tells that they have been read.
    ///
    /// # Errors
    /// If a thread can't be started.
    pub(super) fn new(args: &RunArgs, serving: Serving) -> Result<Self, String> {
        let options = ReadOptions { channel: args.manifests.channel.into() };
        let source = FileSource::new(args.filenames.clone(), options);
        let inbox = Arc::new(Inbox::default());
        let into = inbox.clone();
        let files = source
            .follow(move |load| into.put(load))
            .map_err(|error| format!("can't read the manifests: {error}"))?;
        let demo = args
            .demo_backends
            .then(Demo::start)
            .transpose()
            .map_err(|error| format!("can't start the demo backends: {error}"))?;
        let output = Outlet::start("output", io::stdout(), |texts| {
            tracing::warn!(texts, "standard output had no reader for a while: tables are lost");
        });
        let output = output.map_err(|error| format!("can't start standard output: {error}"))?;
        let resolver = Resolver::start(dns::Sources::default());
        Ok(Self {
            files,
            inbox,
            demo,
            names: resolver.subscribe(),
            resolver,
            settings: Settings {
                terms: args.sessions.terms(),
                http_terms: args.http_terms(),
                admin: Some(args.admin_address),
                ..args.graph.settings()
            },
            serving,
            in_force: None,
            output,
            quiet: args.sessions.access_log.as_deref().map(Output::of) == Some(Output::Stdout),
        })
    }

    /// The data plane and what is said of it.
    pub(super) fn serving(&mut self) -> &mut Serving {
        &mut self.serving
    }

    /// Ends all sessions.
    pub(super) fn end(self) {
        self.serving.end();
        self.output.finish();
    }

    /// What to wait for, to call [`Self::follow`] and [`Self::refresh_endpoints`].
    pub(super) fn changes(&self) -> Changes {
        Changes { inbox: self.inbox.clone(), names: self.resolver.subscribe() }
    }

    /// Puts the manifests in force that have been read.
    pub(super) fn follow(&mut self) {
        if let Some(load) = self.inbox.take() {
            self.put_in_force(load);
        }
    }

    /// Has the manifests read, and put in force even if nothing is different.
    pub(super) fn reload(&self) {
        self.files.reload();
    }

    /// Whether manifests have been read, and are in force as far as they can be.
    pub(super) fn is_ready(&self) -> bool {
        self.in_force.is_some()
    }

    fn put_in_force(&mut self, load: Load) {
        let mut notes = Vec::new();
        let mut snapshot = load.snapshot.clone();
        if let Some(demo) = &mut self.demo {
            notes.extend(demo.apply(&mut snapshot).iter().map(ToString::to_string));
        }
        self.settings.now = clock::unix_time();
        if let Some(before) = &self.in_force {
            self.settings.former.extend(before.backends.keys().cloned());
        }
        let graph = graph(&snapshot, &self.settings);
        if let Addresses::Pool { held, .. } = &mut self.settings.addresses {
            *held = graph.assignments();
        }
        if graph.claims_every_gateway() {
            notes
                .insert(0, "no GatewayClass in the manifests: every Gateway is l4way's".to_owned());
        }
        let Compiled { config, mut backends } = compile(&graph);
        let former = &mut self.settings.former;
        former.retain(|id| !backends.contains_key(id) && graph.source(id).is_some());
        let source = |id: &BackendId| Some((id.clone(), graph.source(id)?.clone()));
        backends.extend(former.iter().filter_map(source));
        let backends = known(backends);
        self.resolver.set_names(hostnames(&backends));
        self.serving.set_names(hostnames_by_backend(&backends));
        let endpoints = endpoint_table(&backends, &self.names.borrow());
        self.serving.apply(Arc::new(config), &endpoints);
        let next_time = graph.next_time();
        self.in_force = Some(InForce { load, snapshot, notes, graph, next_time, backends });
        self.publish();
    }

    /// Follows no longer the former backends whose last session has ended.
    fn forget_former(&mut self) {
        let Some(in_force) = &mut self.in_force else { return };
        let former = &mut self.settings.former;
        if former.is_empty() {
            return;
        }
        let busy = self.serving.busy_backends();
        let idle = former.extract_if(.., |id| !busy.contains(id));
        let rows = idle.filter_map(|id| in_force.backends.remove_entry(&id));
        let rows = EndpointTable(rows.map(|(id, _)| (id, Arc::default())).collect());
        if !rows.0.is_empty() {
            self.resolver.set_names(hostnames(&in_force.backends));
            self.serving.update_endpoints(&rows);
        }
    }

    /// Sends sessions to the addresses that names have now.
    pub(super) fn refresh_endpoints(&mut self) {
        if let Some(in_force) = &self.in_force {
            let endpoints = endpoint_table(&in_force.backends, &self.names.borrow());
            self.serving.update_endpoints(&endpoints);
        }
    }

    /// Does what is to be done now and then: tries again to bind the ports that could not be bound, and
    /// looks at the manifests again if the time of a certificate has come.
    pub(super) fn tick(&mut self) {
        if self.serving.retry_failed() {
            self.publish();
        }
        self.forget_former();
        let in_force = self.in_force.as_ref();
        let due = in_force.filter(|in_force| clock::has_come(in_force.next_time));
        if let Some(load) = due.map(|in_force| in_force.load.clone()) {
            self.put_in_force(load);
        }
    }

    /// Tells everybody what is in force now: the admin endpoint, the metrics, the log, and
    /// whoever reads standard output.
    fn publish(&mut self) {
        let Some(in_force) = &self.in_force else { return };
        let objects = status(&in_force.graph, self.serving.report(), &Observed::default());
        let mut overview = Overview::new(&in_force.snapshot, &objects);
        overview.set_paths(&self.serving.report().paths);
        let problems = problems::all(&in_force.load, &in_force.graph);
        self.count(&problems);
        let phase = if self.serving.is_serving() { Phase::Serving } else { self.serving.phase() };
        let report = Arc::new(StatusReport {
            phase,
            notes: in_force.notes.clone(),
            problems,
            overview,
            objects,
            ..StatusReport::starting()
        });
        let last = self.serving.publish(report.clone());
        let known: HashSet<_> = last.problems.iter().map(ToString::to_string).collect();
        for problem in
            report.problems.iter().filter(|problem| !known.contains(&problem.to_string()))
        {
            log(problem);
        }
        if !self.quiet && (report.overview != last.overview || report.notes != last.notes) {
            let notes: String = report.notes.iter().map(|note| format!("{note}\n")).collect();
            self.output.put(format!("{notes}{}", table::render(&report.overview)).as_bytes());
        }
    }

    fn count(&self, problems: &[Diagnostic]) {
        let Some(in_force) = &self.in_force else { return };
        let bad_files = problems::bad_files(&in_force.load);
        let errors = in_force.load.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        self.serving.count(|metrics| {
            metrics.bad_files = bad_files as u64;
            metrics.invalid_objects = errors.filter(|error| error.object.is_some()).count() as u64;
            metrics.superseded_routes = in_force.graph.superseded_routes() as u64;
            if !problems.iter().any(Diagnostic::is_error) {
                metrics.last_good_reload = Some(SystemTime::now());
            }
        });
    }
}

fn log(problem: &Diagnostic) {
    match problem.severity {
        Severity::Error => tracing::error!("{problem}"),
        Severity::Warning => tracing::warn!("{problem}"),
        Severity::Note => tracing::info!("{problem}"),
    }
}
