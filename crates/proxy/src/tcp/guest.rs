//! Clients of ports that speak TLS, until it is known where they go: what they begin with, and their
//! handshake where the proxy ends their session.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use l4way_model::ListenerId;
use l4way_proxy_core::{
    Alert, ClientHello, Greeting, GreetingError, MAX_GREETING, TimerId, read_greeting,
};
use l4way_session::CloseReason;
use l4way_tls::{POSTGRESQL, Terminator, handshake_failure, handshake_kind};
use rustix::net::{Shutdown, shutdown};

use super::{
    Connection, Due, Listener, Tcp,
    accept::{Client, ClientTls, pick, refuse},
    session::{Session, reset_on_close},
    side::{Failure, Io, Nodelay, Read, Side},
    tls::Tls,
};
use crate::{
    HttpsClient,
    context::Context,
    poll::{Interest, Readiness, SlotId, Token},
    routes::ListenerKey,
    tls::{Counted, TlsMode, TlsTable},
};

/// How many clients a worker lets get through their handshakes at a time, as a share of the sessions
/// that it may have.
const SHARE: usize = 4;
/// The same at least.
const LEAST: usize = 64;
/// What a client that leaves may still have sent: it is read, so that it sees why it has to leave.
const LEFTOVER: usize = 64 << 10;

/// What a client of MySQL or MariaDB is told, which waits for the server to speak first: an `ERR_Packet`
/// of their protocol, error 1043 (`ER_HANDSHAKE_ERROR`): clients don't take their own numbers, those from
/// 2000 on, from a server.
const TO_MYSQL: &str = "l4way: this port speaks TLS, and the client has to begin. MySQL and MariaDB \
                        have the server begin: use a listener of protocol TCP";
/// What a client of PostgreSQL is told that doesn't ask for TLS.
const TO_POSTGRESQL: &str = "l4way: this port speaks TLS only: use sslmode=require or verify-full";

/// A client that isn't in a session yet.
#[derive(Debug)]
pub(super) struct Guest {
    side: Side,
    client: Client,
    /// What the socket belongs to that it was accepted from.
    port: ListenerKey,
    begun: Instant,
    /// When it was heard last.
    heard: Instant,
    /// When it has to be in a session: a listener may be less patient than its port.
    deadline: Instant,
    timer: TimerId,
    stage: Stage,
    /// What counts it if it doesn't get a session.
    counted: Option<Counted>,
    /// It began with PostgreSQL's SSLRequest.
    postgres: bool,
    /// It asked for GSSAPI encryption before, and was told that there is none.
    refused_gss: bool,
    /// It names no server, and knows how to be told that it has to.
    lacks_name: bool,
    /// What is to tell it why its greeting can't be taken.
    alert: Option<Alert>,
}

/// How far a client has got.
#[derive(Debug)]
enum Stage {
    /// It says what it wants.
    Greeting {
        /// What it has sent.
        bytes: Vec<u8>,
        /// How much it has to send before there is any use in looking at it.
        needed: usize,
    },
    /// It shakes hands with the proxy.
    Handshake {
        /// What it has sent behind its handshake.
        early: Vec<u8>,
    },
}

/// What becomes of a client.
enum Turn {
    /// It has to send more.
    Wait,
    /// It gets a session, which begins with these bytes for the endpoint.
    Begin(Vec<u8>),
    /// It is HTTPS's.
    Https(ListenerId, Terminator, Vec<u8>),
    /// It gets none.
    Refuse(CloseReason),
}

impl Guest {
    /// Whether it came through this listener.
    pub(super) fn is_of(&self, listener: ListenerKey) -> bool {
        self.client.listener == listener
    }

    /// When it was heard last; when it came, if it never was.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// Reads on, as far as what has come lets it.
    fn go_on(&mut self, io: &mut Io, table: &mut TlsTable) -> Turn {
        let turn = match &mut self.stage {
            Stage::Greeting { .. } => match self.read_greeting(io) {
                Ok(Some((hello, bytes))) => self.choose(io, table, &hello, bytes),
                Ok(None) => Ok(Turn::Wait),
                Err(reason) => Err(reason),
            },
            Stage::Handshake { .. } => self.shake_hands(io),
        };
        turn.unwrap_or_else(Turn::Refuse)
    }

