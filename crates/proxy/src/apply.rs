//! From what runs to what is wanted.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    iter,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    time::Instant,
};

use l4way_model::{
    ApplyReport, BackendId, BindFailure, Config, Endpoint, EndpointTable, Listener, ListenerId,
    ListenerReport, RefusedReason, Target as ModelTarget, Transport,
};
use l4way_proxy_core::{Bind, WeightedPick, plan};

use crate::{
    Labels, bind,
    proxy::Workers,
    routes::{BackendKey, Forward, ListenerKey, Refusal, Route, Target},
    socket::random_seed,
    worker::Command,
};

/// What the workers have been told.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    wanted: Arc<Config>,
    /// The listeners that are bound.
    running: Config,
    /// The wanted listeners that aren't.
    failures: BTreeMap<ListenerId, BindFailure>,
    /// All wanted listeners by the workers' names for them.
    keys: BTreeMap<ListenerId, (ListenerKey, Transport)>,
    backends: BTreeMap<BackendId, (BackendKey, Arc<[Endpoint]>)>,
    next_key: u32,
    /// Ports on which workers may still have UDP sockets that drain.
    draining_udp: BTreeSet<u16>,
}

impl Applied {
    pub(crate) fn apply(
        &mut self,
        workers: &Workers,
        config: Arc<Config>,
        endpoints: &EndpointTable,
    ) -> ApplyReport {
        self.wanted = config;
        self.update_endpoints(workers, endpoints);
        self.carry_out(workers);
        self.report()
    }

    pub(crate) fn retry_failed(&mut self, workers: &Workers) -> Option<ApplyReport> {
        if self.failures.is_empty() {
            return None;
        }
        let before = self.failures.clone();
        self.carry_out(workers);
        (self.failures != before).then(|| self.report())
    }

    fn report(&self) -> ApplyReport {
        let report = |listener: &Listener| match self.failures.get(&listener.id) {
            Some(failure) => ListenerReport::Failed(failure.clone()),
            None => ListenerReport::Bound,
        };
        let listeners = self.wanted.listeners();
        let listeners = listeners.map(|l| (l.id.clone(), report(l))).collect();
        ApplyReport { listeners, ..ApplyReport::default() }
    }

    /// Sends the workers the rows of the table that differ from what they have. A backend that
    /// nothing names any more keeps its endpoints, and they the sessions that they have.
    pub(crate) fn update_endpoints(&mut self, workers: &Workers, endpoints: &EndpointTable) {
        self.add_backends(endpoints);
        let named: HashSet<_> = self.wanted.listeners().flat_map(backends).collect();
        let mut changed = Vec::new();
        for (id, (key, known)) in &mut self.backends {
            let now = match endpoints.0.get(id) {
                Some(now) => now.clone(),
                None if named.contains(id) => Arc::default(),
                None => continue,
            };
            if now != *known {
                *known = now.clone();
                changed.push((*key, now));
            }
        }
        if !changed.is_empty() {
            workers.send_all(|_| Command::SetBackends(changed.clone()));
        }
    }

    /// Gives a key to each backend that the configuration or the table names.
    fn add_backends(&mut self, endpoints: &EndpointTable) {
        let wanted = self.wanted.clone();
        for backend in wanted.listeners().flat_map(backends).chain(endpoints.0.keys()) {
            if !self.backends.contains_key(backend) {
                let key = BackendKey(self.new_key());
                self.backends.insert(backend.clone(), (key, Arc::default()));
            }
        }
    }

    fn new_key(&mut self) -> u32 {
        self.next_key += 1;
        self.next_key
    }

    /// Brings the workers from what is running to what is wanted.
    fn carry_out(&mut self, workers: &Workers) {
        let wanted = self.wanted.clone();
        let plan = plan(&self.running, &wanted);
        for (bind, _) in &plan.close {
            self.close(workers, *bind);
        }
        for listener in plan.add.iter().chain(&plan.change) {
            self.set_route(workers, listener);
        }
        for hand_over in &plan.hand_over {
            if let Some(&(to, _)) = self.keys.get(&hand_over.to) {
                let bind = hand_over.bind;
                workers.send_all(|_| Command::HandOver { bind, to });
            }
        }
        self.remove_unwanted(workers);
        self.failures.clear();
        let mut opens = BTreeMap::<_, Vec<_>>::new();
        for (bind, id) in plan.open {
            opens.entry(id).or_default().push(bind);
        }
        for (id, binds) in opens {
            self.open(workers, &id, &binds);
        }
        let bound = wanted.listeners().filter(|l| !self.failures.contains_key(&l.id)).cloned();
        self.running = Config::new(bound).expect("part of a configuration is one");
    }

    fn close(&mut self, workers: &Workers, bind: Bind) {
        // One for each worker and none here, so that the last worker sees that it is the last.
        let mut in_use = iter::repeat_n(Arc::new(()), workers.settings.workers.get());
        workers.ask_all(|done| {
            let in_use = in_use.next().expect("there is one for each worker");
            Command::Close { bind, in_use, done }
        });
        if bind.transport == Transport::Udp {
            self.draining_udp.insert(bind.address.port());
        }
    }

    /// Tells the workers of a listener, or of its new route.
    fn set_route(&mut self, workers: &Workers, listener: &Listener) {
        let transport = listener.transport;
        let key = match self.keys.get(&listener.id) {
            Some(&(key, known)) if known == transport => key,
            known => {
                // A listener that changes its transport is another one to its sessions.
                if let Some(&(key, transport)) = known {
                    remove(workers, key, transport);
                }
                let key = ListenerKey(self.new_key());
                self.keys.insert(listener.id.clone(), (key, transport));
                key
            }
        };
        workers.send_all(|worker| {
            let route = Box::new(self.compile(workers, listener, worker));
            Command::SetRoute { key, transport, route }
        });
    }

