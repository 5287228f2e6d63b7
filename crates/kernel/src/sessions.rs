//! The sessions that the kernel carries, from what conntrack tells of flows: counted in the rows that
//! the proxy's sessions have, and recorded as they are.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use l4way_model::{BackendId, EndpointAddress, ListenerId, Transport};
use l4way_session::{CloseReason, Labels, Row, SessionRecord, SessionStart, Tap, Toward, Verdict};

use crate::{
    conntrack::{self, Carried, Flow, FlowKey, State, Told},
    netlink::Socket,
};

/// What an IP header takes, without options, and a TCP header with timestamps (RFC 7323), as Linux
/// sends them; a SYN has 8 bytes of options more.
const IPV4: u64 = 20;
const IPV6: u64 = 40;
const TCP: u64 = 32;
const MORE_IN_SYN: u64 = 8;
const UDP: u64 = 8;

/// What counts a flow, by whom the client wrote to and where the flow goes.
#[derive(Debug, Default)]
pub(crate) struct Directory(HashMap<(Transport, SocketAddr), HashMap<SocketAddr, Counts>>);

/// What counts a flow.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) row: Arc<Row>,
    pub(crate) endpoint: Arc<EndpointRow>,
}

/// Counts the sessions of one listener, route and backend that go to one endpoint.
#[derive(Debug)]
pub struct EndpointRow {
    /// The listener, route and backend.
    pub labels: Arc<Labels>,
    /// The endpoint.
    pub endpoint: SocketAddr,
    opened: AtomicU64,
    ended: AtomicU64,
    bytes: [AtomicU64; 2],
}

impl EndpointRow {
    pub(crate) fn new(labels: Arc<Labels>, endpoint: SocketAddr) -> Self {
        let (opened, ended, bytes) = Default::default();
        Self { labels, endpoint, opened, ended, bytes }
    }

    /// Sessions begun.
    pub fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Sessions there are.
    pub fn active(&self) -> u64 {
        let ended = self.ended.load(Relaxed);
        self.opened().saturating_sub(ended)
    }

    /// Payload bytes to the endpoint, and from it.
    pub fn bytes(&self) -> [u64; 2] {
        [0, 1].map(|index: usize| self.bytes[index].load(Relaxed))
    }
}

impl Directory {
    pub(crate) fn insert(&mut self, transport: Transport, local: SocketAddr, counts: Counts) {
        let endpoint = counts.endpoint.endpoint;
        self.0.entry((transport, local)).or_default().insert(endpoint, counts);
    }

    fn find(&self, flow: &Flow) -> Option<&Counts> {
        self.0.get(&(flow.key.transport, flow.key.local))?.get(&flow.endpoint)
    }
}

/// What is counted beside rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Times that the kernel had events and no room for them.
    pub lost_events: u64,
    /// Session records that the sink had no room for.
    pub records_dropped: u64,
}

/// All sessions that the kernel carries.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// For questions; events have another one.
    socket: Socket,
    directory: Directory,
    sessions: HashMap<FlowKey, Session>,
    /// What counts sessions of endpoints, current ones and those that sessions are left of.
    endpoints: BTreeMap<(Arc<Labels>, SocketAddr), Arc<EndpointRow>>,
    tap: Tap,
    /// TCP connections that have ended, and whose last counts are to be asked for.
    ended: Vec<FlowKey>,
    /// Counts the times that all flows were looked at.
    look: u64,
    pub(crate) totals: Totals,
}

#[derive(Debug)]
struct Session {
    counts: Counts,
    began: SystemTime,
    /// Whether the kernel has told when it began.
    began_is_told: bool,
    state: State,
    counted: [Carried; 2],
    /// It has been counted as ended; the kernel still knows the flow.
    is_over: bool,
    /// When it was last seen, as [`Sessions::look`] counts.
    seen: u64,
    /// Why it is about to end, if that is our doing.
    reason: Option<CloseReason>,
}

