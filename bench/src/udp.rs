//! Clients that send datagrams, many in one thread, and wait for each one's echo.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with,
};

use crate::{
    network::{EPHEMERAL_PORTS, FLOW_CLIENTS},
    patience::{LOST, PATIENCE, Patience, TICK},
    poll::{Interest, Poll, Ready, unless_blocked},
    request::SIZE,
    tally::{Record, Tally},
};

/// The most that is in a datagram.
const MOST: usize = 1400;

/// A flow over which one exchange with the backend has been made.
pub(crate) struct Session(UdpSocket);

impl Session {
    /// A flow that waits that long for an answer.
    pub(crate) fn open(target: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(patience))?;
        let mut session = Self(socket);
        session.exchange()?;
        Ok(session)
    }

    /// One that waits as long as for anything else.
    pub(crate) fn patient(target: SocketAddr) -> io::Result<Self> {
        Self::open(target, PATIENCE)
    }

    /// Sends a datagram and gets its echo.
    pub(crate) fn exchange(&mut self) -> io::Result<()> {
        let datagram = [0x5a; SIZE];
        self.0.send(&datagram)?;
        let mut answer = [0; MOST];
        let length = self.0.recv(&mut answer)?;
        if answer[..length] == datagram { Ok(()) } else { Err(io::Error::other("a wrong answer")) }
    }
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// By one thread.
    pub(crate) flows: usize,
    /// How many datagrams each flow has under way.
    pub(crate) window: usize,
    /// The bytes of each.
    pub(crate) size: usize,
}

/// Keeps each flow's window full: for each echo another datagram is sent.
pub(crate) fn stream(target: SocketAddr, stream: Stream, tally: &Tally) -> io::Result<()> {
    let poll = Poll::new()?;
    let mut record = Record::new(tally);
    let mut flows = (0..stream.flows)
        .map(|number| Flow::open(target, stream, &poll, number))
        .collect::<io::Result<Vec<_>>>()?;
    let (mut patience, mut ready) = (Patience::new(tally), Vec::new());
    let mut looked = Instant::now();
    while patience.lasts(|| flows.iter().map(Flow::under_way).sum()) {
        poll.wait(&mut ready, Some(TICK))?;
        for Ready { number, .. } in &ready {
            flows[*number].receive(&mut record)?;
            if tally.goes_on() {
                flows[*number].fill()?;
            }
        }
        record.tell();
        if tally.goes_on() && looked.elapsed() > TICK {
            looked = Instant::now();
            for flow in &mut flows {
                (0..flow.give_up(looked)).for_each(|_| tally.lose("a datagram was lost"));
                flow.fill()?;
            }
        }
    }
    Ok(())
}

/// A flow and its window.
struct Flow {
    socket: OwnedFd,
    /// What was sent and isn't back, by its place in the window.
    sent: Vec<Option<Instant>>,
    /// Which of the places are empty.
    empty: Vec<u32>,
    /// How often each place was filled, so that a late echo isn't taken for another.
    times: Vec<u32>,
    datagram: Vec<u8>,
}

impl Flow {
    fn open(target: SocketAddr, stream: Stream, poll: &Poll, number: usize) -> io::Result<Self> {
        let socket = socket()?;
        connect(&socket, &target)?;
        poll.add(&socket, number, Interest::Read)?;
        let mut flow = Self {
            socket,
            sent: vec![None; stream.window],
            empty: (0..stream.window as u32).collect(),
            times: vec![0; stream.window],
            datagram: vec![0x5a; stream.size],
        };
        flow.fill()?;
        Ok(flow)
    }

    fn under_way(&self) -> usize {
        self.sent.len() - self.empty.len()
    }

    /// Sends what is missing in the window, or as much of it as goes.
    fn fill(&mut self) -> io::Result<()> {
        let now = Instant::now();
        while let Some(place) = self.empty.pop() {
            let times = self.times[place as usize].wrapping_add(1);
            self.datagram[..4].copy_from_slice(&place.to_be_bytes());
            self.datagram[4..8].copy_from_slice(&times.to_be_bytes());
            if unless_blocked(send(&self.socket, &self.datagram, SendFlags::empty()))?.is_none() {
                self.empty.push(place);
                break;
            }
            self.times[place as usize] = times;
            self.sent[place as usize] = Some(now);
        }
        Ok(())
    }

    /// Takes the echoes that are here.
    fn receive(&mut self, record: &mut Record<'_>) -> io::Result<()> {
        let mut datagram = [0; MOST];
        // One that waits for each echo knows that there is no other.
        for _ in 0..self.sent.len() {
            let received = recv(&self.socket, &mut datagram[..], RecvFlags::empty());
            let Some((length, _)) = unless_blocked(received)? else { break };
            self.take(&datagram[..length], record);
        }
        Ok(())
    }

