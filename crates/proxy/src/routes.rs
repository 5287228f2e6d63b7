//! What a worker knows of routes and backends. Every worker has a copy of its own, made by the
//! control thread; nothing in it is shared with another worker.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use l4way_model::{Endpoint, EndpointAddress, RefusedReason};
use l4way_proxy_core::{Rng, WeightedPick, less_loaded};
use l4way_tls::Originator;

use crate::counters::Row;

/// Names a listener while it exists, and no other after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ListenerKey(pub(crate) u32);

/// Names a backend in every worker's [`Backends`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BackendKey(pub(crate) u32);

/// Where a listener's sessions go, and what counts them.
#[derive(Debug)]
pub(crate) struct Route {
    pick: WeightedPick,
    targets: Vec<Target>,
    /// What every session meets if no target has weight.
    otherwise: Refusal,
}

#[derive(Debug)]
pub(crate) enum Target {
    Backend(Forward),
    Refused(Refusal),
}

/// A session may begin.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    pub(crate) backend: BackendKey,
    /// What begins the TLS sessions with its endpoints, if there are to be any.
    pub(crate) originator: Option<Arc<Originator>>,
    pub(crate) row: Arc<Row>,
}

/// A session may not begin.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: RefusedReason,
    pub(crate) row: Arc<Row>,
}

impl Route {
    pub(crate) fn new(pick: WeightedPick, targets: Vec<Target>, otherwise: Refusal) -> Self {
        Self { pick, targets, otherwise }
    }

    /// What the next session meets.
    pub(crate) fn pick(&mut self) -> Result<&Forward, &Refusal> {
        match self.pick.pick().and_then(|index| self.targets.get(index)) {
            Some(Target::Backend(forward)) => Ok(forward),
            Some(Target::Refused(refusal)) => Err(refusal),
            None => Err(&self.otherwise),
        }
    }
}

/// An endpoint, shared by the table and the sessions that go to it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: EndpointAddress,
    /// This worker's sessions that go there.
    sessions: Cell<u32>,
    /// Whether it has left its backend.
    gone: Cell<bool>,
}

impl Upstream {
    /// Whether it takes no new sessions any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }
}

/// A session's hold on its endpoint: it counts among the endpoint's sessions.
#[derive(Debug)]
pub(crate) struct UpstreamLease(Rc<Upstream>);

impl UpstreamLease {
    fn new(upstream: Rc<Upstream>) -> Self {
        upstream.sessions.set(upstream.sessions.get() + 1);
        Self(upstream)
    }
}

impl std::ops::Deref for UpstreamLease {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.0
    }
}

impl Drop for UpstreamLease {
    fn drop(&mut self) {
        self.0.sessions.set(self.0.sessions.get() - 1);
    }
}

/// Every backend's endpoints.
#[derive(Debug, Default)]
pub(crate) struct Backends(BTreeMap<BackendKey, Vec<Rc<Upstream>>>);

impl Backends {
    /// Replaces one backend's endpoints. Those that stay keep their session counts.
    pub(crate) fn set(&mut self, key: BackendKey, endpoints: &[Endpoint]) {
        let old = self.0.remove(&key).unwrap_or_default();
        let mut left: HashMap<_, _> =
            old.iter().map(|upstream| (&upstream.address, upstream)).collect();
        let upstream = |endpoint: &Endpoint| match left.remove(&endpoint.address) {
            Some(stays) => stays.clone(),
            None => Rc::new(Upstream {
                address: endpoint.address.clone(),
                sessions: Cell::new(0),
                gone: Cell::new(false),
            }),
        };
        let upstreams: Vec<_> = endpoints.iter().map(upstream).collect();
        left.into_values().for_each(|upstream| upstream.gone.set(true));
        if !upstreams.is_empty() {
            self.0.insert(key, upstreams);
        }
    }

    /// The endpoint for a new session of this backend: the less loaded of two.
    pub(crate) fn choose(&self, key: BackendKey, rng: &mut Rng) -> Option<UpstreamLease> {
        self.choose_untried(key, rng, &[])
    }

    /// An endpoint for a session that some endpoints have failed: another one.
    pub(crate) fn choose_another(
        &self,
        key: BackendKey,
        rng: &mut Rng,
        failed: impl Fn(&Upstream) -> bool,
    ) -> Option<UpstreamLease> {
        let upstreams = self.0.get(&key)?;
        let tried = (0..upstreams.len()).filter(|&index| failed(&upstreams[index]));
        self.choose_untried(key, rng, &tried.collect::<Vec<_>>())
    }

    fn choose_untried(
        &self,
        key: BackendKey,
        rng: &mut Rng,
        tried: &[usize],
    ) -> Option<UpstreamLease> {
        let upstreams = self.0.get(&key)?;
        let sessions = |index: usize| upstreams[index].sessions.get();
        let index = less_loaded(rng, upstreams.len(), tried, sessions)?;
        Some(UpstreamLease::new(upstreams[index].clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const KEY: BackendKey = BackendKey(1);

    fn endpoints(ports: &[u16]) -> Vec<Endpoint> {
        ports.iter().map(|&port| SocketAddr::from(([127, 0, 0, 1], port)).into()).collect()
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_sessions_and_one_that_goes_says_so() {
        let (mut backends, mut rng) = (Backends::default(), Rng::new(1));
        backends.set(KEY, &endpoints(&[1]));
        let stays = backends.choose(KEY, &mut rng).unwrap();
        backends.set(KEY, &endpoints(&[2, 1]));
        assert!(!stays.is_gone());
        let other = backends.choose(KEY, &mut rng).unwrap();
        assert_eq!(other.address.to_string(), "127.0.0.1:2", "the one without sessions");
        backends.set(KEY, &endpoints(&[1]));
        assert!(other.is_gone() && !stays.is_gone());
        backends.set(KEY, &[]);
        assert!(stays.is_gone());
        assert!(backends.choose(KEY, &mut rng).is_none());
    }

    #[test]
    fn an_endpoint_that_failed_is_not_chosen_again() {
        let (mut backends, mut rng) = (Backends::default(), Rng::new(1));
        backends.set(KEY, &endpoints(&[1, 2]));
        let failed = backends.choose(KEY, &mut rng).unwrap();
        let has_failed = |upstream: &Upstream| upstream.address == failed.address;
        let next = backends.choose_another(KEY, &mut rng, has_failed).unwrap();
        assert_ne!(next.address, failed.address);
        assert!(backends.choose_another(KEY, &mut rng, |_| true).is_none());
    }
}