impl Sessions {
    pub(crate) fn new(socket: Socket, tap: Tap) -> Self {
        Self {
            socket,
            directory: Directory::default(),
            sessions: HashMap::new(),
            endpoints: BTreeMap::new(),
            tap,
            ended: Vec::new(),
            look: 0,
            totals: Totals::default(),
        }
    }

    /// Takes what has happened, and learns what there is; forgets what isn't there any more.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn look(&mut self, events: &mut Socket) -> io::Result<()> {
        self.look += 1;
        let mut flows = Vec::new();
        conntrack::dump(&mut self.socket, |flow| flows.push(flow))?;
        for flow in flows {
            self.observe(Told::Is, flow);
        }
        // A flow that the dump hasn't is told of by an event, unless that was lost.
        self.take(events)?;
        let look = self.look;
        let is_gone = |session: &Session| session.seen < look;
        let gone: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| is_gone(session))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.lose(key);
        }
        Ok(())
    }

    /// Takes the events that have come.
    ///
    /// # Errors
    /// If events can't be read.
    pub(crate) fn take(&mut self, events: &mut Socket) -> io::Result<()> {
        loop {
            match events.receive(&mut |received| {
                if let Some((told, flow)) = conntrack::read(received) {
                    self.observe(told, flow);
                }
            }) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if is_loss(&error) => self.totals.lost_events += 1,
                Err(error) => return Err(error),
            }
        }
        self.ask_for_last_counts()
    }

    /// Goes by another directory from now on. Sessions that there are stay in their rows.
    pub(crate) fn set_directory(&mut self, directory: Directory) {
        self.directory = directory;
        self.endpoints.retain(|_, row| Arc::strong_count(row) > 1);
    }

    /// Goes by these endpoints from now on for clients that write to an address.
    pub(crate) fn set_endpoints(
        &mut self,
        transport: Transport,
        local: SocketAddr,
        endpoints: impl Iterator<Item = Counts>,
    ) {
        let now = endpoints.map(|counts| (counts.endpoint.endpoint, counts)).collect();
        let before = self.directory.0.insert((transport, local), now).unwrap_or_default();
        for (endpoint, counts) in before {
            let key = (counts.row.labels().clone(), endpoint);
            drop(counts);
            if self.endpoints.get(&key).is_some_and(|row| Arc::strong_count(row) == 1) {
                self.endpoints.remove(&key);
            }
        }
    }

    /// What counts the sessions of a row that go to an endpoint.
    pub(crate) fn endpoint(&mut self, row: &Row, endpoint: SocketAddr) -> Arc<EndpointRow> {
        let labels = row.labels();
        let new = || Arc::new(EndpointRow::new(labels.clone(), endpoint));
        self.endpoints.entry((labels.clone(), endpoint)).or_insert_with(new).clone()
    }

    /// All that counts sessions of endpoints.
    pub(crate) fn endpoints(&self) -> Vec<Arc<EndpointRow>> {
        self.endpoints.values().cloned().collect()
    }

    /// Tells nobody of sessions any more.
    pub(crate) fn stop_telling(&mut self) {
        self.tap = Tap::default();
    }

    /// How many sessions there are.
    pub(crate) fn active(&self) -> usize {
        self.sessions.values().filter(|session| !session.is_over).count()
    }

    /// Whether there is a session like that.
    pub(crate) fn any(&self, is_it: impl Fn(&SessionView<'_>) -> bool) -> bool {
        self.sessions.iter().any(|(key, session)| !session.is_over && is_it(&session.view(*key)))
    }

    /// Ends the sessions that `reason` has one for, by having the kernel forget their flows.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn end(
        &mut self,
        reason: impl Fn(&SessionView<'_>) -> Option<CloseReason>,
    ) -> io::Result<()> {
        let mut keys = Vec::new();
        for (key, session) in &mut self.sessions {
            if let Some(reason) = reason(&session.view(*key)) {
                session.reason = Some(reason);
                keys.push(*key);
            }
        }
        conntrack::delete(&mut self.socket, keys.into_iter())
    }

    /// One thing that the kernel told.
    fn observe(&mut self, told: Told, flow: Flow) {
        let key = flow.key;
        let is_another = self.sessions.get(&key).is_some_and(|session| {
            session.endpoint() != flow.endpoint
                || session.began_is_told && flow.began.is_some_and(|began| began != session.began)
        });
        if is_another {
            self.lose(key);
        }
        if !self.sessions.contains_key(&key) {
            let Some(counts) = self.directory.find(&flow) else { return };
            counts.row.open();
            counts.endpoint.opened.fetch_add(1, Relaxed);
            let start = || start(&counts.row, key);
            self.tap.begin(start);
            self.tap.decide(|| (start(), Verdict::Forwarded(EndpointAddress::Ip(flow.endpoint))));
            self.sessions.insert(key, Session::new(counts.clone(), &flow));
        }
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.seen = self.look;
        session.count(key, &flow);
        if told == Told::Gone {
            self.close(key, flow.ended);
            self.sessions.remove(&key);
        } else if session.has_ended() && !session.is_over {
            if flow.carried.is_some() {
                self.close(key, None);
            } else {
                self.ended.push(key);
            }
        }
    }

    /// Forgets a session whose end the kernel hasn't told, or not yet.
    fn lose(&mut self, key: FlowKey) {
        self.close(key, None);
        self.sessions.remove(&key);
    }

    fn ask_for_last_counts(&mut self) -> io::Result<()> {
        let keys = std::mem::take(&mut self.ended);
        if keys.is_empty() {
            return Ok(());
        }
        let mut flows = Vec::new();
        conntrack::get(&mut self.socket, keys.into_iter(), |flow| flows.push(flow))?;
        for flow in flows {
            self.observe(Told::Is, flow);
        }
        Ok(())
    }

    /// Counts a session as ended, and records it.
    fn close(&mut self, key: FlowKey, ended: Option<SystemTime>) {
        let Some(session) = self.sessions.get_mut(&key).filter(|session| !session.is_over) else {
            return;
        };
        session.is_over = true;
        let reason = session.reason(key.transport);
        let [_, down] = session.counted;
        if key.transport == Transport::Udp && down.packets == 0 {
            session.counts.row.unanswered();
        }
        session.counts.row.end(reason);
        session.counts.endpoint.ended.fetch_add(1, Relaxed);
        if !self.tap.end(|| session.record(key, reason, ended)) {
            self.totals.records_dropped += 1;
        }
    }
}

