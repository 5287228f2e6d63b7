use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use l4way_model::{
    ApplyReport, BackendId, Config, Endpoint, EndpointAddress, EndpointTable, Listener, ListenerId,
    ListenerReport, PathReport, RefusedReason, SessionTerms, Transport,
};
use l4way_session::{CloseReason, Labels, Row, SessionCounters, Tap, Writer};
use rustix::io::Errno;

use crate::{
    conntrack::{self, Events},
    host::Host,
    lock::Lock,
    netlink::Socket,
    nftables::{self, Ownership, Transaction},
    plan::{self, Carried, Goes, Plan, Taken, plan},
    ruleset::{self, Ruleset, TABLE, Terms},
    sessions::{Counts, Directory, SessionView, Sessions},
    watch::{Observer, Watch},
};

/// conntrack counts packets and bytes of each flow.
const ACCOUNTING: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";
/// conntrack keeps the time at which a flow began and ended.
const TIMESTAMPS: &str = "/proc/sys/net/netfilter/nf_conntrack_timestamp";

/// What endpoints see of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceAddress {
    /// An address of this host, as they do of the proxy's.
    #[default]
    Masquerade,
    /// The client's own: packets back have to come by this host.
    Keep,
}

/// What is the same for all sessions.
#[derive(Clone, Debug)]
pub struct KernelSettings {
    /// What endpoints see.
    pub source_address: SourceAddress,
    /// How long sessions may go on after their listener is gone.
    pub drain_deadline: Duration,
    /// Tap through which sessions are told of.
    pub tap: Tap,
    /// What sessions are counted in.
    pub counters: Arc<SessionCounters>,
}

/// Tells of the UDP flows that the proxy carries, of some of its listeners: clients, and whom they
/// write to.
pub type ProxiedFlows<'a> = &'a dyn Fn(&[ListenerId]) -> Vec<(SocketAddr, SocketAddr)>;

/// The rules in the kernel, seen from the one thread that controls them. Dropping it removes them and
/// ends the sessions that they carry.
#[derive(Debug)]
pub struct KernelPath {
    socket: Socket,
    lock: Lock,
    watch: Watch,
    terms: Terms,
    /// The times in seconds that the table has UDP timeouts for.
    timeouts: BTreeSet<u32>,
    tap: Tap,
    drain_deadline: Duration,
    counters: Arc<SessionCounters>,
    host: Host,
    /// Of the configuration that was applied last.
    taken: Taken,
    plan: Plan,
    ruleset: Ruleset,
    /// Rows of refused sessions by the name of their counter, and how many have been counted.
    refused: HashMap<String, (Arc<Row>, RefusedReason, u64)>,
    /// Listeners that are gone, and until when their sessions may go on.
    leaving: BTreeMap<ListenerId, Instant>,
    drain: Option<Drain>,
}

/// The end of the sessions that there are.
#[derive(Debug)]
struct Drain {
    until: Instant,
    /// When to look next whether any are left.
    look: Instant,
}

/// How often a drain looks at all flows.
const DRAIN_LOOK: Duration = Duration::from_millis(200);

