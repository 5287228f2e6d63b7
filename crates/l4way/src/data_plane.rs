//! Everything that carries bytes, as one: TCP and UDP listeners, and HTTP's.

mod endpoint_sessions;

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    sync::Arc,
    time::Duration,
};

use l4way_host::Heart;
use l4way_http::HttpProxy;
use l4way_kernel::SourceAddress;
use l4way_model::{ApplyReport, BackendId, Config, EndpointTable, ListenerId, PathReport};
use l4way_proxy::Proxy;
use l4way_proxy_core::{DescriptorBudget, Limits};

pub(crate) use self::endpoint_sessions::EndpointSessions;
use crate::kernel_path::{Kernel, KernelCounters, KernelSnapshot};

/// The running proxies, seen from the one thread that controls them. Dropping it ends all sessions.
#[derive(Debug)]
pub(crate) struct DataPlane {
    sessions: Proxy,
    http: HttpProxy,
    kernel: Kernel,
    kernel_counters: KernelCounters,
    /// What the kernel path goes by, if it was asked for.
    wanted: (Arc<Config>, EndpointTable),
    applied: ApplyReport,
    /// Whether the report differs from the last that was given away.
    paths_changed: bool,
}

/// What is counted. Cheap to share.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    sessions: Arc<l4way_session::SessionCounters>,
    http: Arc<l4way_http::HttpCounters>,
    kernel: KernelCounters,
    budget: Arc<DescriptorBudget>,
}

/// All counters at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct CounterSnapshot {
    /// Of TCP and UDP sessions.
    pub(crate) sessions: l4way_session::SessionSnapshot,
    /// Of HTTP requests.
    pub(crate) http: l4way_http::HttpSnapshot,
    /// Of the kernel path, if there is one.
    pub(crate) kernel: Option<KernelSnapshot>,
    /// Descriptors that sessions use.
    pub(crate) descriptors: usize,
}

impl DataPlane {
    /// Starts with nothing to carry yet.
    ///
    /// # Errors
    /// If threads, epoll instances or eventfds can't be made.
    pub(crate) fn start(
        mut sessions: l4way_proxy::ProxySettings,
        mut http: l4way_http::HttpSettings,
    ) -> io::Result<Self> {
        let descriptors = sessions.limits().session_descriptors;
        let budget = DescriptorBudget::new(descriptors, sessions.workers);
        sessions.process.descriptors = Some(budget);
        http.process = sessions.process.clone();
        let http = HttpProxy::start(http)?;
        sessions.https = Some(http.https());
        let sessions = Proxy::start(sessions)?;
        Ok(Self {
            sessions,
            http,
            kernel: Kernel::Off,
            kernel_counters: KernelCounters::default(),
            wanted: Default::default(),
            applied: ApplyReport::default(),
            paths_changed: false,
        })
    }

    /// Has the kernel carry what it can from now on. What it is missing, if that is anything.
    pub(crate) fn start_kernel_path(
        &mut self,
        source_address: SourceAddress,
        sessions: &l4way_proxy::ProxySettings,
    ) -> Option<&str> {
        let settings = l4way_kernel::KernelSettings {
            source_address,
            drain_deadline: sessions.drain_deadline,
            tap: sessions.tap.clone(),
            counters: self.sessions.counters(),
        };
        self.kernel = Kernel::start(settings, &self.kernel_counters);
        self.kernel.missing()
    }

    /// Carries `config` from now on, with the endpoints of all backends that there are, see
    /// [`Proxy::apply`]. Only what differs from before is touched.
    pub(crate) fn apply(&mut self, config: Arc<Config>, endpoints: &EndpointTable) -> ApplyReport {
        // A port may pass from either side to the other: both let go of theirs before either takes
        // new ones.
        self.http.prepare(&config, endpoints);
        let applied = self.sessions.apply(config.clone(), endpoints);
        let paths = mem::take(&mut self.applied.paths);
        let before = mem::replace(&mut self.applied, ApplyReport { paths, ..applied });
        self.applied.listeners.extend(self.http.listen());
        if !self.kernel.is_off() {
            let listeners_stay =
                self.wanted.0 == config && before.listeners == self.applied.listeners;
            let (_, before) = mem::replace(&mut self.wanted, (config, endpoints.clone()));
            match listeners_stay {
                true => self.move_endpoints(&changes(&before, endpoints)),
                false => self.choose_paths(),
            }
        }
        self.paths_changed = false;
        self.applied.clone()
    }

    /// Has the kernel carry what it can of what is wanted.
    fn choose_paths(&mut self) {
        let (config, endpoints) = &self.wanted;
        let proxied = |listeners: &[_]| self.sessions.udp_flows(listeners);
        let paths = self.kernel.apply(config, endpoints, &self.applied, &proxied);
        self.set_paths(paths);
    }