/// What tells whether a session is to end.
#[derive(Debug)]
pub(crate) struct SessionView<'a> {
    pub(crate) transport: Transport,
    pub(crate) endpoint: SocketAddr,
    pub(crate) listener: &'a ListenerId,
    pub(crate) backend: Option<&'a BackendId>,
}

impl Session {
    fn new(counts: Counts, flow: &Flow) -> Self {
        Self {
            counts,
            began: flow.began.unwrap_or_else(SystemTime::now),
            began_is_told: flow.began.is_some(),
            state: State::Opening,
            counted: Default::default(),
            is_over: false,
            seen: 0,
            reason: None,
        }
    }

    fn endpoint(&self) -> SocketAddr {
        self.counts.endpoint.endpoint
    }

    fn view(&self, key: FlowKey) -> SessionView<'_> {
        let labels = self.counts.row.labels();
        SessionView {
            transport: key.transport,
            endpoint: self.endpoint(),
            listener: &labels.listener,
            backend: labels.backend.as_ref(),
        }
    }

    /// Counts what was carried since it was last counted.
    fn count(&mut self, key: FlowKey, flow: &Flow) {
        self.state = flow.state.unwrap_or(self.state);
        let Some(carried) = flow.carried.filter(|_| !self.is_over) else { return };
        let before = self.payload(key);
        let packets = self.counted.map(|carried| carried.packets);
        self.counted = carried;
        let after = self.payload(key);
        let grown = |index: usize| after[index].saturating_sub(before[index]);
        for (index, toward) in [(0, Toward::Upstream), (1, Toward::Downstream)] {
            let Counts { row, endpoint } = &self.counts;
            endpoint.bytes[index].fetch_add(grown(index), Relaxed);
            if key.transport == Transport::Udp {
                let datagrams = carried[index].packets.saturating_sub(packets[index]);
                row.add_datagrams(toward, datagrams, grown(index));
            } else {
                row.add_bytes(toward, grown(index));
            }
        }
    }

    /// The payload bytes both ways. conntrack counts whole packets; for TCP, options beside
    /// timestamps are mistaken for payload.
    fn payload(&self, key: FlowKey) -> [u64; 2] {
        let ip = if key.client.is_ipv4() { IPV4 } else { IPV6 };
        self.counted.map(|Carried { packets, bytes }| {
            let headers = match key.transport {
                Transport::Udp => packets * (ip + UDP),
                Transport::Tcp => packets * (ip + TCP) + MORE_IN_SYN,
            };
            bytes.saturating_sub(headers)
        })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Closed | State::Reset)
    }

    fn reason(&self, transport: Transport) -> CloseReason {
        if let Some(reason) = self.reason {
            return reason;
        }
        let [up, down] = self.counted;
        match (transport, self.state) {
            (Transport::Udp, _) => CloseReason::SessionTimeout,
            (_, State::Closed) => CloseReason::Closed,
            // A SYN, and a reset for an answer.
            (_, State::Reset) if up.packets == 1 => CloseReason::ConnectRefused,
            (_, State::Reset) => CloseReason::Reset,
            (_, State::Opening) if down.packets == 0 => CloseReason::ConnectTimeout,
            (_, State::Opening | State::Open) => CloseReason::Unknown,
        }
    }

    fn record(
        &self,
        key: FlowKey,
        reason: CloseReason,
        ended: Option<SystemTime>,
    ) -> SessionRecord {
        let [bytes_upstream, bytes_downstream] = self.payload(key);
        let datagrams = |carried: Carried| match key.transport {
            Transport::Udp => carried.packets,
            Transport::Tcp => 0,
        };
        let [up, down] = self.counted;
        let ended = ended.unwrap_or_else(SystemTime::now);
        let duration = ended.duration_since(self.began).unwrap_or(Duration::ZERO);
        let start = start(&self.counts.row, key);
        SessionRecord {
            endpoint: Some(EndpointAddress::Ip(self.endpoint())),
            attempts: 1,
            bytes_upstream,
            bytes_downstream,
            datagrams_upstream: datagrams(up),
            datagrams_downstream: datagrams(down),
            ..SessionRecord::new(start, Some(self.began), duration, reason)
        }
    }
}