    fn take(&mut self, datagram: &[u8], record: &mut Record<'_>) {
        let Some((place, rest)) = datagram.split_first_chunk() else { return };
        let Some(times) = rest.first_chunk() else { return };
        let place = u32::from_be_bytes(*place);
        let at = place as usize;
        if self.times.get(at) == Some(&u32::from_be_bytes(*times))
            && let Some(sent) = self.sent[at].take()
        {
            record.took(sent, Instant::now());
            self.empty.push(place);
        }
    }

    /// Waits no longer for what should have come, and gives how much that is.
    fn give_up(&mut self, now: Instant) -> usize {
        let before = self.empty.len();
        for (place, sent) in (0..).zip(&mut self.sent) {
            if sent.take_if(|sent| now.saturating_duration_since(*sent) > LOST).is_some() {
                self.empty.push(place);
            }
        }
        self.empty.len() - before
    }
}

/// Sends each datagram from a port of its own, `count` at a time.
pub(crate) fn flows(target: SocketAddr, count: usize, tally: &Tally) -> io::Result<()> {
    let poll = Poll::new()?;
    let mut record = Record::new(tally);
    let mut queries: Vec<Option<Query>> = (0..count).map(|_| None).collect();
    let (mut patience, mut ready) = (Patience::new(tally), Vec::new());
    let mut looked = Instant::now();
    while patience.lasts(|| queries.iter().flatten().count()) {
        let missing = queries.iter_mut().enumerate().filter(|(_, query)| query.is_none());
        for (number, query) in missing.take_while(|_| tally.goes_on()) {
            match Query::send(target, &poll, number) {
                Ok(sent) => *query = Some(sent),
                Err(error) => tally.fail(error),
            }
        }
        poll.wait(&mut ready, Some(TICK))?;
        for Ready { number, .. } in ready.iter().copied() {
            let Some(query) = &queries[number] else { continue };
            match query.answered() {
                Ok(false) => continue,
                Ok(true) => record.took(query.sent, Instant::now()),
                Err(error) => tally.fail(error),
            }
            queries[number] = None;
        }
        record.tell();
        if tally.goes_on() && looked.elapsed() > TICK {
            looked = Instant::now();
            let late = |query: &mut Query| looked.saturating_duration_since(query.sent) > LOST;
            for _ in queries.iter_mut().filter_map(|query| query.take_if(late)) {
                tally.lose("a datagram was lost");
            }
        }
    }
    Ok(())
}

/// A flow of one datagram.
struct Query {
    socket: OwnedFd,
    sent: Instant,
}

impl Query {
    fn send(target: SocketAddr, poll: &Poll, number: usize) -> io::Result<Self> {
        let sent = Instant::now();
        let socket = socket()?;
        bind(&socket, &next_source())?;
        connect(&socket, &target)?;
        poll.add(&socket, number, Interest::Read)?;
        send(&socket, &[0x5a; SIZE], SendFlags::empty())?;
        Ok(Self { socket, sent })
    }

    fn answered(&self) -> io::Result<bool> {
        let mut answer = [0; SIZE];
        let received = recv(&self.socket, &mut answer[..], RecvFlags::empty());
        Ok(unless_blocked(received)?.is_some())
    }
}

/// The address and port that have been idle the longest: it takes seconds until they come again.
fn next_source() -> SocketAddrV4 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    source(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn source(number: u32) -> SocketAddrV4 {
    let ports = u32::from(EPHEMERAL_PORTS.end() - EPHEMERAL_PORTS.start()) + 1;
    let port = EPHEMERAL_PORTS.start() + (number % ports) as u16;
    let clients = FLOW_CLIENTS.end().to_bits() - FLOW_CLIENTS.start().to_bits() + 1;
    let client = FLOW_CLIENTS.start().to_bits() + number / ports % clients;
    SocketAddrV4::new(Ipv4Addr::from_bits(client), port)
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sources_come_again_late() {
        let sources: HashSet<_> = (0..500_000).map(source).collect();
        assert_eq!(sources.len(), 500_000);
        assert!(sources.iter().all(|source| FLOW_CLIENTS.contains(source.ip())));
    }

    #[test]
    fn a_late_echo_is_no_other_datagrams() {
        let backend = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = backend.local_addr().unwrap();
        let tally = Tally::default();
        let mut record = Record::new(&tally);
        let stream = Stream { flows: 1, window: 1, size: SIZE };
        let mut flow = Flow::open(target, stream, &Poll::new().unwrap(), 0).unwrap();
        assert_eq!(flow.under_way(), 1);
        let mut first = [0; SIZE];
        backend.recv(&mut first).unwrap();
        assert_eq!(flow.give_up(Instant::now() + 2 * LOST), 1);
        flow.fill().unwrap();
        let mut second = [0; SIZE];
        backend.recv(&mut second).unwrap();
        flow.take(&first, &mut record);
        assert_eq!(flow.under_way(), 1);
        flow.take(&second, &mut record);
        assert_eq!(flow.under_way(), 0);
        record.tell();
        assert_eq!(tally.done(), 1);
    }
}
