//! TCP sessions of one worker.

mod accept;
mod connect;
mod guest;
mod memory;
mod peers;
mod pump;
mod relay;
mod room;
mod session;
mod side;
mod tls;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use l4way_proxy_core::{Seldom, TimerId, Timers};

pub(crate) use self::{
    accept::Accepted,
    peers::{Peers, Ring},
};
use self::{
    accept::{ListenSocket, Shortage},
    guest::Guest,
    memory::Held,
    session::{Session, Step},
    side::Io,
};
use crate::{
    context::{Context, earlier},
    poll::{Readiness, SlotId},
    routes::{ListenerKey, Route},
    slab::Slab,
    tls::TlsTable,
};
use l4way_session::CloseReason;

/// How long a session waits for a place in an endpoint's full queue before it looks again.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// The TCP listeners and sessions of one worker.
#[derive(Debug)]
pub(crate) struct Tcp {
    listeners: HashMap<ListenerKey, Listener>,
    /// The timers of listeners that are gone, see [`Due::Listener`].
    leaving: HashMap<ListenerKey, TimerId>,
    /// By the number in their tokens.
    sockets: Vec<Option<ListenSocket>>,
    /// When accepting is tried again.
    paused_until: Option<Instant>,
    /// What it lacked at the last try.
    shortage: Option<Shortage>,
    /// That the session limit is reached, that clients make room there, and that the system is short of
    /// something.
    limit_told: Seldom,
    room_told: Seldom,
    shortage_told: Seldom,
    /// Connections wait for want of room, and this worker's own clients are to stay.
    wants_room: bool,
    /// When others were last asked for room.
    asked: Option<Instant>,
    peers: Peers,
    connections: Slab<Connection>,
    /// The clients that aren't in a session yet, in the order in which they came, and some that were.
    guests: VecDeque<SlotId>,
    /// The sessions whose client had not been heard when they began, in that order, and some that have
    /// ended.
    unheard: VecDeque<SlotId>,
    /// Sessions that make room though they were used, the last of them first, and when they were chosen.
    victims: Vec<SlotId>,
    chosen: Option<Instant>,
    /// Sessions that used up their turn with work left.
    unfinished: Vec<SlotId>,
    timers: Timers<Due>,
    io: Io,
    held: Held,
}

/// What has sockets of its own.
#[derive(Debug)]
enum Listener {
    /// A TCP listener, with its route.
    Route(Route),
    /// The listeners of a port that are told apart by server name.
    Tls(Box<TlsTable>),
}

/// A connection from a client.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are sessions, and a box would cost each an allocation"
)]
enum Connection {
    /// Before it is known where it goes.
    Guest(Box<Guest>),
    /// With the one to an endpoint.
    Session(Session),
}