    /// A listener's route as one of the workers has it.
    fn compile(&self, workers: &Workers, listener: &Listener, worker: usize) -> Route {
        let route = listener.route.as_ref();
        let row = |backend: Option<&BackendId>| {
            let labels = Labels {
                transport: listener.transport,
                listener: listener.id.clone(),
                route: route.map(|route| route.id.clone()),
                backend: backend.cloned(),
            };
            workers.counters.row(labels, worker)
        };
        let refusal = |reason| Refusal { reason, row: row(None) };
        let target = |target: &ModelTarget| match target {
            ModelTarget::Refused(reason) => Target::Refused(refusal(*reason)),
            ModelTarget::Backend(id) => match self.backends.get(id) {
                Some(&(backend, _)) => Target::Backend(Forward { backend, row: row(Some(id)) }),
                None => Target::Refused(refusal(RefusedReason::InvalidBackend)),
            },
        };
        let targets = route.map_or(&[][..], |route| &route.targets);
        let otherwise = match route {
            Some(_) => RefusedReason::NoWeight,
            None => RefusedReason::NoRoute,
        };
        Route::new(
            WeightedPick::new(targets.iter().map(|target| target.weight), random_seed()),
            targets.iter().map(|weighted| target(&weighted.target)).collect(),
            refusal(otherwise),
        )
    }

    /// Has the sessions drain of listeners that aren't wanted any more, and forgets backends.
    fn remove_unwanted(&mut self, workers: &Workers) {
        let wanted = &self.wanted;
        self.keys.retain(|id, &mut (key, transport)| {
            let stays = wanted.listener(id).is_some();
            if !stays {
                remove(workers, key, transport);
            }
            stays
        });
        let named: BTreeSet<_> = wanted.listeners().flat_map(backends).collect();
        self.backends.retain(|id, (_, endpoints)| !endpoints.is_empty() || named.contains(id));
    }

    /// Opens these sockets for a listener; if one of them can't be, the listener gets none.
    fn open(&mut self, workers: &Workers, id: &ListenerId, binds: &[Bind]) {
        let Some(&(key, _)) = self.keys.get(id) else { return };
        let binds: Vec<_> =
            binds.iter().copied().filter(|&bind| !self.take_back(workers, key, bind)).collect();
        let binds = &binds[..];
        self.release_ports(workers, binds);
        let sockets: Result<Vec<_>, BindFailure> =
            binds.iter().map(|&bind| Ok((bind, bind::open(bind, &workers.settings)?))).collect();
        match sockets {
            Ok(sockets) => {
                for (bind, sockets) in sockets {
                    open_at_all(workers, key, bind, sockets);
                }
            }
            Err(failure) => {
                tracing::debug!(listener = %id, reason = failure.message, "can't listen");
                self.failures.insert(id.clone(), failure);
                self.close_all_of(workers, id, binds);
            }
        }
    }

    /// Gives a listener the UDP sockets that drain on the address it wants, with their sessions.
    /// Whether there are any.
    fn take_back(&mut self, workers: &Workers, key: ListenerKey, bind: Bind) -> bool {
        if bind.transport != Transport::Udp || !self.draining_udp.contains(&bind.address.port()) {
            return false;
        }
        let (answer, answers) = mpsc::channel();
        workers.send_all(|_| Command::TakeBack { key, bind, answer: answer.clone() });
        drop(answer);
        // None closes its socket as long as the others' answers are held.
        let in_use: Vec<_> = answers.iter().collect();
        let taken = in_use.len() == workers.settings.workers.get();
        if !taken && !in_use.is_empty() {
            // Some have closed theirs already, as there are no sessions left.
            self.close(workers, bind);
        }
        taken
    }

    /// UDP sockets that only serve the last sessions of a listener that is gone give way.
    fn release_ports(&mut self, workers: &Workers, binds: &[Bind]) {
        for bind in binds.iter().filter(|bind| bind.transport == Transport::Udp) {
            let port = bind.address.port();
            if self.draining_udp.remove(&port) {
                workers.ask_all(|done| Command::ReleasePort { port, done });
            }
        }
    }

    /// Closes the sockets that a listener has, all but the `missing` ones.
    fn close_all_of(&mut self, workers: &Workers, id: &ListenerId, missing: &[Bind]) {
        let wanted = self.wanted.clone();
        let Some(listener) = wanted.listener(id) else { return };
        let transport = listener.transport;
        for bind in listener.binds().map(|address| Bind { transport, address }) {
            if !missing.contains(&bind) {
                self.close(workers, bind);
            }
        }
    }
}

/// The backends that a listener's route names.
fn backends(listener: &Listener) -> impl Iterator<Item = &BackendId> {
    let targets = listener.route.iter().flat_map(|route| &route.targets);
    targets.filter_map(|target| match &target.target {
        ModelTarget::Backend(backend) => Some(backend),
        ModelTarget::Refused(_) => None,
    })
}

fn remove(workers: &Workers, key: ListenerKey, transport: Transport) {
    let deadline = Instant::now() + workers.settings.drain_deadline;
    workers.send_all(|_| Command::RemoveListener { key, transport, deadline });
}

/// Gives each worker one of the sockets.
fn open_at_all(workers: &Workers, key: ListenerKey, bind: Bind, sockets: Vec<OwnedFd>) {
    let mut sockets = sockets.into_iter();
    workers.send_all(|_| {
        let socket = sockets.next().expect("a socket was opened for each worker");
        Command::Open { key, bind, socket }
    });
}
