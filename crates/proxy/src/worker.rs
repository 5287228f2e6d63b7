//! A worker: a thread with a loop of its own over the sockets it owns.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use l4way_model::{BackendId, Bind, Endpoint, SessionTerms, Transport};
use l4way_proxy_core::Allowance;
use l4way_session::CloseReason;

use crate::{
    context::{Context, earlier},
    endpoint_sessions::{Answer, Question},
    mailbox::Receiver,
    poll::{Events, Interest, Token},
    routes::{BackendKey, ListenerKey, Route},
    tcp::{Accepted, Tcp},
    tls::TlsTable,
    udp::Udp,
};

/// What the control thread, or another worker, tells a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// What holds for all sessions from now on.
    SetTerms(SessionTerms),
    /// Adds a listener without sockets, or changes its route.
    SetRoute { key: ListenerKey, transport: Transport, route: Box<Route> },
    /// Adds a port of TLS listeners without sockets, by its owner, or changes its listeners.
    SetTls { key: ListenerKey, table: Box<TlsTable> },
    /// A socket to listen on, already bound (and listening, if TCP).
    Open { key: ListenerKey, bind: Bind, socket: OwnedFd, allowance: Arc<Allowance> },
    /// Takes no new sessions there any more, but for those that wait in the accept queue.
    /// The workers' UDP sockets close together, when none of them holds `in_use` for its sessions
    /// any more: were one to close before, the kernel would spread clients anew over the others.
    Close { bind: Bind, in_use: Arc<()>, done: Done },
    /// A listener wants a UDP socket back that only drains. A worker that still has it answers with
    /// its `in_use`.
    TakeBack { key: ListenerKey, bind: Bind, answer: mpsc::Sender<Arc<()>> },
    /// The socket belongs to another listener now.
    HandOver { bind: Bind, to: ListenerKey },
    /// Closes the UDP sockets that only drain and are in the way of this address.
    Release { address: SocketAddr, done: Done },
    /// The listener is gone; its sessions may go on until the deadline.
    RemoveListener { key: ListenerKey, transport: Transport, deadline: Instant },
    /// A TCP listener that was gone is back: its sessions don't end at the deadline.
    KeepListener { key: ListenerKey },
    /// The endpoints of these backends, and only these, have changed.
    SetBackends(Vec<(BackendKey, BackendId, Arc<[Endpoint]>)>),
    /// Answers with the clients of these listeners' UDP sessions, and whom they write to.
    UdpFlows { keys: Arc<[ListenerKey]>, answer: mpsc::Sender<UdpFlow> },
    /// Answers with how many sessions endpoints have.
    EndpointSessions { question: Arc<Question>, answer: mpsc::Sender<Answer> },
    /// A connection that a busier worker has accepted.
    Adopt(Accepted),
    /// Has a client leave that may have to; if there is none, so many workers more are asked.
    MakeRoom { others: usize },
    /// Nothing: `Done` tells that what came before has been carried out.
    Settle(Done),
    /// Takes no new sessions; ends when those there are have ended, or at the deadline.
    Drain { deadline: Instant },
    /// Resets all sessions and ends.
    Stop,
}

/// A client of UDP, and the address that it writes to.
pub(crate) type UdpFlow = (SocketAddr, SocketAddr);

/// Dropped when a command has been carried out, or never will be; whoever sent it waits for that.
pub(crate) type Done = mpsc::Sender<()>;

/// The name of a worker's thread.
pub(crate) fn name(index: usize) -> String {
    format!("worker-{index}")
}

/// A worker before and while it runs.
#[derive(Debug)]
pub(crate) struct Worker {
    ctx: Context,
    tcp: Tcp,
    udp: Udp,
    mailbox: Receiver<Command>,
    drain_until: Option<Instant>,
    stopped: bool,
}