impl KernelPath {
    /// Begins with nothing to carry. A table that a process before this one has left is taken over.
    ///
    /// # Errors
    /// What the kernel path needs and isn't there, as a clause for a person.
    pub fn start(settings: KernelSettings) -> Result<Self, String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| match Errno::from_io_error(&error) {
                Some(Errno::PERM | Errno::ACCESS) => format!("{what}: it needs CAP_NET_ADMIN"),
                _ => format!("{what}: {error}"),
            }
        };
        let lock = Lock::take().map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => "another l4way uses it in this network namespace".to_owned(),
            _ => format!("its lock can't be taken: {error}"),
        })?;
        let host =
            Host::read().map_err(|error| format!("this host can't be looked at: {error}"))?;
        let events = events_for(&settings.tap);
        let terms = Terms {
            masquerade: settings.source_address == SourceAddress::Masquerade,
            udp_timeout: SessionTerms::default().udp_session_timeout,
            events: events.mask,
        };
        let mut socket = Socket::open(0).map_err(failed("netlink can't be used"))?;
        // Whoever tries again and again makes no table for nothing. Where conntrack isn't loaded yet, the
        // table brings it.
        if let Err(error) = switch_on(ACCOUNTING)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed("conntrack can't be used")(error));
        }
        create(&mut socket, terms).map_err(failed("nftables can't be used"))?;
        let ready = switch_on(ACCOUNTING).and_then(|()| {
            let sessions = Sessions::new(Socket::open(0)?, settings.tap.clone());
            Watch::start(sessions, events)
        });
        let watch = ready.map_err(|error| {
            delete(&mut socket);
            failed("conntrack can't be used")(error)
        })?;
        // Times are taken from our own clock otherwise.
        let _ = switch_on(TIMESTAMPS);
        Ok(Self {
            socket,
            lock,
            watch,
            terms,
            timeouts: [terms.udp_seconds()].into(),
            tap: settings.tap,
            drain_deadline: settings.drain_deadline,
            counters: settings.counters,
            host,
            taken: Taken::new(),
            plan: Plan::new(),
            ruleset: Ruleset::default(),
            refused: HashMap::new(),
            leaving: BTreeMap::new(),
            drain: None,
        })
    }

    /// Carries the listeners of `config` that it can and that the proxy has bound. Returns what
    /// becomes of each TCP and UDP listener. Sessions that there are stay with whom they began, but
    /// for those of UDP with endpoints that aren't among `endpoints`, which are of all backends that
    /// there are.
    pub fn apply(
        &mut self,
        config: &Config,
        endpoints: &EndpointTable,
        bound: &ApplyReport,
        proxied: ProxiedFlows<'_>,
    ) -> BTreeMap<ListenerId, PathReport> {
        if let Ok(host) = Host::read() {
            self.host = host;
        }
        self.update_terms(config, proxied);
        self.taken = plan::own_sockets(config);
        let mut plan = plan(config, endpoints, &self.host, &self.taken);
        for (id, planned) in &mut plan {
            if !matches!(bound.listeners.get(id), Some(ListenerReport::Bound)) {
                *planned = Err("its port is not bound".to_owned());
            }
        }
        self.note_leaving(config);
        if self.drain.is_some() || plan == self.plan {
            self.end_orphans(endpoints, |_| true);
            return self.report();
        }
        self.refuse();
        let ruleset = Ruleset::of(carried(&plan));
        let newcomers = self.newcomers(&plan);
        let flows = if newcomers.is_empty() { Vec::new() } else { proxied(&newcomers) };
        // Sessions are known before what tells whose they are changes.
        self.watch.observer.with(|sessions| {
            let directory = self.directory(&plan, sessions);
            sessions.set_directory(directory);
        });
        if let Err(error) = self.program_or_rebuild(&ruleset, &flows) {
            tracing::error!(%error, "nftables refuses the rules, the proxy carries every listener");
            for planned in plan.values_mut().filter(|planned| planned.is_ok()) {
                *planned = Err(format!("nftables refuses its rules: {error}"));
            }
        }
        self.plan = plan;
        self.count_refused();
        self.end_orphans(endpoints, |_| true);
        self.report()
    }

    /// The same where only `changed` backends have other endpoints than before, among all
    /// `endpoints`. `None` if every listener stays with whom it is.
    pub fn update_endpoints(
        &mut self,
        config: &Config,
        endpoints: &EndpointTable,
        changed: &EndpointTable,
        bound: &ApplyReport,
        proxied: ProxiedFlows<'_>,
    ) -> Option<BTreeMap<ListenerId, PathReport>> {
        let Some(moved) = self.only_moved(config, endpoints, changed) else {
            return Some(self.apply(config, endpoints, bound, proxied));
        };
        if !moved.is_empty()
            && let Err(error) = self.move_endpoints(moved)
        {
            tracing::warn!(%error, "nftables refuses a change of endpoints");
            return Some(self.apply(config, endpoints, bound, proxied));
        }
        self.end_orphans(endpoints, |backend| changed.0.contains_key(backend));
        None
    }

    /// The listeners that get other endpoints, if nothing else becomes of any.
    fn only_moved(
        &self,
        config: &Config,
        endpoints: &EndpointTable,
        changed: &EndpointTable,
    ) -> Option<Vec<Carried>> {
        if self.drain.is_some() || self.terms_of(config) != self.terms {
            return None;
        }
        let is_concerned = |listener: &&Listener| {
            let targets = listener.route.iter().flat_map(|route| &route.targets);
            targets.filter_map(|target| target.target.backend()).any(|b| changed.0.contains_key(b))
        };
        let mut moved = Vec::new();
        for listener in config.listeners().filter(is_concerned) {
            let now = plan::carry(listener, endpoints, &self.host, &self.taken);
            match (self.plan.get(&listener.id)?, now) {
                (Ok(before), Ok(now)) if before.without_endpoints() == now.without_endpoints() => {
                    moved.push(now);
                }
                (Err(before), Err(now)) if *before == now => {}
                _ => return None,
            }
        }
        Some(moved)
    }

    fn move_endpoints(&mut self, moved: Vec<Carried>) -> io::Result<()> {
        self.watch.observer.with(|sessions| {
            for carried in &moved {
                let counts = self.counts(carried, sessions);
                for local in &carried.locals {
                    sessions.set_endpoints(carried.transport, *local, counts.iter().cloned());
                }
            }
        });
        let to = Ruleset::of(moved.iter());
        let mut transaction = Transaction::new(TABLE);
        ruleset::change(&mut transaction, self.terms, &self.ruleset.part(&to), &to);
        if !transaction.is_empty() {
            transaction.commit(&mut self.socket)?;
        }
        self.ruleset.put(to);
        for carried in moved {
            self.plan.insert(carried.listener.clone(), Ok(carried));
        }
        Ok(())
    }

    /// Looks whether the host's addresses have changed, or whether anybody listens, and ends what
    /// has had its time. Whether [`apply`](Self::apply) would do something else now.
    pub fn tick(&mut self) -> bool {
        self.lock.answer();
        self.refuse();
        let now = Instant::now();
        let due: BTreeSet<_> = self
            .leaving
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(id, _)| id.clone())
            .collect();
        if !due.is_empty() {
            self.leaving.retain(|id, _| !due.contains(id));
            self.end(|session| {
                due.contains(session.listener).then_some(CloseReason::ListenerRemoved)
            });
        }
        let events = events_for(&self.tap).mask;
        let events_changed = self.drain.is_none() && events != self.terms.events;
        events_changed || Host::read().is_ok_and(|host| host != self.host)
    }

    /// What counts its sessions, for whoever reads counters.
    pub fn observer(&self) -> Observer {
        self.watch.observer.clone()
    }

    /// Carries no new sessions any more. Those there are may go on for that long.
    pub fn drain(&mut self, within: Duration) {
        let now = Instant::now();
        self.drain = Some(Drain { until: now + within, look: now });
        self.refuse();
        if let Err(error) = self.program(&Ruleset::default(), &[]) {
            tracing::error!(%error, "nftables refuses to remove the rules");
        }
    }

    /// Whether after [`drain`](Self::drain) no session is left, or none may go on any longer.
    pub fn is_drained(&mut self) -> bool {
        let (now, observer) = (Instant::now(), &self.watch.observer);
        match &mut self.drain {
            Some(drain) if drain.until <= now => true,
            Some(drain) if drain.look <= now => {
                drain.look = now + DRAIN_LOOK;
                observer.with(|sessions| sessions.active()) == 0
            }
            _ => false,
        }
    }

    fn report(&self) -> BTreeMap<ListenerId, PathReport> {
        let report = |planned: &Result<Carried, String>| match planned {
            Ok(_) => PathReport::Kernel,
            Err(why) => PathReport::Proxy(why.clone()),
        };
        self.plan.iter().map(|(id, planned)| (id.clone(), report(planned))).collect()
    }

    /// The UDP listeners that the kernel is to carry and hasn't.
    fn newcomers(&self, plan: &Plan) -> Vec<ListenerId> {
        let is_new = |now: &&Carried| {
            let before = self.plan.get(&now.listener).and_then(|planned| planned.as_ref().ok());
            now.transport == Transport::Udp
                && before.is_none_or(|before| before.locals != now.locals)
        };
        carried(plan).filter(is_new).map(|carried| carried.listener.clone()).collect()
    }

    fn directory(&self, plan: &Plan, sessions: &mut Sessions) -> Directory {
        let mut directory = Directory::default();
        for carried in carried(plan) {
            for counts in self.counts(carried, sessions) {
                for local in &carried.locals {
                    directory.insert(carried.transport, *local, counts.clone());
                }
            }
        }
        directory
    }

    /// What counts the sessions of a listener, for each endpoint.
    fn counts(&self, carried: &Carried, sessions: &mut Sessions) -> Vec<Counts> {
        let mut counts = Vec::new();
        for (backend, endpoints) in carried.backends() {
            let row = self.row(carried, Some(backend));
            for endpoint in endpoints {
                let endpoint = sessions.endpoint(&row, *endpoint);
                counts.push(Counts { row: row.clone(), endpoint });
            }
        }
        counts
    }

    fn row(&self, carried: &Carried, backend: Option<&BackendId>) -> Arc<Row> {
        let labels = Labels {
            transport: carried.transport,
            listener: carried.listener.clone(),
            route: Some(carried.route.clone()),
            backend: backend.cloned(),
        };
        self.counters.row(labels, Writer::Kernel)
    }

    /// Makes the rules those of `ruleset`; these flows stay with the proxy.
    fn program(&mut self, ruleset: &Ruleset, flows: &[(SocketAddr, SocketAddr)]) -> io::Result<()> {
        let mut transaction = Transaction::new(TABLE);
        ruleset::keep_proxied(&mut transaction, self.terms, flows);
        ruleset::change(&mut transaction, self.terms, &self.ruleset, ruleset);
        if !transaction.is_empty() {
            transaction.commit(&mut self.socket)?;
        }
        self.ruleset = ruleset.clone();
        Ok(())
    }

    /// The same, in a table made anew if the one that there was isn't as it should be. If that fails,
    /// too, no rule is left.
    fn program_or_rebuild(
        &mut self,
        ruleset: &Ruleset,
        flows: &[(SocketAddr, SocketAddr)],
    ) -> io::Result<()> {
        let Err(error) = self.program(ruleset, flows) else { return Ok(()) };
        self.rebuild(&error, ruleset, flows)
    }

    /// Makes the rules those of `ruleset` in a table made anew, after this error.
    fn rebuild(
        &mut self,
        error: &io::Error,
        ruleset: &Ruleset,
        flows: &[(SocketAddr, SocketAddr)],
    ) -> io::Result<()> {
        tracing::warn!(%error, "nftables refuses a change of the rules, they are made anew");
        create(&mut self.socket, self.terms)?;
        self.timeouts = [self.terms.udp_seconds()].into();
        self.ruleset = Ruleset::default();
        // Its counters begin anew.
        self.refused.clear();
        self.program(ruleset, flows)
    }

    /// What rules go by with this configuration.
    fn terms_of(&self, config: &Config) -> Terms {
        Terms {
            udp_timeout: config.terms().udp_session_timeout,
            events: events_for(&self.tap).mask,
            ..self.terms
        }
    }

    /// Has the rules that there are go by the terms of `config`, if those are others than before.
    fn update_terms(&mut self, config: &Config, proxied: ProxiedFlows<'_>) {
        let terms = self.terms_of(config);
        if terms == self.terms || self.drain.is_some() {
            return;
        }
        if let Err(error) = self.watch.observer.subscribe(events_for(&self.tap)) {
            tracing::error!(%error, "conntrack's events can't be subscribed to");
        }
        self.terms = terms;
        let is_udp = |carried: &&Carried| carried.transport == Transport::Udp;
        let listeners = carried(&self.plan).filter(is_udp);
        let flows = proxied(&listeners.map(|carried| carried.listener.clone()).collect::<Vec<_>>());
        let is_new = self.timeouts.insert(terms.udp_seconds());
        let mut transaction = Transaction::new(TABLE);
        ruleset::change_terms(&mut transaction, terms, is_new, &self.ruleset, &flows);
        let Err(error) = transaction.commit(&mut self.socket) else { return };
        self.refuse();
        let ruleset = self.ruleset.clone();
        match self.rebuild(&error, &ruleset, &flows) {
            Ok(()) => self.count_refused(),
            Err(error) => {
                tracing::error!(%error, "nftables refuses the rules on other terms");
                // What is planned next is new, and tried.
                self.ruleset = Ruleset::default();
                self.plan.clear();
            }
        }
    }

    /// Notes the rows of sessions that are refused.
    fn count_refused(&mut self) {
        let mut refused = HashMap::new();
        for carried in carried(&self.plan) {
            for share in &carried.shares {
                let Goes::Refused(reason) = share.goes else { continue };
                let name = ruleset::refused_counter(carried, reason);
                let counted = self.refused.get(&name).map_or(0, |(_, _, counted)| *counted);
                refused.insert(name, (self.row(carried, None), reason, counted));
            }
        }
        self.refused = refused;
    }

    /// Counts the sessions that were refused since the last time.
    fn refuse(&mut self) {
        if self.refused.is_empty() {
            return;
        }
        let refused = &mut self.refused;
        let read = nftables::counters(&mut self.socket, TABLE, |name, packets| {
            if let Some((row, reason, counted)) = refused.get_mut(name) {
                row.refuse(*reason, packets.saturating_sub(*counted));
                *counted = packets;
            }
        });
        if let Err(error) = read {
            tracing::error!(%error, "nftables' counters can't be read");
        }
    }

    /// Notes which listeners are gone, and which are back.
    fn note_leaving(&mut self, config: &Config) {
        let until = Instant::now() + self.drain_deadline;
        // Those that the proxy carries now may have sessions from when the kernel did.
        for id in self.plan.keys() {
            if config.listener(id).is_none() {
                self.leaving.entry(id.clone()).or_insert(until);
            }
        }
        self.leaving.retain(|id, _| config.listener(id).is_none());
    }

    /// Ends UDP sessions with endpoints that the backends that are meant don't have any more: what
    /// clients send goes to others from now on.
    fn end_orphans(&self, endpoints: &EndpointTable, is_meant: impl Fn(&BackendId) -> bool) {
        let is_orphan = |session: &SessionView<'_>| {
            let is_concerned =
                |backend: &&BackendId| session.transport == Transport::Udp && is_meant(backend);
            let Some(backend) = session.backend.filter(is_concerned) else { return false };
            let all = endpoints.0.get(backend).map_or(&[][..], |endpoints| endpoints);
            !all.iter().any(|endpoint| is_at(endpoint, session.endpoint))
        };
        if self.watch.observer.known(|sessions| sessions.any(is_orphan)) {
            self.end(|session| is_orphan(session).then_some(CloseReason::EndpointRemoved));
        }
    }

    fn end(&self, reason: impl Fn(&SessionView<'_>) -> Option<CloseReason>) {
        if let Err(error) = self.watch.observer.with(|sessions| sessions.end(reason)) {
            tracing::error!(%error, "conntrack can't be told to end sessions");
        }
    }
}