    /// Reads what the client begins with, until it is a ClientHello.
    fn read_greeting(
        &mut self,
        io: &mut Io,
    ) -> Result<Option<(ClientHello, Vec<u8>)>, CloseReason> {
        let Self { side, stage, postgres, refused_gss, alert, .. } = self;
        let Stage::Greeting { bytes, needed } = stage else { return Ok(None) };
        while side.readable {
            match side.read(&mut io.received, &mut io.sending, MAX_GREETING) {
                Ok(Read::Bytes(more)) => bytes.extend_from_slice(more),
                Ok(Read::Nothing) => break,
                Ok(Read::End) | Err(_) => return Err(CloseReason::HandshakeAborted),
            }
            if bytes.len() < *needed {
                continue;
            }
            let answer = match read_greeting(bytes) {
                Ok(Greeting::ClientHello(hello)) => {
                    return Ok(Some((hello, std::mem::take(bytes))));
                }
                Ok(Greeting::Incomplete { needed: least }) => {
                    *needed = least;
                    continue;
                }
                Ok(Greeting::SslRequest) if !*postgres => {
                    *postgres = true;
                    b"S"
                }
                Ok(Greeting::GssEncRequest) if !*postgres && !*refused_gss => {
                    *refused_gss = true;
                    b"N"
                }
                Ok(Greeting::SslRequest | Greeting::GssEncRequest) => {
                    return Err(CloseReason::HandshakeFailed);
                }
                Err(error) => {
                    *alert = error.alert();
                    return Err(match error {
                        GreetingError::NotTls => CloseReason::NotTls,
                        _ => CloseReason::HandshakeFailed,
                    });
                }
            };
            bytes.clear();
            *needed = 1;
            // One byte always finds room in the buffer of a connection that has sent nothing else.
            if side.send(answer) != Ok(1) {
                return Err(CloseReason::HandshakeAborted);
            }
        }
        Ok(None)
    }

    /// Finds the listener that the client asks for, and does what it says.
    fn choose(
        &mut self,
        io: &mut Io,
        table: &mut TlsTable,
        hello: &ClientHello,
        bytes: Vec<u8>,
    ) -> Result<Turn, CloseReason> {
        // The alert is one of TLS 1.3.
        self.lacks_name = !hello.names_server && hello.lists_versions;
        let server_name = hello.server_name.clone();
        let tls = ClientTls { server_name, postgres: self.postgres, terminator: None };
        let tls = self.client.tls.insert(Box::new(tls));
        let listener = table.listener(hello).ok_or(CloseReason::UnrecognizedName)?;
        self.client.listener = listener.key;
        self.deadline = self.begun + listener.handshake_timeout;
        self.counted = Some(listener.counted.clone());
        // rustls would first miss an extension that such clients don't know.
        if hello.is_outdated && matches!(listener.mode, TlsMode::Https(..) | TlsMode::Terminate(..))
        {
            self.alert = Some(Alert::ProtocolVersion);
            return Err(CloseReason::HandshakeFailed);
        }
        if let TlsMode::Https(id, terminator) = &listener.mode
            && !self.postgres
        {
            return Ok(Turn::Https(id.clone(), terminator.clone(), bytes));
        }
        listener.route(hello.server_name.as_deref())?;
        let TlsMode::Terminate(terminator, _) = &listener.mode else {
            return Ok(Turn::Begin(bytes));
        };
        tls.terminator = Some(terminator.clone());
        let config = terminator.config(hello.offers(POSTGRESQL)).clone();
        let end = Tls::server(config).map_err(|_| CloseReason::HandshakeFailed)?;
        self.side.tls = Some(Box::new(end));
        self.begin_handshake(io, bytes)
    }

    fn begin_handshake(&mut self, io: &mut Io, hello: Vec<u8>) -> Result<Turn, CloseReason> {
        let Io { received, sending } = io;
        let Some(mut tls) = self.side.tls.take() else { return Ok(Turn::Wait) };
        let begun = tls.begin(&mut self.side, received, sending, hello);
        self.side.tls = Some(tls);
        begun.map_err(|failure| self.reason(failure))?;
        self.stage = Stage::Handshake { early: received.opened.clone() };
        self.shake_hands(io)
    }

