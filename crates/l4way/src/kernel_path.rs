//! The kernel path, as far as it is asked for and there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use l4way_host::Heart;
use l4way_kernel::{EndpointRow, KernelPath, KernelSettings, Observer, ProxiedFlows, Totals};
use l4way_model::{ApplyReport, Config, EndpointTable, ListenerId, PathReport};

/// Who may carry sessions in place of the proxy.
#[derive(Debug)]
pub(crate) enum Kernel {
    /// Nobody: it wasn't asked for.
    Off,
    /// The kernel, as soon as it has what it needs: what is missing, and whether that has been told.
    Missing { wanted: KernelSettings, why: String },
    /// The kernel.
    On(Box<KernelPath>),
}

/// What counts the kernel's sessions, as soon as there is something.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelCounters(Arc<Mutex<Counted>>);

/// Who counts, and when it last asked the kernel for all its flows.
#[derive(Debug, Default)]
struct Counted {
    observer: Option<Observer>,
    refreshed: Option<Instant>,
    /// The same for who asks for [`KernelCounters::endpoints`].
    looked: Option<Instant>,
}

/// What is counted of the kernel path beside sessions.
#[derive(Clone, Debug)]
pub(crate) struct KernelSnapshot {
    pub(crate) totals: Totals,
    pub(crate) endpoints: Vec<Arc<EndpointRow>>,
}

impl KernelCounters {
    /// Brings the counters up to date, unless they were no longer than `age` ago. What is counted
    /// beside those of sessions.
    pub(crate) fn refresh(&self, age: Duration) -> Option<KernelSnapshot> {
        let observer = {
            let mut counted = self.counted();
            let observer = counted.observer.clone()?;
            if counted.refreshed.is_none_or(|refreshed| refreshed.elapsed() >= age) {
                observer.refresh();
                counted.refreshed = Some(Instant::now());
            }
            observer
        };
        Some(KernelSnapshot { totals: observer.totals(), endpoints: observer.endpoints() })
    }

    /// The sessions of endpoints, as they were no longer than `age` ago. What is asked for here makes
    /// nothing older that [`refresh`](Self::refresh) tells.
    pub(crate) fn endpoints(&self, age: Duration) -> Vec<Arc<EndpointRow>> {
        let mut counted = self.counted();
        let Some(observer) = counted.observer.clone() else { return Vec::new() };
        if counted.looked.is_none_or(|looked| looked.elapsed() >= age) {
            observer.refresh();
            counted.looked = Some(Instant::now());
        }
        observer.endpoints()
    }

    /// The thread that counts, as soon as there is one.
    pub(crate) fn heart(&self) -> Option<Heart> {
        self.counted().observer.as_ref().map(Observer::heart)
    }

    fn set(&self, observer: Observer) {
        *self.counted() = Counted { observer: Some(observer), refreshed: None, looked: None };
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kernel {
    /// Begins with nothing to carry, or tells what is missing.
    pub(crate) fn start(wanted: KernelSettings, counters: &KernelCounters) -> Self {
        match KernelPath::start(wanted.clone()) {
            Ok(path) => {
                counters.set(path.observer());
                Self::On(Box::new(path))
            }
            Err(why) => Self::Missing { wanted, why },
        }
    }

    /// Whether the kernel isn't to carry anything.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    /// What is missing, if it was asked for.
    pub(crate) fn missing(&self) -> Option<&str> {
        match self {
            Self::Missing { why, .. } => Some(why),
            Self::Off | Self::On(_) => None,
        }
    }

    /// Carries what it can, as [`KernelPath::apply`] does. What becomes of each TCP and UDP listener.
    pub(crate) fn apply(
        &mut self,
        config: &Config,
        endpoints: &EndpointTable,
        bound: &ApplyReport,
        proxied: ProxiedFlows<'_>,
    ) -> BTreeMap<ListenerId, PathReport> {
        match self {
            Self::Off => BTreeMap::new(),
            Self::Missing { why, .. } => {
                let report = PathReport::Proxy(format!("the kernel path is missing: {why}"));
                config.listeners().map(|listener| (listener.id.clone(), report.clone())).collect()
            }
            Self::On(path) => path.apply(config, endpoints, bound, proxied),
        }
    }

    /// The same where only `changed` backends have other endpoints than before, as
    /// [`KernelPath::update_endpoints`] does.
    pub(crate) fn update_endpoints(
        &mut self,
        config: &Config,
        endpoints: &EndpointTable,
        changed: &EndpointTable,
        bound: &ApplyReport,
        proxied: ProxiedFlows<'_>,
    ) -> Option<BTreeMap<ListenerId, PathReport>> {
        match self {
            Self::Off | Self::Missing { .. } => None,
            Self::On(path) => path.update_endpoints(config, endpoints, changed, bound, proxied),
        }
    }

    /// Looks whether something is different. Whether [`apply`](Self::apply) would do something else.
    pub(crate) fn tick(&mut self, counters: &KernelCounters) -> bool {
        match self {
            Self::Off => false,
            Self::On(path) => path.tick(),
            Self::Missing { wanted, why } => {
                let now = Self::start(wanted.clone(), counters);
                let is_different = now.missing() != Some(why.as_str());
                if is_different {
                    *self = now;
                }
                is_different
            }
        }
    }

    /// Carries no new sessions any more. Those there are may go on for that long.
    pub(crate) fn drain(&mut self, within: Duration) {
        if let Self::On(path) = self {
            path.drain(within);
        }
    }

    /// Whether after a drain there are none left.
    pub(crate) fn is_drained(&mut self) -> bool {
        match self {
            Self::On(path) => path.is_drained(),
            Self::Off | Self::Missing { .. } => true,
        }
    }
}
