//! From what runs to what is wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use l4way_host::{bind_udp_shared, is_in_the_way, listen_tcp_shared};
use l4way_model::{
    ApplyReport, Bind, BindFailure, BindFailureKind, Config, EndpointTable, Listener, ListenerId,
    ListenerReport, Parts as ConfigParts, Route, TlsPort, Transport,
};
use l4way_proxy_core::{Allowance, BudgetKind, plan};

use crate::{
    ProxySettings,
    compile::{Compiler, Parts},
    keys::Keys,
    proxy::Workers,
    routes::{BackendKey, ListenerKey},
    tls::TlsTable,
    udp,
    worker::{Command, UdpFlow},
};

/// How much later than the control side workers may close a UDP socket that has drained.
const LATE: Duration = Duration::from_secs(1);

/// What the workers have been told.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    wanted: Arc<Config>,
    /// The listeners that are bound.
    running: Config,
    /// The wanted listeners that aren't.
    failures: BTreeMap<ListenerId, BindFailure>,
    /// The workers' names for the wanted listeners, and for those that drain.
    keys: Keys,
    parts: Parts,
    next_key: u32,
    /// Where workers may still have UDP sockets that drain, and until when.
    draining_udp: BTreeMap<SocketAddr, Instant>,
}

impl Applied {
    pub(crate) fn apply(
        &mut self,
        workers: &Workers,
        config: Arc<Config>,
        endpoints: &EndpointTable,
    ) -> ApplyReport {
        let terms = config.terms();
        if terms != self.wanted.terms() {
            workers.send_all(|_| Command::SetTerms(terms));
        }
        self.wanted = config;
        self.update_tls();
        self.add_backends();
        self.update_endpoints(workers, endpoints);
        self.carry_out(workers);
        // When no route leads there any more.
        self.update_endpoints(workers, &self.without_row(endpoints));
        self.forget_backends();
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
        let report = |id: &ListenerId| match self.failures.get(id) {
            Some(failure) => ListenerReport::Failed(failure.clone()),
            None => ListenerReport::Bound,
        };
        let sessions = self.wanted.listeners().map(|l| (l.id.clone(), report(&l.id)));
        let tls = self.wanted.tls_ports().iter().flat_map(|port| {
            port.listeners.iter().map(move |listener| {
                let failure = self.cannot_terminate(port, &listener.id);
                (listener.id.clone(), failure.unwrap_or_else(|| report(&listener.id)))
            })
        });
        ApplyReport { listeners: sessions.chain(tls).collect(), ..ApplyReport::default() }
    }

    /// What becomes of a listener that can't end TLS sessions as it should.
    fn cannot_terminate(&self, port: &TlsPort, id: &ListenerId) -> Option<ListenerReport> {
        let message = self.parts.terminators.failure(id)?.to_owned();
        let (bind, kind) = (port.binds().next()?, BindFailureKind::Other);
        Some(ListenerReport::Failed(BindFailure { bind, kind, message }))
    }

    /// Makes what ends and begins the TLS sessions of the wanted configuration.
    fn update_tls(&mut self) {
        self.parts.terminators.update(&self.wanted);
        let to_begin = || self.wanted.session_routes().flat_map(Route::backend_tls);
        self.parts.originators.update(to_begin().map(|(_, tls)| tls));
        let refused: BTreeSet<_> = to_begin()
            .filter_map(|(backend, tls)| Some((backend, self.parts.originators.get(tls).err()?)))
            .collect();
        for (backend, why) in refused {
            tracing::warn!(%backend, "sessions to it are refused: {why}");
        }
    }

    /// Sends the workers the rows that differ from what they have. Any other backend keeps its
    /// endpoints, and they the sessions that they have.
    pub(crate) fn update_endpoints(&mut self, workers: &Workers, changes: &EndpointTable) {
        let mut changed = Vec::new();
        for (id, now) in &changes.0 {
            if let Some((key, known)) = self.parts.backends.get_mut(id)
                && known != now
            {
                *known = now.clone();
                changed.push((*key, id.clone(), now.clone()));
            }
        }
        if !changed.is_empty() {
            workers.send_all(|_| Command::SetBackends(changed.clone()));
        }
    }

    /// The clients of UDP sessions that these listeners have, and whom they write to.
    pub(crate) fn udp_flows(&self, workers: &Workers, listeners: &[ListenerId]) -> Vec<UdpFlow> {
        let keys: Arc<[_]> = listeners.iter().filter_map(|id| self.keys.get(id)).collect();
        let (answer, answers) = mpsc::channel();
        workers.send_all(|_| Command::UdpFlows { keys: keys.clone(), answer: answer.clone() });
        drop(answer);
        answers.iter().collect()
    }