impl Connection {
    /// Whether it came through this listener.
    fn is_of(&self, listener: ListenerKey) -> bool {
        match self {
            Self::Guest(guest) => guest.is_of(listener),
            Self::Session(session) => session.is_of(listener),
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// The session's connection attempt is given up; or, if it succeeded, the session has become
    /// old enough for keepalive to be worth its system calls.
    Connect(SlotId),
    /// The session connects again to an endpoint whose queue was full.
    ConnectAgain(SlotId),
    /// The client's handshake is given up.
    Handshake(SlotId),
    /// The sessions of a listener that was removed are reset.
    Listener(ListenerKey),
}

impl Tcp {
    pub(crate) fn new(now: Instant, peers: Peers) -> Self {
        Self {
            listeners: HashMap::new(),
            leaving: HashMap::new(),
            sockets: Vec::new(),
            paused_until: None,
            shortage: None,
            limit_told: Seldom::default(),
            room_told: Seldom::default(),
            shortage_told: Seldom::default(),
            wants_room: false,
            asked: None,
            peers,
            connections: Slab::new(),
            guests: VecDeque::new(),
            unheard: VecDeque::new(),
            victims: Vec::new(),
            chosen: None,
            unfinished: Vec::new(),
            timers: Timers::new(now),
            io: Io::default(),
            held: Held::default(),
        }
    }

    /// Adds a listener without sockets, or changes its route.
    pub(crate) fn set_route(&mut self, key: ListenerKey, route: Route) {
        self.listeners.insert(key, Listener::Route(route));
    }

    /// Adds a port of TLS listeners without sockets, or changes them.
    pub(crate) fn set_tls(&mut self, key: ListenerKey, table: Box<TlsTable>) {
        self.listeners.insert(key, Listener::Tls(table));
    }

    /// The listener has no sockets any more; what it has of sessions may go on until `deadline`.
    pub(crate) fn remove_listener(&mut self, key: ListenerKey, deadline: Instant) {
        let timer = self.timers.schedule(deadline, Due::Listener(key));
        self.leaving.insert(key, timer);
    }

    /// The listener is back before the deadline: its sessions go on. If the deadline has passed
    /// meanwhile, they have ended.
    pub(crate) fn keep_listener(&mut self, key: ListenerKey) {
        if let Some(timer) = self.leaving.remove(&key) {
            self.timers.cancel(timer);
        }
    }

    /// The client's side of a session is ready.
    pub(crate) fn on_downstream(&mut self, ctx: &mut Context, id: SlotId, ready: Readiness) {
        if let Some(Connection::Guest(_)) = self.connections.get_mut(id) {
            return self.on_guest(ctx, id, ready);
        }
        self.step(ctx, id, |session, ctx, io| session.on_downstream(ctx, io, ready));
    }

    /// The endpoint's side of a session is ready.
    pub(crate) fn on_upstream(&mut self, ctx: &mut Context, id: SlotId, ready: Readiness) {
        self.step(ctx, id, |session, ctx, io| session.on_upstream(ctx, io, ready));
    }

    /// Lets a session take a step, and does what it asks for then.
    fn step(
        &mut self,
        ctx: &mut Context,
        id: SlotId,
        step: impl FnOnce(&mut Session, &mut Context, &mut Io) -> Step,
    ) {
        let Some(Connection::Session(session)) = self.connections.get_mut(id) else { return };
        match step(session, ctx, &mut self.io) {
            Step::Wait => {}
            Step::GoOn if session.unfinished => {}
            Step::GoOn => {
                session.unfinished = true;
                self.unfinished.push(id);
            }
            Step::Retry => {
                self.timers.cancel(session.timer);
                session.timer =
                    self.timers.schedule(ctx.now + ctx.terms.connect_timeout, Due::Connect(id));
            }
            Step::Later => {
                self.timers.schedule(ctx.now + FULL_QUEUE_PAUSE, Due::ConnectAgain(id));
            }
            Step::End(reason) => self.end(ctx, id, reason),
            Step::Starve(error) => {
                self.end(ctx, id, CloseReason::OutOfResources);
                // The next one would meet the same.
                self.pause_for(ctx, error);
            }
        }
    }

    fn end(&mut self, ctx: &mut Context, id: SlotId, reason: CloseReason) {
        match self.connections.remove(id) {
            None => return,
            Some(Connection::Guest(guest)) => self.dismiss(ctx, *guest, reason),
            Some(Connection::Session(session)) => {
                self.timers.cancel(session.timer);
                session.end(ctx, &mut self.io, reason);
            }
        }
        self.resume_at_limit();
    }

    fn end_where(
        &mut self,
        ctx: &mut Context,
        reason: CloseReason,
        wanted: impl Fn(&Connection) -> bool,
    ) {
        for id in self.connections.ids(wanted) {
            self.end(ctx, id, reason);
        }
    }

    /// Resets every session.
    pub(crate) fn end_all(&mut self, ctx: &mut Context, reason: CloseReason) {
        self.end_where(ctx, reason, |_| true);
    }

    /// How many sessions there are, and clients that may begin one.
    pub(crate) fn sessions(&self) -> usize {
        self.connections.len()
    }

    /// When [`on_tick`](Self::on_tick) has something to do.
    pub(crate) fn next_tick(&self, ctx: &Context) -> Option<Instant> {
        if !self.unfinished.is_empty() || self.can_accept_now() {
            return Some(ctx.now);
        }
        earlier(earlier(self.timers.next_due(), self.paused_until), self.held.next_look())
    }

    /// Does what is due at `ctx.now`, and goes on with what this turn has left over.
    pub(crate) fn on_tick(&mut self, ctx: &mut Context) {
        while let Some(due) = self.timers.pop(ctx.now) {
            match due {
                Due::Connect(id) => self.step(ctx, id, Session::on_timeout),
                Due::ConnectAgain(id) => self.step(ctx, id, Session::connect_again),
                Due::Handshake(id) => self.on_guest_timeout(ctx, id),
                Due::Listener(key) => {
                    self.end_where(ctx, CloseReason::ListenerRemoved, |connection| {
                        connection.is_of(key)
                    });
                    self.listeners.remove(&key);
                    self.leaving.remove(&key);
                }
            }
        }
        for id in std::mem::take(&mut self.unfinished) {
            self.step(ctx, id, |session, ctx, io| {
                session.unfinished = false;
                session.relay(ctx, io)
            });
        }
        if self.paused_until.is_some_and(|until| until <= ctx.now) {
            self.paused_until = None;
        }
        if self.can_accept_now() {
            self.accept_waiting(ctx);
        }
        self.account(ctx);
    }
}