    /// The same where nothing else is different but these backends' endpoints.
    fn move_endpoints(&mut self, changes: &EndpointTable) {
        let (config, endpoints) = &self.wanted;
        let proxied = |listeners: &[_]| self.sessions.udp_flows(listeners);
        let paths =
            self.kernel.update_endpoints(config, endpoints, changes, &self.applied, &proxied);
        paths.into_iter().for_each(|paths| self.set_paths(paths));
    }

    fn set_paths(&mut self, paths: BTreeMap<ListenerId, PathReport>) {
        self.paths_changed |= paths != self.applied.paths;
        self.applied.paths = paths;
    }

    /// Sends new sessions and requests for these backends to these endpoints from now on. A backend
    /// that isn't among them keeps what it has.
    pub(crate) fn update_endpoints(&mut self, changes: &EndpointTable) {
        self.sessions.update_endpoints(changes);
        self.http.update_endpoints(changes);
        if !self.kernel.is_off() {
            self.wanted.1.0.extend(changes.0.clone());
            self.move_endpoints(changes);
        }
    }

    /// Tries again to bind the listeners that failed, and looks whether the kernel can carry more or
    /// less than it does. A new report if it differs from the last.
    pub(crate) fn retry_failed(&mut self) -> Option<ApplyReport> {
        let sessions = self.sessions.retry_failed();
        let http = self.http.retry_failed();
        let is_different = sessions.is_some() || http.is_some();
        if let Some(report) = sessions {
            self.applied.listeners.extend(report.listeners);
        }
        self.applied.listeners.extend(http.unwrap_or_default());
        if self.kernel.tick(&self.kernel_counters) || is_different {
            self.choose_paths();
        }
        let is_different = is_different || mem::take(&mut self.paths_changed);
        is_different.then(|| self.applied.clone())
    }

    /// Takes no new sessions and connections any more. Those that are left after `within` are
    /// reset.
    pub(crate) fn drain(&mut self, within: Duration) {
        self.kernel.drain(within);
        self.sessions.drain(within);
        self.http.drain(within);
    }

    /// Whether all have ended after [`drain`](Self::drain).
    pub(crate) fn is_drained(&mut self) -> bool {
        self.sessions.wait(Duration::ZERO) && self.http.is_drained() && self.kernel.is_drained()
    }

    /// How many sessions there are, HTTP's connections among them.
    pub(crate) fn active_sessions(&self) -> u64 {
        let snapshot = self.counters().snapshot();
        let sessions = snapshot.sessions.rows.iter().map(l4way_session::RowSnapshot::active);
        sessions.sum::<u64>() + snapshot.http.active_connections
    }

    /// The counters, to be read by any thread at any time.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            sessions: self.sessions.counters(),
            http: self.http.counters(),
            kernel: self.kernel_counters.clone(),
            budget: self.sessions.budget().clone(),
        }
    }

    /// How many sessions endpoints have, to be asked by any thread at any time.
    pub(crate) fn endpoint_sessions(&self) -> EndpointSessions {
        EndpointSessions {
            sessions: self.sessions.endpoint_sessions(),
            http: self.http.endpoint_requests(),
            kernel: self.kernel_counters.clone(),
        }
    }

    /// Its threads, to see whether they still get to what they are told: those that there are whenever
    /// the function is called.
    pub(crate) fn hearts(&self) -> impl Fn() -> Vec<Heart> + Send + use<> {
        let hearts: Vec<_> = self.sessions.hearts().chain([self.http.heart()]).collect();
        let kernel = self.kernel_counters.clone();
        move || hearts.iter().cloned().chain(kernel.heart()).collect()
    }

    /// What the system allows.
    pub(crate) fn limits(&self) -> &Limits {
        self.sessions.limits()
    }
}

impl Counters {
    /// The backends that TCP and UDP sessions are with.
    pub(crate) fn busy_backends(&self) -> BTreeSet<BackendId> {
        // It writes what is read then.
        self.kernel.refresh(Duration::ZERO);
        self.sessions.busy_backends()
    }

    /// All of them at one time.
    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        self.recent(Duration::ZERO)
    }

    /// All of them, where those of the kernel's sessions may be of `age` ago: to bring them up to date
    /// takes the time that the kernel needs to tell of all its flows.
    pub(crate) fn recent(&self, age: Duration) -> CounterSnapshot {
        // It writes what is read then.
        let kernel = self.kernel.refresh(age);
        CounterSnapshot {
            sessions: self.sessions.snapshot(),
            http: self.http.snapshot(),
            kernel,
            descriptors: self.budget.used(),
        }
    }
}

/// The backends whose endpoints differ from what was before; those that are gone have none.
fn changes(before: &EndpointTable, now: &EndpointTable) -> EndpointTable {
    let gone = before.0.keys().filter(|backend| !now.0.contains_key(*backend));
    let changed = now.0.iter().filter(|(backend, all)| before.0.get(*backend) != Some(*all));
    let changed = changed.map(|(backend, all)| (backend.clone(), all.clone()));
    EndpointTable(
        changed.chain(gone.map(|backend| (backend.clone(), Default::default()))).collect(),
    )
}

#[cfg(test)]
mod tests;
