//! What `l4way run` and `l4way proxy` share: the data plane, with its access log, its metrics and the
//! admin endpoint, until it is drained.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use l4way_delivery::EndpointSummary;
use l4way_kernel::SourceAddress;
use l4way_model::{ApplyReport, BackendId, Config, EndpointTable, ListenerReport, PathReport};
use l4way_observe::{Phase, StatusReport};
use l4way_proxy::ProxySettings;
use l4way_proxy_core::MemoryBudget;
use l4way_session::Tap;
use tokio::{
    runtime,
    sync::watch,
    time::{self, Instant},
};

use crate::{
    access_log,
    admin::{self, Admin, AdminPlaces},
    certificates::{self, Certificate},
    cli::{DataPathArg, LogArgs, LogFormat, SessionArgs, SourceAddressArg},
    data_plane::DataPlane,
    endpoint_health::EndpointHealth,
    logging,
    metrics::{self, ControlMetrics},
    panics,
    signals::{Signal, Signals},
};

/// How often listeners that can't be bound are to be tried again.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How old what the metrics say of the kernel's sessions may be, however often they are asked for.
const METRICS_AGE: Duration = Duration::from_secs(1);

/// How often a drain looks whether all sessions have ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Starts the log, and runs the control side of a command on this thread until it ends.
///
/// # Errors
/// The work's own, or if it can't be begun.
pub(crate) fn control_side(
    log: &LogArgs,
    work: impl Future<Output = Result<(), String>>,
) -> Result<ExitCode, String> {
    logging::start(log)?;
    panics::end_the_process();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("can't start: {error}"))?;
    runtime.block_on(work)?;
    // What is still being asked for, nobody waits for any more.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// What is to be in the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logs {
    /// Of our own log: a level, or tracing directives.
    pub(crate) level: String,
    /// The form of our own log.
    pub(crate) format: LogFormat,
    /// Whether sessions are recorded: on standard output, unless `--access-log` has said where.
    pub(crate) access_log: bool,
}

/// The data plane and what is said of it.
pub(crate) struct Serving {
    data_plane: DataPlane,
    applied: ApplyReport,
    endpoints: EndpointHealth,
    access_log: access_log::Switch,
    metrics: watch::Sender<ControlMetrics>,
    report: watch::Sender<Arc<StatusReport>>,
    admin_file: admin::File,
}

impl Serving {
    /// Starts with nothing to carry.
    ///
    /// # Errors
    /// If the access log can't be written, or a thread can't be started.
    pub(crate) fn start(args: &SessionArgs, admin: AdminPlaces) -> Result<Self, String> {
        let access_log = access_log::Switch::new(args.access_log.as_deref())
            .map_err(|error| format!("--access-log: {error}"))?;
        let sessions = session_settings(args, access_log.tap());
        let http = http_settings(args, access_log.tap());
        let endpoints = EndpointHealth::start(sessions.process.endpoints.clone());
        let mut data_plane = DataPlane::start(sessions.clone(), http)
            .map_err(|error| format!("can't start the workers: {error}"))?;
        tracing::info!("limits: {}", data_plane.limits());
        start_kernel_path(&mut data_plane, args, &sessions)?;
        let metrics = watch::Sender::new(ControlMetrics {
            session_descriptors: data_plane.limits().session_descriptors as u64,
            endpoints: Some(endpoints.clone()),
            memory: Some(sessions.process.memory.clone()),
            ..ControlMetrics::default()
        });
        let report = watch::Sender::new(Arc::new(StatusReport::starting()));
        let applied = ApplyReport::default();
        let admin_file = admin::File::default();
        let mut serving =
            Self { data_plane, applied, endpoints, access_log, metrics, report, admin_file };
        serving.admin_file = serving
            .admin()
            .start(admin, serving.data_plane.hearts())
            .map_err(|error| format!("can't start the admin endpoint: {error}"))?;
        Ok(serving)
    }

