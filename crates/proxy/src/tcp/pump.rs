//! One direction of a session: bytes from one socket to the other.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt},
};

use crate::{
    context::Context,
    poll::{Interest, Readiness, Token},
};

/// What is read at once from a socket of which nothing is known yet.
const READ_FIRST: usize = 64 << 10;
/// What is read at once from a socket that always has more, toward one that takes it all.
const READ_MOST: usize = 1 << 20;
/// What is read at once toward a socket that takes little.
const READ_LEAST: usize = 16 << 10;
/// Above this many unsent bytes in all of a worker's sessions, each reads as little as it can.
const UNSENT_BUDGET: usize = 64 << 20;
/// Bytes that a direction moves before other sessions get their turn.
const TURN: usize = 2 << 20;
/// A first write up to this size is one segment of any path; Nagle's algorithm (RFC 9293, 3.7.4)
/// holds nothing of it back, so that TCP_NODELAY is spared.
const ONE_SEGMENT: usize = 1_200;

/// What the sessions of a worker share for moving bytes.
#[derive(Debug)]
pub(super) struct Io {
    scratch: Vec<u8>,
    /// Bytes that sessions hold because a socket didn't take them.
    unsent: usize,
}

impl Io {
    pub(super) fn new() -> Self {
        Self { scratch: vec![0; READ_FIRST], unsent: 0 }
    }

    fn scratch(&mut self, size: usize) -> &mut [u8] {
        if self.scratch.len() < size {
            self.scratch.resize(size, 0);
        }
        &mut self.scratch[..size]
    }
}

/// One of a session's two sockets.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) socket: OwnedFd,
    token: Token,
    watched: Interest,
    readable: bool,
    pub(super) writable: bool,
    /// The receive queue is empty only when a read says so, not when one comes short.
    read_to_the_end: bool,
    /// There may be an error that reading doesn't see.
    error: bool,
    nodelay: Nodelay,
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

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((n, _)) => return Ok(n),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
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
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

/// Which socket an error came from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    /// The one that is read.
    From(Errno),
    /// The one that is written.
    To(Errno),
}

/// How far a direction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It has to wait for an event.
    AllThereIs,
    /// Its turn is over, and there may be more.
    Turn,
}

/// One direction of a session.
#[derive(Debug)]
pub(super) struct Flow {
    /// What was read and isn't written yet, from `written` on. Empty in nearly all sessions; while
    /// it isn't, nothing is read.
    unsent: Vec<u8>,
    written: usize,
    read_size: usize,
    /// The socket that is read has said that no more will come.
    pub(super) at_end: bool,
    /// The socket that is written was told so too.
    pub(super) finished: bool,
    /// Bytes that were written.
    pub(super) bytes: u64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            unsent: Vec::new(),
            written: 0,
            read_size: READ_FIRST,
            at_end: false,
            finished: false,
            bytes: 0,
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads what is there before there is anything to write it to.
    pub(super) fn read_early(&mut self, io: &mut Io, from: &mut Side) -> Result<(), Errno> {
        let buffer = io.scratch(READ_LEAST);
        match from.read(buffer) {
            Ok(0) => self.at_end = true,
            Ok(n) => {
                from.readable = n == READ_LEAST;
                self.hold(io, 0, n);
            }
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Moves what there is, for a turn. `alone` says that the other direction has finished, so
    /// that closing the sockets will tell the end of this one.
    pub(super) fn pump(
        &mut self,
        io: &mut Io,
        from: &mut Side,
        to: &mut Side,
        alone: bool,
    ) -> Result<Moved, Broken> {
        let mut left = TURN;
        loop {
            if !self.flush(io, to).map_err(Broken::To)? {
                return Ok(Moved::AllThereIs);
            }
            if self.at_end {
                if !alone && !self.finished {
                    shutdown(&to.socket, Shutdown::Write).map_err(Broken::To)?;
                }
                self.finished = true;
                return Ok(Moved::AllThereIs);
            }
            if !from.readable {
                return Ok(Moved::AllThereIs);
            }
            if left == 0 {
                return Ok(Moved::Turn);
            }
            let n = self.copy(io, from, to)?;
            left = left.saturating_sub(n);
        }
    }

    /// Reads once and writes what came.
    fn copy(&mut self, io: &mut Io, from: &mut Side, to: &mut Side) -> Result<usize, Broken> {
        let size = if io.unsent > UNSENT_BUDGET { READ_LEAST } else { self.read_size };
        let buffer = io.scratch(size);
        let n = match from.read(buffer) {
            Ok(0) => {
                self.at_end = true;
                return Ok(0);
            }
            Ok(n) => n,
            Err(Errno::AGAIN) => {
                from.readable = false;
                return Ok(0);
            }
            Err(error) => return Err(Broken::From(error)),
        };
        // For a stream that is as good as EAGAIN (epoll(7), question 9).
        from.readable = n == size || from.read_to_the_end;
        let written = match to.write(&buffer[..n]) {
            Ok(written) => written,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(Broken::To(error)),
        };
        self.bytes += written as u64;
        if written < n {
            to.writable = false;
            self.hold(io, written, n);
            self.read_size = (size / 2).max(READ_LEAST);
        } else if n == size {
            self.read_size = READ_MOST;
        }
        Ok(n)
    }

    /// Keeps what the scratch buffer holds.
    fn hold(&mut self, io: &mut Io, start: usize, end: usize) {
        self.unsent = io.scratch[start..end].to_vec();
        self.written = 0;
        io.unsent += self.unsent.len();
    }

    /// Writes what was held. False if not all of it could be written.
    pub(super) fn flush(&mut self, io: &mut Io, to: &mut Side) -> Result<bool, Errno> {
        while self.has_unsent() {
            if !to.writable {
                return Ok(false);
            }
            match to.write(&self.unsent[self.written..]) {
                Ok(n) => {
                    self.bytes += n as u64;
                    self.written += n;
                }
                Err(Errno::AGAIN) => to.writable = false,
                Err(error) => return Err(error),
            }
            if self.written == self.unsent.len() {
                self.release(io);
            }
        }
        Ok(true)
    }

    /// Forgets what was held.
    pub(super) fn release(&mut self, io: &mut Io) {
        io.unsent -= self.unsent.len();
        self.unsent = Vec::new();
        self.written = 0;
    }
}