    /// Goes on with the handshake.
    fn shake_hands(&mut self, io: &mut Io) -> Result<Turn, CloseReason> {
        loop {
            let Stage::Handshake { early } = &mut self.stage else { return Ok(Turn::Wait) };
            if self.side.tls.as_ref().is_some_and(|tls| !tls.is_handshaking()) {
                return Ok(Turn::Begin(std::mem::take(early)));
            }
            if !self.side.readable {
                let flushed = self.side.flush(&mut io.sending);
                return flushed.map(|_| Turn::Wait).map_err(|failure| self.reason(failure));
            }
            match self.side.read(&mut io.received, &mut io.sending, MAX_GREETING) {
                Ok(Read::Bytes(bytes)) => early.extend_from_slice(bytes),
                Ok(Read::Nothing) => {}
                Ok(Read::End) => return Err(CloseReason::HandshakeAborted),
                Err(failure) => return Err(self.reason(failure)),
            }
        }
    }

    /// Why a handshake failed.
    fn reason(&self, failure: Failure) -> CloseReason {
        match (failure, self.side.tls.as_ref().and_then(|tls| tls.error())) {
            (Failure::Socket(_), _) => CloseReason::HandshakeAborted,
            (Failure::Tls, Some(error)) => handshake_failure(error),
            (Failure::Tls, None) => CloseReason::HandshakeFailed,
        }
    }

    /// What it is told before it has to leave, in a protocol that it may speak.
    ///
    /// Who asks for nobody gets a fatal alert, as RFC 6066 (section 3) recommends, where the proxy is a TLS
    /// server, or was asked for TLS as PostgreSQL's clients do, which show it. On a port where every
    /// session goes through it is none: there the alert is a warning, and clients see the connection
    /// end, as the Gateway API's conformance suite has it.
    fn last_words(&self, reason: CloseReason, is_server: bool) -> Vec<u8> {
        let Stage::Greeting { bytes, .. } = &self.stage else { return Vec::new() };
        match reason {
            CloseReason::UnrecognizedName | CloseReason::NoRoute => {
                match (is_server || self.postgres, self.lacks_name) {
                    (true, true) => Alert::MissingExtension.fatal().to_vec(),
                    (true, false) => Alert::UnrecognizedName.fatal().to_vec(),
                    (false, _) => Alert::UnrecognizedName.warning().to_vec(),
                }
            }
            CloseReason::SilentAsMysql => to_mysql(),
            CloseReason::NotTls if is_postgres_startup(bytes) => to_postgresql(),
            _ => self.alert.map(|alert| alert.fatal().to_vec()).unwrap_or_default(),
        }
    }
}

/// An `ERR_Packet`: its length, a number, 0xff, the error and a text.
fn to_mysql() -> Vec<u8> {
    const ERROR: u16 = 1_043;
    let length = 3 + TO_MYSQL.len() as u32;
    let mut packet = length.to_le_bytes()[..3].to_vec();
    packet.extend([0, 0xff]);
    packet.extend(ERROR.to_le_bytes());
    packet.extend(TO_MYSQL.as_bytes());
    packet
}

/// Whether it is a StartupMessage of PostgreSQL's protocol 3, as far as its head tells.
fn is_postgres_startup(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && bytes[..2] == [0, 0] && bytes[4..6] == [0, 3]
}

/// An `ErrorResponse`: severity, SQLSTATE `08P01` (protocol violation) and a text.
fn to_postgresql() -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C08P01\0M{TO_POSTGRESQL}\0\0");
    let mut message = vec![b'E'];
    message.extend((4 + fields.len() as u32).to_be_bytes());
    message.extend(fields.as_bytes());
    message
}

