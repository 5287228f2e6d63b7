//! What a worker knows of routes and backends. Every worker has a copy of its own, made by the
//! control thread; nothing in it is shared with another worker.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use l4way_model::{BackendId, Endpoint, EndpointAddress, RefusedReason};
use l4way_proxy_core::{EndpointOf, HealthView, Rng, WeightedPick};
use l4way_session::Row;
use l4way_tls::Originator;

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
    backend: Rc<BackendId>,
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

    /// This worker's sessions that go there.
    pub(crate) fn sessions(&self) -> u32 {
        self.sessions.get()
    }

    /// What is known of endpoints is told by this.
    pub(crate) fn of(&self) -> EndpointOf<'_> {
        EndpointOf { backend: &self.backend, address: &self.address }
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

/// What an endpoint is chosen by, beside its sessions.
#[derive(Debug)]
pub(crate) struct Choosing<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) health: &'a HealthView,
    pub(crate) now: Instant,
}

impl Backends {
    /// Replaces one backend's endpoints. Those that stay keep their session counts.
    pub(crate) fn set(&mut self, key: BackendKey, backend: &BackendId, endpoints: &[Endpoint]) {
        let backend = Rc::new(backend.clone());
        let old = self.0.remove(&key).unwrap_or_default();
        let mut left: HashMap<_, _> =
            old.iter().map(|upstream| (&upstream.address, upstream)).collect();
        let upstream = |endpoint: &Endpoint| match left.remove(&endpoint.address) {
            Some(stays) => stays.clone(),
            None => Rc::new(Upstream {
                address: endpoint.address.clone(),
                backend: backend.clone(),
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

    /// The endpoints of each backend, in the table's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[Rc<Upstream>]> {
        self.0.values().map(Vec::as_slice)
    }

    /// The endpoint for a new session of this backend: the less loaded of two.
    pub(crate) fn choose(&self, key: BackendKey, by: Choosing<'_>) -> Option<UpstreamLease> {
        self.choose_untried(key, by, &[])
    }

    /// An endpoint for a session that some endpoints have failed: another one.
    pub(crate) fn choose_another(
        &self,
        key: BackendKey,
        by: Choosing<'_>,
        failed: impl Fn(&Upstream) -> bool,
    ) -> Option<UpstreamLease> {
        let upstreams = self.0.get(&key)?;
        let tried = (0..upstreams.len()).filter(|&index| failed(&upstreams[index]));
        self.choose_untried(key, by, &tried.collect::<Vec<_>>())
    }

    fn choose_untried(
        &self,
        key: BackendKey,
        by: Choosing<'_>,
        tried: &[usize],
    ) -> Option<UpstreamLease> {
        let Choosing { rng, health, now } = by;
        let upstreams = self.0.get(&key)?;
        let sessions = |index: usize| upstreams[index].sessions.get();
        let endpoint = |index: usize| upstreams[index].of();
        let index = health.choose(rng, upstreams.len(), tried, now, endpoint, sessions)?;
        Some(UpstreamLease::new(upstreams[index].clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use l4way_model::Transport;
    use l4way_proxy_core::{EndpointFailure, EndpointStore};

    use super::*;

    const KEY: BackendKey = BackendKey(1);

    fn endpoints(ports: &[u16]) -> Vec<Endpoint> {
        ports.iter().map(|&port| SocketAddr::from(([127, 0, 0, 1], port)).into()).collect()
    }

    /// One backend, and what its endpoints are chosen by.
    struct Scene {
        backends: Backends,
        rng: Rng,
        health: HealthView,
        now: Instant,
    }

    impl Scene {
        fn new(ports: &[u16]) -> Self {
            let now = Instant::now();
            let health = EndpointStore::new(now).view();
            let mut scene = Self { backends: Backends::default(), rng: Rng::new(1), health, now };
            scene.set(ports);
            scene
        }

        fn set(&mut self, ports: &[u16]) {
            let backend = BackendId {
                kind: "Backend".into(),
                namespace: "default".into(),
                name: "b".into(),
                port: None,
                transport: Transport::Tcp,
            };
            self.backends.set(KEY, &backend, &endpoints(ports));
        }

        fn choose(&mut self) -> Option<UpstreamLease> {
            let Self { backends, rng, health, now } = self;
            backends.choose(KEY, Choosing { rng, health, now: *now })
        }

        fn another(&mut self, failed: impl Fn(&Upstream) -> bool) -> Option<UpstreamLease> {
            let Self { backends, rng, health, now } = self;
            backends.choose_another(KEY, Choosing { rng, health, now: *now }, failed)
        }
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_sessions_and_one_that_goes_says_so() {
        let mut scene = Scene::new(&[1]);
        let stays = scene.choose().unwrap();
        scene.set(&[2, 1]);
        assert!(!stays.is_gone());
        let other = scene.choose().unwrap();
        assert_eq!(other.address.to_string(), "127.0.0.1:2", "the one without sessions");
        scene.set(&[1]);
        assert!(other.is_gone() && !stays.is_gone());
        scene.set(&[]);
        assert!(stays.is_gone());
        assert!(scene.choose().is_none());
        assert!(scene.backends.0.is_empty(), "nothing is kept of it");
    }

    #[test]
    fn an_endpoint_that_failed_is_not_chosen_again() {
        let mut scene = Scene::new(&[1, 2]);
        let failed = scene.choose().unwrap();
        let has_failed = |upstream: &Upstream| upstream.address == failed.address;
        let next = scene.another(has_failed).unwrap();
        assert_ne!(next.address, failed.address);
        assert!(scene.another(|_| true).is_none());
    }

    #[test]
    fn an_endpoint_that_is_passed_over_is_chosen_if_there_is_no_other() {
        let mut scene = Scene::new(&[1, 2]);
        let dead = scene.choose().unwrap();
        scene.health.failed(dead.of(), EndpointFailure::Refused, scene.now);
        scene.health.refresh();
        for _ in 0..20 {
            let held = scene.choose().unwrap();
            assert_ne!(held.address, dead.address);
        }
        let lives = |upstream: &Upstream| upstream.address != dead.address;
        assert_eq!(scene.another(lives).unwrap().address, dead.address);
    }
}