    fn admin(&self) -> Admin {
        let counters = self.data_plane.counters();
        let control = self.metrics.subscribe();
        let unwritten = self.access_log.unwritten();
        let metrics = move || {
            let unwritten_records = unwritten();
            let control = ControlMetrics { unwritten_records, ..control.borrow().clone() };
            metrics::render(&counters.recent(METRICS_AGE), &control)
        };
        let (health, sessions) = (self.endpoints.clone(), self.data_plane.endpoint_sessions());
        let endpoints = move |all| health.report(all, |endpoints| sessions.count(endpoints));
        Admin::new(self.report.subscribe(), metrics).with_endpoints(endpoints)
    }

    /// Carries this configuration from now on, and says in the log which listeners it concerns.
    pub(crate) fn apply(&mut self, config: Arc<Config>, endpoints: &EndpointTable) {
        let certificates = certificates::of(&config);
        self.endpoints.set(&config, endpoints);
        let applied = self.data_plane.apply(config, endpoints);
        self.applied(applied);
        self.metrics.send_modify(|metrics| {
            metrics.reloads += 1;
            metrics.certificates = certificates;
        });
    }

    /// These are the names that are looked up for backends.
    pub(crate) fn set_names(&self, names: BTreeMap<BackendId, Vec<Arc<str>>>) {
        self.endpoints.set_names(names);
    }

    /// The certificates that listeners show.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        self.metrics.borrow().certificates.clone()
    }

    /// Sends new sessions of these backends to these endpoints from now on.
    pub(crate) fn update_endpoints(&mut self, changes: &EndpointTable) {
        self.endpoints.update(changes);
        self.data_plane.update_endpoints(changes);
    }

    /// Tries again to bind the ports that could not be bound. Whether something is different.
    pub(crate) fn retry_failed(&mut self) -> bool {
        match self.data_plane.retry_failed() {
            Some(applied) => {
                self.applied(applied);
                true
            }
            None => false,
        }
    }

    fn applied(&mut self, applied: ApplyReport) {
        log_listeners(&self.applied, &applied);
        self.applied = applied;
        let unbound = self.applied.listeners.len() - self.bound();
        let paths = self.applied.paths.clone();
        self.metrics.send_modify(|metrics| {
            metrics.unbound_listeners = unbound as u64;
            metrics.paths = paths;
        });
    }

    /// The backends of which endpoints are passed over.
    pub(crate) fn endpoint_summary(&self) -> EndpointSummary {
        self.endpoints.summary()
    }

    /// The backends that have sessions.
    pub(crate) fn busy_backends(&self) -> BTreeSet<BackendId> {
        self.data_plane.counters().busy_backends()
    }

    /// What became of the listeners.
    pub(crate) fn report(&self) -> &ApplyReport {
        &self.applied
    }

    /// How many listeners are bound.
    fn bound(&self) -> usize {
        let reports = self.applied.listeners.values();
        reports.filter(|report| matches!(report, ListenerReport::Bound)).count()
    }

    /// Whether it does what it was told to, at least in part: a listener is bound, or there is none.
    pub(crate) fn is_serving(&self) -> bool {
        self.bound() > 0 || self.applied.listeners.is_empty()
    }

    /// What the process is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.report.borrow().phase
    }

    /// Says what the process is doing.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.report.send_modify(|report| Arc::make_mut(report).phase = phase);
    }

    /// Makes this the report that the admin endpoint gives. Returns the last one.
    pub(crate) fn publish(&self, report: Arc<StatusReport>) -> Arc<StatusReport> {
        self.report.send_replace(report)
    }

    /// Changes what the metrics say of the control side.
    pub(crate) fn count(&self, change: impl FnOnce(&mut ControlMetrics)) {
        self.metrics.send_modify(change);
    }

    /// Says in the logs what `logs` wants from now on. What is as it was before stays untouched.
    ///
    /// Sessions on the kernel path follow the access log within [`RETRY_INTERVAL`], if
    /// [`retry_failed`](Self::retry_failed) is called as often.
    pub(crate) fn set_logs(&mut self, logs: &Logs) {
        if let Err(error) = logging::change(&logs.level, logs.format) {
            tracing::error!("{error}; the log goes on as before");
        }
        if logs.access_log == self.access_log.tap().wants_records() {
            return;
        }
        match self.access_log.set(logs.access_log) {
            Ok(()) if logs.access_log => tracing::info!("the access log is on"),
            Ok(()) => tracing::info!("the access log is off"),
            Err(error) => tracing::error!(%error, "the access log can't be switched on"),
        }
    }

    /// Opens the access log's file again.
    pub(crate) fn reopen_access_log(&self) {
        if let Err(error) = self.access_log.reopen() {
            tracing::error!("{error}; the old file stays in use");
        }
    }

    /// Takes no new sessions and waits until those there are have ended, but no longer than `within`,
    /// or until told again to end.
    pub(crate) async fn drain(&mut self, signals: &mut Signals, within: Duration) {
        self.set_phase(Phase::Draining);
        self.data_plane.drain(within);
        let started = Instant::now();
        let mut poll = time::interval(DRAIN_POLL);
        let mut told = false;
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    if self.data_plane.is_drained() {
                        break;
                    }
                    if !told {
                        told = true;
                        tracing::info!(
                            sessions = self.data_plane.active_sessions(),
                            "draining for up to {within:.1?}; SIGTERM or Ctrl-C ends at once"
                        );
                    }
                }
                signal = signals.next() => if signal != Signal::Reload {
                    break;
                }
            }
        }
        tracing::info!(
            sessions = self.data_plane.active_sessions(),
            "drained for {:.1?}",
            started.elapsed()
        );
    }

    /// Ends what sessions are left, and with them the senders of the access log's records, which
    /// are all written then.
    pub(crate) fn end(self) {
        drop(self.data_plane);
        self.access_log.finish();
    }
}