impl Tcp {
    /// Lets a client say what it wants.
    pub(super) fn welcome(
        &mut self,
        ctx: &mut Context,
        socket: OwnedFd,
        client: Client,
        patience: Duration,
    ) {
        let port = client.listener;
        let id = self.connections.insert_with(|id| {
            // The client's socket has TCP_NODELAY from the one that listened.
            let mut side = Side::new(socket, Token::TcpDownstream(id), Nodelay::Set);
            // Mostly the hello has come with the connection.
            side.readable = true;
            Connection::Guest(Box::new(Guest {
                side,
                client,
                port,
                begun: ctx.now,
                heard: ctx.now,
                deadline: ctx.now + patience,
                timer: self.timers.schedule(ctx.now + patience, Due::Handshake(id)),
                stage: Stage::Greeting { bytes: Vec::new(), needed: 1 },
                counted: None,
                postgres: false,
                refused_gss: false,
                lacks_name: false,
                alert: None,
            }))
        });
        self.limit_guests(ctx);
        self.guests.push_back(id);
        let Some(Connection::Guest(mut guest)) = self.connections.take(id) else { return };
        if guest.side.watch(ctx, Interest::Read).is_err() {
            self.connections.release(id);
            return self.dismiss(ctx, *guest, CloseReason::OutOfResources);
        }
        self.attend(ctx, id, guest);
    }

    /// Dismisses the client that has been shaking hands longest, if there are too many.
    fn limit_guests(&mut self, ctx: &mut Context) {
        let limit = (ctx.pool.limit() / 2 / SHARE).max(LEAST);
        if self.guests.len() < limit {
            return;
        }
        let connections = &mut self.connections;
        self.guests.retain(|id| matches!(connections.get_mut(*id), Some(Connection::Guest(_))));
        while self.guests.len() >= limit
            && let Some(id) = self.guests.pop_front()
        {
            self.end(ctx, id, CloseReason::HandshakeEvicted);
        }
    }

    /// A client that isn't in a session yet has sent something.
    pub(super) fn on_guest(&mut self, ctx: &mut Context, id: SlotId, ready: Readiness) {
        let Some(Connection::Guest(mut guest)) = self.connections.take(id) else { return };
        guest.side.on_ready(ready);
        if ready.readable() {
            guest.heard = ctx.now;
        }
        self.attend(ctx, id, guest);
    }

    /// The time for a client's handshake is over.
    pub(super) fn on_guest_timeout(&mut self, ctx: &mut Context, id: SlotId) {
        let Some(Connection::Guest(guest)) = self.connections.get_mut(id) else { return };
        let reason = match &guest.stage {
            Stage::Greeting { bytes, .. } if bytes.is_empty() && !guest.postgres => {
                CloseReason::SilentAsMysql
            }
            _ => CloseReason::HandshakeTimeout,
        };
        self.end(ctx, id, reason);
    }

    /// Lets a client, which was taken out of its place, get as far as it can.
    fn attend(&mut self, ctx: &mut Context, id: SlotId, mut guest: Box<Guest>) {
        let Some(Listener::Tls(table)) = self.listeners.get_mut(&guest.port) else {
            self.connections.release(id);
            return self.dismiss(ctx, *guest, CloseReason::ListenerRemoved);
        };
        let deadline = guest.deadline;
        let turn = guest.go_on(&mut self.io, table);
        if guest.deadline != deadline {
            self.timers.cancel(guest.timer);
            guest.timer = self.timers.schedule(guest.deadline, Due::Handshake(id));
        }
        match turn {
            Turn::Wait => {
                let blocked = guest.side.has_sealed();
                let watched = if blocked { guest.side.watch_writes(ctx) } else { Ok(()) };
                self.connections.put_back(id, Connection::Guest(guest));
                if watched.is_err() {
                    self.end(ctx, id, CloseReason::OutOfResources);
                }
            }
            Turn::Begin(early) => self.begin_with(ctx, id, *guest, early),
            Turn::Https(listener, terminator, hello) => {
                self.connections.release(id);
                self.hand_to_https(ctx, *guest, listener, terminator, hello);
            }
            Turn::Refuse(reason) => {
                self.connections.release(id);
                self.dismiss(ctx, *guest, reason);
                self.resume_at_limit();
            }
        }
    }

