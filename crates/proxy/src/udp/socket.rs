//! The sockets that clients write to.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use l4way_proxy_core::Allowance;

use crate::{
    context::Context,
    poll::{Interest, Token},
    routes::ListenerKey,
};

/// How often a worker that has no sessions on a socket looks whether the others have.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A socket that clients write to.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) bind: SocketAddr,
    /// Whose socket it is now.
    pub(super) listener: ListenerKey,
    /// Where its sessions take descriptors.
    pub(super) allowance: Arc<Allowance>,
    /// How many sessions need it for replies.
    pub(super) sessions: usize,
    /// If it takes no new sessions.
    pub(super) drain: Option<Drain>,
}

/// The end of a socket, which all workers' sockets on an address come to together.
#[derive(Debug)]
pub(super) struct Drain {
    /// When it closes if it hasn't by then.
    pub(super) until: Instant,
    /// Held while this worker has sessions.
    in_use: Option<Arc<()>>,
    in_use_anywhere: Weak<()>,
}

impl Drain {
    pub(super) fn new(until: Instant, in_use: Arc<()>) -> Self {
        let in_use_anywhere = Arc::downgrade(&in_use);
        Self { until, in_use: Some(in_use), in_use_anywhere }
    }

    /// Whether no worker has sessions left.
    pub(super) fn is_over(&self) -> bool {
        self.in_use_anywhere.strong_count() == 0
    }

    /// Keeps it from being over, unless it is.
    pub(super) fn in_use(&self) -> Option<Arc<()>> {
        self.in_use_anywhere.upgrade()
    }

    /// When to see whether it is over.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        match self.in_use {
            Some(_) => self.until,
            None => self.until.min(now + LOOK_AGAIN),
        }
    }
}

impl Socket {
    /// Whether it is bound on all addresses, so that clients may write to any of them.
    pub(super) fn is_wildcard(&self) -> bool {
        self.bind.ip().is_unspecified()
    }

    /// If it drains and there are no sessions left, lets the other workers know.
    pub(super) fn let_go(&mut self) {
        if let Some(drain) = self.drain.as_mut().filter(|_| self.sessions == 0) {
            drain.in_use = None;
        }
    }
}

/// A worker's sockets, by number. A number is given again once its socket is closed, which no
/// session outlives.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Option<Socket>>);

impl Sockets {
    pub(super) fn get(&self, number: u32) -> Option<&Socket> {
        self.0.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Socket> {
        self.0.get_mut(number as usize)?.as_mut()
    }

    /// The socket with this address.
    pub(super) fn find_mut(&mut self, bind: SocketAddr) -> Option<&mut Socket> {
        self.iter_mut().find(|socket| socket.bind == bind)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Socket)> {
        let numbered = self.0.iter().enumerate();
        numbered.filter_map(|(number, socket)| Some((number as u32, socket.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Socket> {
        self.0.iter_mut().flatten()
    }

    /// Receives on a bound socket from now on, and on what waits there already.
    pub(super) fn open(
        &mut self,
        ctx: &Context,
        listener: ListenerKey,
        bind: SocketAddr,
        fd: OwnedFd,
        allowance: Arc<Allowance>,
    ) -> io::Result<()> {
        let free = self.0.iter().position(Option::is_none);
        let number = free.unwrap_or(self.0.len());
        ctx.poll.add(&fd, Token::UdpListener(number as u32), Interest::Read)?;
        let socket = Socket { fd, bind, listener, allowance, sessions: 0, drain: None };
        match self.0.get_mut(number) {
            Some(slot) => *slot = Some(socket),
            None => self.0.push(Some(socket)),
        }
        Ok(())
    }

    pub(super) fn close(&mut self, number: u32) {
        if let Some(slot) = self.0.get_mut(number as usize) {
            *slot = None;
        }
    }
}