/// Start of a session that is counted in this row.
fn start(row: &Row, key: FlowKey) -> SessionStart {
    SessionStart { labels: row.labels().clone(), downstream: key.client, local: key.local }
}

/// Whether events were lost, as there were too many.
fn is_loss(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NOBUFS)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use l4way_model::GatewayId;
    use l4way_session::{RowSnapshot, SessionCounters, Writer};

    use super::*;

    const CLIENT: &str = "192.0.2.1:1000";
    const LOCAL: &str = "192.0.2.2:7000";
    const ENDPOINT: &str = "198.51.100.2:6000";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    struct Fixture {
        sessions: Sessions,
        counters: SessionCounters,
        records: mpsc::Receiver<SessionRecord>,
    }

    impl Fixture {
        fn new(transport: Transport) -> Self {
            let (sender, records) = mpsc::sync_channel(16);
            let counters = SessionCounters::new(1);
            let gateway = GatewayId::new("ns", "gw");
            let listener = ListenerId { gateway, listener_set: None, name: "l".into() };
            let labels = Labels { transport, listener, route: None, backend: None };
            let row = counters.row(labels, Writer::Kernel);
            let mut sessions = Sessions::new(Socket::open(0).unwrap(), Tap::to(sender));
            let endpoint = sessions.endpoint(&row, address(ENDPOINT));
            let mut directory = Directory::default();
            directory.insert(transport, address(LOCAL), Counts { row, endpoint });
            sessions.set_directory(directory);
            Self { sessions, counters, records }
        }

        fn row(&self) -> RowSnapshot {
            self.counters.snapshot().rows.remove(0)
        }
    }

    fn flow(transport: Transport, state: Option<State>, packets: [u64; 2]) -> Flow {
        let (client, local) = (address(CLIENT), address(LOCAL));
        Flow {
            key: FlowKey { transport, client, local },
            endpoint: address(ENDPOINT),
            carried: Some(packets.map(|packets| Carried { packets, bytes: packets * 100 })),
            state,
            began: None,
            ended: None,
        }
    }

    #[test]
    fn a_flow_is_counted_once_however_often_it_is_told() {
        let mut fixture = Fixture::new(Transport::Udp);
        for packets in [[1, 0], [3, 2], [3, 2]] {
            fixture.sessions.observe(Told::Is, flow(Transport::Udp, None, packets));
        }
        fixture.sessions.observe(Told::Gone, flow(Transport::Udp, None, [4, 2]));
        let row = fixture.row();
        assert_eq!((row.opened, row.active()), (1, 0));
        assert_eq!((row.datagrams_upstream, row.datagrams_downstream), (4, 2));
        assert_eq!((row.bytes_upstream, row.bytes_downstream), (4 * 72, 2 * 72));
        assert!(row.ended().eq([(CloseReason::SessionTimeout, 1)]));
        let record = fixture.records.try_recv().unwrap();
        assert_eq!((record.bytes_upstream, record.datagrams_upstream), (4 * 72, 4));
        assert!(fixture.records.try_recv().is_err());
    }

    #[test]
    fn connections_end_as_their_last_state_tells() {
        for (state, packets, reason) in [
            (State::Closed, [6, 5], CloseReason::Closed),
            (State::Reset, [1, 1], CloseReason::ConnectRefused),
            (State::Reset, [4, 4], CloseReason::Reset),
            (State::Opening, [3, 0], CloseReason::ConnectTimeout),
            (State::Open, [4, 4], CloseReason::Unknown),
        ] {
            let mut fixture = Fixture::new(Transport::Tcp);
            fixture.sessions.observe(Told::Gone, flow(Transport::Tcp, Some(state), packets));
            assert!(fixture.row().ended().eq([(reason, 1)]), "{state:?}");
        }
    }

    /// conntrack keeps a closed connection for two minutes.
    #[test]
    fn a_closed_connection_is_over_while_the_kernel_still_knows_it() {
        let mut fixture = Fixture::new(Transport::Tcp);
        let closed = flow(Transport::Tcp, Some(State::Closed), [6, 5]);
        fixture.sessions.observe(Told::Is, closed.clone());
        assert_eq!(fixture.sessions.active(), 0);
        fixture.sessions.observe(Told::Is, closed.clone());
        fixture.sessions.observe(Told::Gone, closed);
        assert_eq!(fixture.row().opened, 1);
        assert!(fixture.row().ended().eq([(CloseReason::Closed, 1)]));
    }

    #[test]
    fn a_port_that_is_used_again_is_another_session_though_the_end_of_the_first_was_lost() {
        let mut fixture = Fixture::new(Transport::Tcp);
        for second in [1, 1, 2] {
            let began = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            let open = flow(Transport::Tcp, Some(State::Open), [3, 2]);
            fixture.sessions.observe(Told::Is, Flow { began, ..open });
        }
        assert_eq!((fixture.row().opened, fixture.row().active()), (2, 1));
        assert!(fixture.row().ended().eq([(CloseReason::Unknown, 1)]));
    }

    #[test]
    fn flows_of_others_are_not_ours() {
        let mut fixture = Fixture::new(Transport::Tcp);
        let other = address("198.51.100.9:6000");
        let flow = flow(Transport::Tcp, Some(State::Open), [3, 2]);
        fixture.sessions.observe(Told::Is, Flow { endpoint: other, ..flow });
        assert_eq!(fixture.sessions.active(), 0);
    }
}