impl Drop for KernelPath {
    fn drop(&mut self) {
        let reason = match self.drain {
            Some(_) => CloseReason::Drained,
            None => CloseReason::Shutdown,
        };
        self.refuse();
        delete(&mut self.socket);
        self.end(|_| Some(reason));
        // Takes the events of what was just ended; whoever still reads counters keeps no log open.
        self.watch.observer.with(Sessions::stop_telling);
    }
}

/// The events that are wanted: the ends of flows are enough for counting.
fn events_for(tap: &Tap) -> Events {
    if tap.is_open() { conntrack::ALL } else { conntrack::ENDS }
}

/// The listeners of a plan that the kernel carries.
fn carried(plan: &Plan) -> impl Iterator<Item = &Carried> {
    plan.values().filter_map(|planned| planned.as_ref().ok())
}

fn is_at(endpoint: &Endpoint, address: SocketAddr) -> bool {
    match &endpoint.address {
        EndpointAddress::Ip(ip) => SocketAddr::new(ip.ip().to_canonical(), ip.port()) == address,
        EndpointAddress::Unix(_) => false,
    }
}

/// Makes the table, owned by this process if the kernel knows how.
fn create(socket: &mut Socket, terms: Terms) -> io::Result<()> {
    let mut make = |ownership| {
        let mut transaction = Transaction::new(TABLE);
        ruleset::create(&mut transaction, ownership, terms);
        transaction.commit(socket)
    };
    match make(Ownership::Exclusive) {
        Err(error) if is_unknown(&error) => make(Ownership::Shared),
        made => made,
    }
}

/// Whether an error may mean that the kernel is too old for what was asked.
fn is_unknown(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::INVAL))
}

fn delete(socket: &mut Socket) {
    let mut transaction = Transaction::new(TABLE);
    transaction.delete_table();
    if let Err(error) = transaction.commit(socket) {
        tracing::error!(%error, "nftables refuses to remove table inet {TABLE}");
    }
}

/// Switches something on for this network namespace.
fn switch_on(path: &str) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    if fs::read_to_string(path).map_err(named)?.trim() != "0" {
        return Ok(());
    }
    fs::write(path, "1").map_err(named)
}