    /// Begins the session of a client that was taken out of its place.
    fn begin_with(&mut self, ctx: &mut Context, id: SlotId, mut guest: Guest, early: Vec<u8>) {
        if let (Some(tls), Some(counted)) = (&guest.side.tls, &mut guest.counted)
            && let Some(handshakes) = counted.handshakes.take()
        {
            handshakes.succeed(handshake_kind(tls.state()), guest.begun.elapsed());
        }
        let picked = match self.listeners.get_mut(&guest.port) {
            Some(Listener::Tls(table)) => {
                let Client { listener, tls, .. } = &guest.client;
                let server_name = tls.as_ref().and_then(|tls| tls.server_name.as_deref());
                table.route(*listener, server_name).map_err(CloseReason::from)
            }
            _ => Err(CloseReason::ListenerRemoved),
        };
        let (downstream, socket) = (guest.client.downstream, &guest.side.socket);
        let picked = picked.map(|route| pick(ctx, route, downstream, socket));
        let picked = match picked {
            Ok(Ok(picked)) => picked,
            Ok(Err((reason, row))) => {
                self.connections.release(id);
                if let Some(counted) = &mut guest.counted {
                    counted.row = row;
                }
                return self.dismiss(ctx, guest, reason);
            }
            Err(reason) => {
                self.connections.release(id);
                return self.dismiss(ctx, guest, reason);
            }
        };
        self.timers.cancel(guest.timer);
        let deadline = ctx.now + ctx.terms.connect_timeout;
        let timer = self.timers.schedule(deadline, Due::Connect(id));
        let Guest { side, client, .. } = guest;
        let mut session = Session::new(ctx, id, timer, side, client, picked);
        if !early.is_empty() {
            session.upward.hold(&mut self.io, early);
        }
        self.connections.put_back(id, Connection::Session(session));
        self.step(ctx, id, Session::connect);
        self.note_unheard(id);
    }

    /// Gives a client to who serves HTTPS.
    fn hand_to_https(
        &mut self,
        ctx: &mut Context,
        guest: Guest,
        listener: ListenerId,
        terminator: Terminator,
        hello: Vec<u8>,
    ) {
        let (Some(sink), Some(Counted { row, handshakes: Some(handshakes) })) =
            (ctx.settings.https.clone(), guest.counted.clone())
        else {
            return self.dismiss(ctx, guest, CloseReason::UnrecognizedName);
        };
        self.timers.cancel(guest.timer);
        let Guest { side, client, begun, deadline, .. } = guest;
        // It stays open, so that epoll(7) would go on telling of it.
        if ctx.poll.remove(&side.socket).is_err() {
            return reset_on_close(&side.socket);
        }
        sink.take(HttpsClient {
            socket: side.socket,
            hello,
            listener,
            terminator,
            server_name: client.tls.and_then(|tls| tls.server_name),
            downstream: client.downstream,
            bind: client.bind,
            begun,
            deadline,
            labels: row.labels().clone(),
            handshakes,
            place: client.place,
        });
    }

    /// Tells of a client that gets no session, and has it leave.
    pub(super) fn dismiss(&mut self, ctx: &mut Context, mut guest: Guest, reason: CloseReason) {
        self.timers.cancel(guest.timer);
        let table = match self.listeners.get(&guest.port) {
            Some(Listener::Tls(table)) => Some(table),
            _ => None,
        };
        let is_server = table.is_some_and(|table| table.is_server);
        let counted = guest.counted.take().or_else(|| table.map(|table| table.stray.clone()));
        guest.side.release(&mut self.io.sending);
        if let Some(Counted { row, handshakes }) = counted {
            if let Some(handshakes) = handshakes {
                handshakes.fail(reason);
            }
            refuse(ctx, &guest.side.socket, &guest.client, guest.side.tls.as_deref(), &row, reason);
        }
        let words = guest.last_words(reason, is_server);
        let has_alert = guest.side.tls.as_ref().is_some_and(|tls| tls.error().is_some());
        if words.is_empty() && !has_alert {
            return reset_on_close(&guest.side.socket);
        }
        // It may be gone already.
        let _ = guest.side.send(&words);
        let _ = shutdown(&guest.side.socket, Shutdown::Write);
        // What it has sent and nobody has read would make closing a reset, which overtakes the words.
        let _ = guest.side.receive(&mut vec![0; LEFTOVER]);
    }
}