    /// The backends that the table doesn't have: they have no endpoints, or are gone.
    fn without_row(&self, endpoints: &EndpointTable) -> EndpointTable {
        let missing = self.parts.backends.keys().filter(|id| !endpoints.0.contains_key(id));
        EndpointTable(missing.map(|id| (id.clone(), Arc::default())).collect())
    }

    /// Gives a key to each backend that the configuration names.
    fn add_backends(&mut self) {
        let wanted = self.wanted.clone();
        for backend in wanted.session_backends() {
            if !self.parts.backends.contains_key(backend) {
                let key = BackendKey(self.new_key());
                self.parts.backends.insert(backend.clone(), (key, Arc::default()));
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
        for port in &plan.tls {
            self.set_tls(workers, port);
        }
        for hand_over in &plan.hand_over {
            if let Some(to) = self.keys.get(&hand_over.to) {
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
        let is_bound = |owner: &ListenerId| !self.failures.contains_key(owner);
        let tls = wanted.tls_ports().iter().filter(|port| port.owner().is_some_and(is_bound));
        let bound = ConfigParts {
            listeners: wanted.listeners().filter(|l| is_bound(&l.id)).cloned().collect(),
            tls: tls.cloned().collect(),
            ..ConfigParts::default()
        };
        self.running = bound.try_into().expect("part of a configuration is one");
    }

    fn close(&mut self, workers: &Workers, bind: Bind) {
        // One for each worker and none here, so that the last worker sees that it is the last.
        let mut in_use = iter::repeat_n(Arc::new(()), workers.settings.workers.get());
        workers.ask_all(|done| {
            let in_use = in_use.next().expect("there is one for each worker");
            Command::Close { bind, in_use, done }
        });
        if bind.transport == Transport::Udp {
            let until = Instant::now() + workers.settings.drain_deadline;
            self.draining_udp.insert(bind.address, until);
        }
    }

    /// The workers' name for a listener that is wanted. One that is back has its old name, and its
    /// sessions stay.
    fn key(&mut self, workers: &Workers, id: &ListenerId, transport: Transport) -> ListenerKey {
        if let Some(key) = self.keys.of(id, transport) {
            return key;
        }
        // A listener that changes its transport is another one to its sessions.
        self.leave(workers, id);
        if let Some(key) = self.keys.take_back(id, transport, Instant::now()) {
            if transport == Transport::Tcp {
                workers.send_all(|_| Command::KeepListener { key });
            }
            return key;
        }
        let key = ListenerKey(self.new_key());
        self.keys.name(id, transport, key);
        key
    }

    /// Has the sessions of a listener drain that isn't wanted any more.
    fn leave(&mut self, workers: &Workers, id: &ListenerId) {
        let deadline = Instant::now() + workers.settings.drain_deadline;
        if let Some((key, transport)) = self.keys.leave(id, deadline) {
            workers.send_all(|_| Command::RemoveListener { key, transport, deadline });
        }
    }

    fn compiler<'a>(
        &'a self,
        workers: &'a Workers,
        worker: usize,
        listener: &'a ListenerId,
    ) -> Compiler<'a> {
        Compiler { parts: &self.parts, counters: &workers.counters, worker, listener }
    }

    /// Tells the workers of a listener, or of its new route.
    fn set_route(&mut self, workers: &Workers, listener: &Listener) {
        let transport = listener.transport;
        let key = self.key(workers, &listener.id, transport);
        workers.send_all(|worker| {
            let compiler = self.compiler(workers, worker, &listener.id);
            let route = Box::new(compiler.route(transport, listener.route.as_ref()));
            Command::SetRoute { key, transport, route }
        });
    }

    /// Tells the workers of a port of TLS listeners, or of what has changed of them.
    fn set_tls(&mut self, workers: &Workers, port: &TlsPort) {
        let Some(owner) = port.owner() else { return };
        let keys = port.listeners.iter().map(|l| self.key(workers, &l.id, Transport::Tcp));
        let keys: Vec<_> = keys.collect();
        let Some(key) = self.keys.get(owner) else { return };
        workers.send_all(|worker| {
            let listeners = port.listeners.iter().zip(&keys).map(|(listener, &key)| {
                let compiler = self.compiler(workers, worker, &listener.id);
                (listener.hostname.clone(), compiler.tls_listener(key, listener))
            });
            let nobody =
                ListenerId { gateway: owner.gateway.clone(), listener_set: None, name: "".into() };
            let stray = self.compiler(workers, worker, &nobody).counted(false);
            Command::SetTls { key, table: Box::new(TlsTable::new(listeners, stray)) }
        });
    }

    /// Has the sessions drain of listeners that aren't wanted any more.
    fn remove_unwanted(&mut self, workers: &Workers) {
        let wanted = self.wanted.clone();
        let tls = wanted.tls_ports().iter().flat_map(|port| &port.listeners).map(|l| &l.id);
        let ids = wanted.listeners().map(|l| &l.id).chain(tls).collect();
        for id in self.keys.others(&ids) {
            self.leave(workers, &id);
        }
        let now = Instant::now();
        self.keys.forget(now);
        self.draining_udp.retain(|_, until| *until + LATE > now);
    }

    /// Forgets the backends that the configuration doesn't name and that have no endpoints.
    fn forget_backends(&mut self) {
        let named: BTreeSet<_> = self.wanted.session_backends().collect();
        self.parts
            .backends
            .retain(|id, (_, endpoints)| !endpoints.is_empty() || named.contains(id));
    }

    /// Opens these sockets for a listener; if one of them can't be, the listener gets none.
    fn open(&mut self, workers: &Workers, id: &ListenerId, binds: &[Bind]) {
        let Some(key) = self.keys.get(id) else { return };
        let binds: Vec<_> =
            binds.iter().copied().filter(|&bind| !self.take_back(workers, key, bind)).collect();
        let binds = &binds[..];
        self.release_ports(workers, binds);
        let sockets: Result<Vec<_>, BindFailure> =
            binds.iter().map(|&bind| Ok((bind, open(bind, &workers.settings)?))).collect();
        match sockets {
            Ok(sockets) => {
                let allowance = Arc::new(workers.budget.allow(kind_of(binds)));
                for (bind, sockets) in sockets {
                    open_at_all(workers, key, bind, sockets, &allowance);
                }
            }
            Err(failure) => {
                tracing::debug!(listener = %id, reason = failure.message, "can't listen");
                self.close_all_of(workers, id, binds);
                self.fail(id, &failure);
            }
        }
    }

    /// Gives a listener the UDP sockets that drain on the address it wants, with their sessions.
    /// Whether there are any.
    fn take_back(&mut self, workers: &Workers, key: ListenerKey, bind: Bind) -> bool {
        if bind.transport != Transport::Udp || !self.draining_udp.contains_key(&bind.address) {
            return false;
        }
        let (answer, answers) = mpsc::channel();
        workers.send_all(|_| Command::TakeBack { key, bind, answer: answer.clone() });
        drop(answer);
        // None closes its socket as long as the others' answers are held.
        let in_use: Vec<_> = answers.iter().collect();
        let taken = in_use.len() == workers.settings.workers.get();
        if taken {
            self.draining_udp.remove(&bind.address);
        } else if !in_use.is_empty() {
            // Some have closed theirs already, as there are no sessions left.
            self.close(workers, bind);
        }
        taken
    }

    /// UDP sockets that only serve the last sessions of a listener that is gone give way, where one
    /// that is wanted can't be beside them.
    fn release_ports(&mut self, workers: &Workers, binds: &[Bind]) {
        for bind in binds.iter().filter(|bind| bind.transport == Transport::Udp) {
            let address = bind.address;
            let before = self.draining_udp.len();
            self.draining_udp.retain(|draining, _| !is_in_the_way(*draining, address));
            if self.draining_udp.len() < before {
                workers.ask_all(|done| Command::Release { address, done });
            }
        }
    }

    /// The listener can't be bound, nor can those that share its port.
    fn fail(&mut self, id: &ListenerId, failure: &BindFailure) {
        let wanted = self.wanted.clone();
        let port = wanted.tls_ports().iter().find(|port| port.owner() == Some(id));
        let sharing = port.into_iter().flat_map(|port| &port.listeners).map(|l| &l.id);
        for id in sharing.chain([id]) {
            self.failures.insert(id.clone(), failure.clone());
        }
    }

    /// Closes the sockets that a listener has, all but the `missing` ones.
    fn close_all_of(&mut self, workers: &Workers, id: &ListenerId, missing: &[Bind]) {
        for bind in binds_of(&self.wanted, id) {
            if !missing.contains(&bind) {
                self.close(workers, bind);
            }
        }
    }
}

/// The sockets that a listener wants, those of a port of TLS listeners if it is their owner.
fn binds_of(config: &Config, id: &ListenerId) -> Vec<Bind> {
    let bind = |transport| move |address| Bind { transport, address };
    if let Some(listener) = config.listener(id) {
        return listener.binds().map(bind(listener.transport)).collect();
    }
    let ports = config.tls_ports().iter().filter(|port| port.owner() == Some(id));
    ports.flat_map(|port| port.binds().map(bind(Transport::Tcp))).collect()
}

/// What the sessions of these sockets, which are one listener's, take descriptors as.
fn kind_of(binds: &[Bind]) -> BudgetKind {
    match binds.first().map(|bind| bind.transport) {
        Some(Transport::Udp) => BudgetKind::Udp,
        _ => BudgetKind::Tcp,
    }
}

/// One socket for each worker, bound and, if TCP, listening.
fn open(bind: Bind, settings: &ProxySettings) -> Result<Vec<OwnedFd>, BindFailure> {
    let (address, count) = (bind.address, settings.workers);
    match bind.transport {
        Transport::Tcp => listen_tcp_shared(address, count, settings.keepalive, settings.backlog),
        Transport::Udp => bind_udp_shared(address, count, udp::prepare),
    }
}

/// Gives each worker one of the sockets.
fn open_at_all(
    workers: &Workers,
    key: ListenerKey,
    bind: Bind,
    sockets: Vec<OwnedFd>,
    allowance: &Arc<Allowance>,
) {
    let mut sockets = sockets.into_iter();
    workers.send_all(|_| {
        let socket = sockets.next().expect("a socket was opened for each worker");
        Command::Open { key, bind, socket, allowance: allowance.clone() }
    });
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use l4way_model::{BackendId, GatewayId, RouteId, Target, WeightedTarget};
    use l4way_proxy_core::DescriptorBudget;
    use l4way_session::SessionCounters;

    use super::*;
    use crate::ProxySettings;

    fn id(name: &str) -> ListenerId {
        let gateway = GatewayId::new("ns", "gw");
        ListenerId { gateway, listener_set: None, name: name.into() }
    }

    fn backend(name: &str) -> BackendId {
        BackendId {
            kind: "Backend".into(),
            namespace: "ns".into(),
            name: name.into(),
            port: None,
            transport: Transport::Udp,
        }
    }

    /// A listener of its own for a backend of this name.
    fn config(name: &str) -> Arc<Config> {
        let target = WeightedTarget { weight: 1, target: Target::Backend(backend(name)) };
        let route = RouteId { kind: "UDPRoute".into(), namespace: "ns".into(), name: "r".into() };
        let listener = Listener {
            id: id(name),
            transport: Transport::Udp,
            // Nobody has it, so that no socket is opened.
            addresses: vec![[192, 0, 2, 1].into()],
            port: 53,
            route: Some(Route { id: route, targets: vec![target] }),
        };
        Arc::new(Config::new([listener]).expect("one listener"))
    }

    #[test]
    fn nothing_is_kept_of_backends_and_listeners_that_are_gone() {
        let settings = ProxySettings {
            workers: NonZeroUsize::MIN,
            drain_deadline: Duration::ZERO,
            ..ProxySettings::default()
        };
        let counters = Arc::new(SessionCounters::new(1));
        let (mailbox, worker) = crate::mailbox::mailbox().expect("an eventfd");
        let budget = DescriptorBudget::new(100, settings.workers);
        let workers = Workers::new(vec![mailbox], Arc::new(settings), budget, counters.clone());
        let mut applied = Applied::default();
        let endpoint = || [SocketAddr::from(([192, 0, 2, 2], 53)).into()].into();
        let mut rows = BTreeMap::new();
        for n in 0..100 {
            let name = format!("b{n}");
            let table = EndpointTable([(backend(&name), endpoint())].into());
            applied.apply(&workers, config(&name), &table);
            while let Some(command) = worker.next() {
                // What a worker has of backends.
                if let Command::SetBackends(changed) = command {
                    for (key, _, endpoints) in changed {
                        rows.insert(key, endpoints);
                        rows.retain(|_, endpoints| !endpoints.is_empty());
                    }
                }
            }
            assert_eq!((applied.parts.backends.len(), rows.len()), (1, 1));
        }
        assert_eq!((applied.keys.len(), applied.draining_udp.len()), (1, 0));
        counters.snapshot();
        assert!(counters.snapshot().rows.is_empty(), "the worker has dropped its routes");
    }
}
