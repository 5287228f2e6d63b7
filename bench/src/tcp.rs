//! Clients that speak plain TCP, many in one thread.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::Instant,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send,
        socket_with,
    },
};

use crate::{
    patience::{PATIENCE, Patience, TICK},
    poll::{Interest, Poll, Ready, unless_blocked},
    request::{self, CHUNK, Request, SIZE},
    tally::{Record, Tally},
};

/// A connection over which the backend has spoken.
pub(crate) struct Session(TcpStream);

impl Session {
    /// One over which an exchange has been made.
    pub(crate) fn open(target: SocketAddr) -> io::Result<Self> {
        let mut session = Self::connect(target)?;
        session.exchange()?;
        Ok(session)
    }

    /// One on which the backend has spoken first.
    pub(crate) fn listen(target: SocketAddr) -> io::Result<Self> {
        let mut session = Self::connect(target)?;
        session.0.read_exact(&mut [0; SIZE])?;
        Ok(session)
    }

    fn connect(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Sends a request and gets its echo.
    pub(crate) fn exchange(&mut self) -> io::Result<()> {
        request::exchange(&mut self.0)
    }
}

/// Makes one exchange after the other over each of `count` connections.
pub(crate) fn exchange(target: SocketAddr, count: usize, tally: &Tally) -> io::Result<()> {
    let poll = Poll::new()?;
    let mut record = Record::new(tally);
    let open = |poll: &Poll, number: usize| -> io::Result<Asked> {
        let session = Session::open(target)?;
        session.0.set_nonblocking(true)?;
        poll.add(&session.0, number, Interest::Read)?;
        let mut asked = Asked { socket: session.0.into(), at: Instant::now(), received: 0 };
        asked.ask()?;
        Ok(asked)
    };
    let mut connections =
        (0..count).map(|number| open(&poll, number).map(Some)).collect::<io::Result<Vec<_>>>()?;
    let (mut patience, mut ready) = (Patience::new(tally), Vec::new());
    while patience.lasts(|| connections.iter().flatten().count()) {
        poll.wait(&mut ready, Some(TICK))?;
        for Ready { number, .. } in ready.iter().copied() {
            let Some(connection) = &mut connections[number] else { continue };
            match connection.go_on(&mut record, tally) {
                Ok(true) => {}
                Ok(false) => connections[number] = None,
                Err(error) => {
                    tally.fail(error);
                    connections[number] = None;
                    if tally.goes_on() {
                        connections[number] = Some(open(&poll, number)?);
                    }
                }
            }
        }
        record.tell();
    }
    Ok(())
}

/// A connection whose answer is awaited.
struct Asked {
    socket: OwnedFd,
    /// Since when.
    at: Instant,
    received: usize,
}

impl Asked {
    fn ask(&mut self) -> io::Result<()> {
        self.received = 0;
        send(&self.socket, &Request::Echo.encode(), SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Asks again once the answer is here, unless it was the last. Gives whether it wasn't.
    fn go_on(&mut self, record: &mut Record<'_>, tally: &Tally) -> io::Result<bool> {
        if !self.answered()? {
            return Ok(true);
        }
        let now = Instant::now();
        record.took(std::mem::replace(&mut self.at, now), now);
        let again = tally.goes_on();
        if again {
            self.ask()?;
        }
        Ok(again)
    }

    /// Whether the whole answer is here.
    fn answered(&mut self) -> io::Result<bool> {
        let mut answer = [0; SIZE];
        let rest = &mut answer[self.received..];
        match unless_blocked(recv(&self.socket, rest, RecvFlags::empty()))? {
            Some((0, _)) => Err(io::Error::other("a connection ended before its answer")),
            Some((length, _)) => {
                self.received += length;
                Ok(self.received == SIZE)
            }
            None => Ok(false),
        }
    }
}

/// Who speaks first on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Client,
    Backend,
}

/// Opens connections, `count` at a time, waits on each for what the backend says, and closes it.
pub(crate) fn visit(
    target: SocketAddr,
    first: First,
    count: usize,
    tally: &Tally,
) -> io::Result<()> {
    let poll = Poll::new()?;
    let mut record = Record::new(tally);
    let mut visits: Vec<Option<Visit>> = (0..count).map(|_| None).collect();
    let (mut patience, mut ready) = (Patience::new(tally), Vec::new());
    while patience.lasts(|| visits.iter().flatten().count()) {
        let missing = visits.iter_mut().enumerate().filter(|(_, visit)| visit.is_none());
        for (number, visit) in missing.take_while(|_| tally.goes_on()) {
            match Visit::begin(target, first, &poll, number) {
                Ok(begun) => *visit = Some(begun),
                Err(error) => tally.fail(error),
            }
        }
        poll.wait(&mut ready, Some(TICK))?;
        for Ready { number, .. } in ready.iter().copied() {
            let Some(visit) = &mut visits[number] else { continue };
            match visit.go_on() {
                Ok(false) => continue,
                Ok(true) => record.took(visit.0.at, Instant::now()),
                Err(error) => tally.fail(error),
            }
            // This closes it.
            visits[number] = None;
        }
        record.tell();
    }
    Ok(())
}

/// A connection from its first packet on, and whether its request has still to be sent.
struct Visit(Asked, bool);

impl Visit {
    fn begin(target: SocketAddr, first: First, poll: &Poll, number: usize) -> io::Result<Self> {
        let at = Instant::now();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let interest = match first {
            First::Client => Interest::Edges,
            First::Backend => Interest::Read,
        };
        poll.add(&socket, number, interest)?;
        Ok(Self(Asked { socket, at, received: 0 }, first == First::Client))
    }