impl Worker {
    /// Starts a worker's thread. `make` runs there, as what it makes can't change threads.
    pub(crate) fn spawn(
        index: usize,
        mailbox: Receiver<Command>,
        make: impl FnOnce() -> (Context, Tcp, Done) + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        thread::Builder::new().name(name(index)).spawn(move || {
            let (ctx, tcp, done) = make();
            let udp = Udp::new(&ctx);
            let worker = Self { ctx, tcp, udp, mailbox, drain_until: None, stopped: false };
            // Without it nobody would take the sessions of its sockets.
            worker.run().unwrap_or_else(|error| panic!("epoll fails: {error}"));
            drop(done);
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::new();
        self.ctx.poll.add(self.mailbox.as_fd(), Token::Mailbox, Interest::Read)?;
        while !self.is_finished() {
            let timeout = self.next_due().map(|due| due.saturating_duration_since(self.ctx.now));
            self.ctx.poll.wait(&mut events, timeout)?;
            self.ctx.set_now(Instant::now());
            self.ctx.health.refresh();
            for index in 0..events.len() {
                self.dispatch(&events, index);
            }
            self.tick();
        }
        let reason = if self.stopped { CloseReason::Shutdown } else { CloseReason::Drained };
        self.tcp.end_all(&mut self.ctx, reason);
        self.udp.end_all(&mut self.ctx, reason);
        Ok(())
    }

    fn dispatch(&mut self, events: &Events, index: usize) {
        let ctx = &mut self.ctx;
        let (token, ready) = events.get(index);
        match token {
            Token::Mailbox => self.read_mailbox(),
            Token::TcpListener(socket) => self.tcp.on_listener(ctx, socket),
            Token::TcpDownstream(id) => self.tcp.on_downstream(ctx, id, ready),
            Token::TcpUpstream(id) => self.tcp.on_upstream(ctx, id, ready),
            Token::UdpListener(socket) => self.udp.on_listener(ctx, &mut self.tcp, socket),
            Token::UdpUpstream(number) => self.udp.on_upstream(ctx, number, ready),
        }
    }

    fn read_mailbox(&mut self) {
        self.mailbox.acknowledge();
        while let Some(command) = self.mailbox.next() {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        let Self { ctx, tcp, udp, .. } = self;
        match command {
            Command::SetTerms(terms) => ctx.terms = terms,
            Command::SetRoute { key, transport: Transport::Tcp, route } => {
                tcp.set_route(key, *route);
            }
            Command::SetRoute { key, transport: Transport::Udp, route } => {
                udp.set_route(key, *route);
            }
            Command::SetTls { key, table } => tcp.set_tls(key, table),
            Command::Open { key, bind, socket, allowance } => match bind.transport {
                Transport::Tcp => tcp.open(ctx, key, bind, socket, allowance),
                Transport::Udp => udp.open(ctx, key, bind, socket, allowance),
            },
            Command::Close { bind, in_use, done } => {
                match bind.transport {
                    Transport::Tcp => tcp.close(ctx, bind),
                    Transport::Udp => udp.close(ctx, bind, in_use),
                }
                drop(done);
            }
            Command::TakeBack { key, bind, answer } => {
                // Whoever asks waits for the answer.
                let _ = udp.take_back(key, bind).map(|in_use| answer.send(in_use));
            }
            Command::HandOver { bind, to } => match bind.transport {
                Transport::Tcp => tcp.hand_over(bind, to),
                Transport::Udp => udp.hand_over(bind, to),
            },
            Command::Release { address, done } => {
                udp.release(ctx, address);
                drop(done);
            }
            Command::RemoveListener { key, transport, deadline } => match transport {
                Transport::Tcp => tcp.remove_listener(key, deadline),
                Transport::Udp => udp.remove_listener(ctx, key, deadline),
            },
            Command::KeepListener { key } => tcp.keep_listener(key),
            Command::SetBackends(backends) => {
                for (key, backend, endpoints) in backends {
                    ctx.backends.set(key, &backend, &endpoints);
                }
            }
            Command::UdpFlows { keys, answer } => {
                for flow in udp.flows(&keys) {
                    // Whoever asks waits for the answer.
                    let _ = answer.send(flow);
                }
            }
            Command::EndpointSessions { question, answer } => {
                // Whoever asked may have given up.
                let _ = answer.send(question.answer(&ctx.backends));
            }
            Command::MakeRoom { others } => {
                if !tcp.make_room(ctx) && !udp.make_room(ctx) {
                    tcp.pass_on(ctx, others);
                }
            }
            Command::Settle(done) => drop(done),
            Command::Adopt(accepted) => tcp.begin(ctx, accepted),
            Command::Drain { deadline } => {
                self.drain_until = Some(deadline);
                tcp.drain(ctx);
                udp.drain();
            }
            Command::Stop => self.stopped = true,
        }
    }

    /// What is due, and what the events have left over.
    fn tick(&mut self) {
        let Self { ctx, tcp, udp, .. } = self;
        tcp.on_tick(ctx);
        if udp.next_tick(ctx).is_some_and(|due| due <= ctx.now) {
            udp.on_tick(ctx, tcp);
        }
        if tcp.wants_room() {
            let has_room = udp.make_room(ctx);
            tcp.look_for_room(ctx, has_room);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let sessions = earlier(self.tcp.next_tick(&self.ctx), self.udp.next_tick(&self.ctx));
        earlier(sessions, self.drain_until)
    }

    fn is_finished(&self) -> bool {
        let drained = |deadline| {
            self.ctx.now >= deadline || (self.tcp.sessions() == 0 && self.udp.sessions() == 0)
        };
        self.stopped || self.drain_until.is_some_and(drained)
    }
}
