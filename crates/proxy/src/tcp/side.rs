//! One of a session's two sockets, with the TLS session on it if the proxy is one of its ends.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt},
};

use super::tls::Tls;
use crate::{
    context::Context,
    poll::{Interest, Readiness, Token},
};

/// A first write up to this size is one segment of any path; Nagle's algorithm (RFC 9293, 3.7.4)
/// holds nothing of it back, so that TCP_NODELAY is spared.
const ONE_SEGMENT: usize = 1_200;

/// What the sessions of a worker share for moving bytes.
#[derive(Debug, Default)]
pub(super) struct Io {
    pub(super) received: Received,
    pub(super) sending: Sending,
}

/// Where bytes are put that come from a socket.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// As they come.
    pub(super) scratch: Vec<u8>,
    /// What TLS records held.
    pub(super) opened: Vec<u8>,
}

/// What bytes go through on their way to a socket.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// Records of TLS.
    pub(super) sealed: Vec<u8>,
    /// Bytes that sessions hold because a socket didn't take them.
    pub(super) unsent: usize,
    /// Above this many of them, each session reads as little as it can.
    pub(super) budget: usize,
}

/// The first `size` bytes of a buffer, which grows if need be.
pub(super) fn room(buffer: &mut Vec<u8>, size: usize) -> &mut [u8] {
    if buffer.len() < size {
        buffer.resize(size, 0);
    }
    &mut buffer[..size]
}

/// Why bytes can't be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The socket says so.
    Socket(Errno),
    /// They aren't what TLS lets through.
    Tls,
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Socket(error)
    }
}

/// What a read has brought.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// These bytes; none, if there was less than a record of TLS, or one without data.
    Bytes(&'a [u8]),
    /// No more will come.
    End,
    /// Nothing is there now.
    Nothing,
}

/// One of a session's two sockets.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) socket: OwnedFd,
    token: Token,
    watched: Interest,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The receive queue is empty only when a read says so, not when one comes short.
    pub(super) read_to_the_end: bool,
    /// There may be an error that reading doesn't see.
    error: bool,
    nodelay: Nodelay,
    /// The TLS session of which the proxy is one end.
    pub(super) tls: Option<Box<Tls>>,
}

/// TCP_NODELAY on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nodelay {
    /// Not set, and nothing written yet.
    Unwritten,
    /// Not set, one small segment written.
    Written,
    /// Set, or not a TCP socket.
    Set,
}

impl Side {
    pub(super) fn new(socket: OwnedFd, token: Token, nodelay: Nodelay) -> Self {
        Self {
            socket,
            token,
            watched: Interest::Read,
            readable: false,
            writable: true,
            read_to_the_end: false,
            error: false,
            nodelay,
            tls: None,
        }
    }

    pub(super) fn watch(&mut self, ctx: &Context, interest: Interest) -> Result<(), Errno> {
        self.watched = interest;
        self.writable = interest == Interest::Read;
        ctx.poll.add(&self.socket, self.token, interest)
    }

    /// Watches for room to write, unless it does already. If there is room, that is reported.
    pub(super) fn watch_writes(&mut self, ctx: &Context) -> Result<(), Errno> {
        self.writable = false;
        if self.watched == Interest::ReadWrite {
            return Ok(());
        }
        self.watched = Interest::ReadWrite;
        ctx.poll.modify(&self.socket, self.token, self.watched)
    }

    pub(super) fn on_ready(&mut self, ready: Readiness) {
        self.readable |= ready.readable();
        self.writable |= ready.writable();
        self.read_to_the_end |= ready.read_to_the_end();
        self.error |= ready.error();
    }

    /// The error that the socket is in, if an event told of one.
    pub(super) fn take_error(&mut self) -> Result<(), Errno> {
        if !std::mem::take(&mut self.error) {
            return Ok(());
        }
        sockopt::socket_error(&self.socket)?
    }

    /// Reads what is there, `size` bytes of the socket's at most.
    pub(super) fn read<'a>(
        &mut self,
        received: &'a mut Received,
        sending: &mut Sending,
        size: usize,
    ) -> Result<Read<'a>, Failure> {
        match self.tls.take() {
            None => {
                let buffer = room(&mut received.scratch, size);
                match self.receive(buffer)? {
                    None => Ok(Read::Nothing),
                    Some(0) => Ok(Read::End),
                    Some(n) => Ok(Read::Bytes(&buffer[..n])),
                }
            }
            Some(mut tls) => {
                let read = tls.read(self, received, sending, size);
                self.tls = Some(tls);
                read
            }
        }
    }

    /// Reads from the socket, and says whether it may have more. `None` if nothing is there.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((n, _)) => {
                    // For a stream a short read is as good as EAGAIN (epoll(7), question 9).
                    self.readable = n == buffer.len() || self.read_to_the_end;
                    return Ok(Some(n));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes bytes, and says how many are taken.
    pub(super) fn write(&mut self, sending: &mut Sending, bytes: &[u8]) -> Result<usize, Failure> {
        match self.tls.take() {
            None => Ok(self.send(bytes)?),
            Some(mut tls) => {
                let written = tls.write(self, sending, bytes);
                self.tls = Some(tls);
                written
            }
        }
    }

    /// Writes to the socket. Where it takes no more, it isn't writable any longer.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match self.nodelay {
            Nodelay::Set => {}
            Nodelay::Unwritten if bytes.len() <= ONE_SEGMENT => self.nodelay = Nodelay::Written,
            Nodelay::Unwritten | Nodelay::Written => {
                sockopt::set_tcp_nodelay(&self.socket, true)?;
                self.nodelay = Nodelay::Set;
            }
        }
        loop {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.writable = n == bytes.len();
                    return Ok(n);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.writable = false;
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what TLS has sealed and the socket has not taken yet. Whether nothing is left.
    pub(super) fn flush(&mut self, sending: &mut Sending) -> Result<bool, Failure> {
        let Some(mut tls) = self.tls.take() else { return Ok(true) };
        let flushed = tls.flush(self, sending);
        self.tls = Some(tls);
        flushed
    }

    /// Whether something is sealed that the socket has not taken.
    pub(super) fn has_sealed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_sealed())
    }

    /// Tells the peer that no more will come; if it is about to be closed, that tells it. Whether all
    /// of it could be told.
    pub(super) fn finish(&mut self, sending: &mut Sending, closes: bool) -> Result<bool, Failure> {
        if let Some(mut tls) = self.tls.take() {
            let told = tls.close(self, sending);
            self.tls = Some(tls);
            if !told? {
                return Ok(false);
            }
        }
        if !closes {
            shutdown(&self.socket, Shutdown::Write)?;
        }
        Ok(true)
    }

    /// Forgets what is sealed.
    pub(super) fn release(&mut self, sending: &mut Sending) {
        if let Some(tls) = &mut self.tls {
            tls.release(sending);
        }
    }
}