fn session_settings(args: &SessionArgs, tap: Tap) -> ProxySettings {
    let mut settings =
        ProxySettings { drain_deadline: args.drain_timeout, tap, ..ProxySettings::default() };
    settings.workers = args.workers.unwrap_or(settings.workers);
    if let Some(bytes) = args.memory_budget {
        settings.process.memory = Arc::new(MemoryBudget::new(bytes));
    }
    settings
}

/// Has the kernel carry sessions, as far as that is asked for.
fn start_kernel_path(
    data_plane: &mut DataPlane,
    args: &SessionArgs,
    sessions: &ProxySettings,
) -> Result<(), String> {
    let source_address = match args.kernel_source_address {
        SourceAddressArg::Masquerade => SourceAddress::Masquerade,
        SourceAddressArg::Keep => SourceAddress::Keep,
    };
    if args.data_path == DataPathArg::Proxy {
        return Ok(());
    }
    match data_plane.start_kernel_path(source_address, sessions) {
        None => {}
        Some(why) if args.data_path == DataPathArg::Kernel => {
            return Err(format!("--data-path kernel: {why}"));
        }
        Some(why) => tracing::warn!("the proxy carries every session, not the kernel: {why}"),
    }
    Ok(())
}

fn http_settings(args: &SessionArgs, tap: Tap) -> l4way_http::HttpSettings {
    l4way_http::HttpSettings {
        drain_deadline: args.drain_timeout,
        tap,
        ..l4way_http::HttpSettings::default()
    }
}

/// Says which listeners can't be bound, or are at last, and who carries their sessions.
fn log_listeners(before: &ApplyReport, after: &ApplyReport) {
    for (listener, path) in &after.paths {
        match path {
            _ if before.paths.get(listener) == Some(path) => {}
            PathReport::Kernel => tracing::info!(%listener, "the kernel carries its sessions"),
            PathReport::Proxy(why) => {
                tracing::info!(%listener, "the proxy carries its sessions: {why}");
            }
        }
    }
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