    /// Whether it is over.
    fn go_on(&mut self) -> io::Result<bool> {
        let Self(connection, silent) = self;
        if *silent {
            connection.ask()?;
            *silent = false;
            return Ok(false);
        }
        connection.answered()
    }
}

/// Moves bulk data over `count` connections, as the request says.
pub(crate) fn move_bulk(
    target: SocketAddr,
    request: Request,
    count: usize,
    tally: &Tally,
) -> io::Result<()> {
    let poll = Poll::new()?;
    let interest = if request == Request::Both { Interest::ReadWrite } else { Interest::Read };
    let open = |poll: &Poll, number: usize| -> io::Result<OwnedFd> {
        let mut session = Session::open(target)?;
        session.0.write_all(&request.encode())?;
        session.0.set_nonblocking(true)?;
        poll.add(&session.0, number, interest)?;
        Ok(session.0.into())
    };
    let mut sockets =
        (0..count).map(|number| open(&poll, number)).collect::<io::Result<Vec<_>>>()?;
    let (mut ready, mut chunk) = (Vec::new(), vec![0x5a; CHUNK]);
    while tally.goes_on() {
        poll.wait(&mut ready, Some(TICK))?;
        for event in &ready {
            match carry(&sockets[event.number], *event, &mut chunk) {
                Ok(received) => tally.add(received as u64),
                Err(error) => {
                    tally.fail(error);
                    sockets[event.number] = open(&poll, event.number)?;
                }
            }
        }
    }
    Ok(())
}

/// Takes and sends as much as goes at once. Gives how much was received.
fn carry(socket: &OwnedFd, ready: Ready, chunk: &mut [u8]) -> io::Result<usize> {
    if ready.write {
        unless_blocked(send(socket, chunk, SendFlags::NOSIGNAL))?;
    }
    if !ready.read {
        return Ok(0);
    }
    match unless_blocked(recv(socket, chunk, RecvFlags::empty()))? {
        Some((0, _)) => Err(io::ErrorKind::UnexpectedEof.into()),
        Some((length, _)) => Ok(length),
        None => Ok(0),
    }
}
