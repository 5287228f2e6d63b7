//! Readiness: a thin layer over epoll(7), edge-triggered.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;

/// What an event belongs to. Packed into the 64 bits that epoll hands back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Commands wait.
    Mailbox,
    /// A TCP socket that listens, by its slot.
    TcpListener(u32),
    /// The client's side of a TCP session.
    TcpDownstream(SlotId),
    /// The endpoint's side of a TCP session.
    TcpUpstream(SlotId),
    /// A UDP socket that listens, by a number of the UDP module's choice.
    UdpListener(u32),
    /// A UDP socket toward an endpoint, by a number of the UDP module's choice.
    UdpUpstream(u32),
}

/// A slot of a [`Slab`](crate::slab::Slab), and which of its tenants in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    /// 28 bits.
    pub(crate) generation: u32,
}

impl SlotId {
    pub(crate) const GENERATIONS: u32 = 1 << 28;

    fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 & (Self::GENERATIONS - 1) }
    }
}

impl Token {
    const KIND_SHIFT: u32 = 60;
    const PAYLOAD: u64 = (1 << Self::KIND_SHIFT) - 1;

    fn to_bits(self) -> u64 {
        let (kind, payload) = match self {
            Self::Mailbox => (0, 0),
            Self::TcpListener(slot) => (1, u64::from(slot)),
            Self::TcpDownstream(id) => (2, id.to_bits()),
            Self::TcpUpstream(id) => (3, id.to_bits()),
            Self::UdpListener(slot) => (4, u64::from(slot)),
            Self::UdpUpstream(number) => (5, u64::from(number)),
        };
        kind << Self::KIND_SHIFT | payload
    }

    fn from_bits(bits: u64) -> Self {
        let payload = bits & Self::PAYLOAD;
        match bits >> Self::KIND_SHIFT {
            1 => Self::TcpListener(payload as u32),
            2 => Self::TcpDownstream(SlotId::from_bits(payload)),
            3 => Self::TcpUpstream(SlotId::from_bits(payload)),
            4 => Self::UdpListener(payload as u32),
            5 => Self::UdpUpstream(payload as u32),
            _ => Self::Mailbox,
        }
    }
}

/// What an event says of its descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness(epoll::EventFlags);

impl Readiness {
    /// There is something to read: data, the end, or an error.
    pub(crate) fn readable(self) -> bool {
        use epoll::EventFlags as F;
        self.0.intersects(F::IN | F::RDHUP | F::PRI | F::HUP | F::ERR)
    }

    /// A write may get further than before, if only to an error.
    pub(crate) fn writable(self) -> bool {
        use epoll::EventFlags as F;
        self.0.intersects(F::OUT | F::HUP | F::ERR)
    }

    /// The peer sent its end, or there is urgent data: a short read doesn't mean that the receive
    /// queue is empty.
    pub(crate) fn read_to_the_end(self) -> bool {
        use epoll::EventFlags as F;
        self.0.intersects(F::RDHUP | F::PRI | F::HUP | F::ERR)
    }

    /// The socket is in error, to be had by `SO_ERROR`.
    pub(crate) fn error(self) -> bool {
        self.0.contains(epoll::EventFlags::ERR)
    }
}

/// Which edges a descriptor is watched for; errors and hang-ups always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// More to read.
    Read,
    /// More to read, and room to write again.
    ReadWrite,
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        use epoll::EventFlags as F;
        let read = F::IN | F::RDHUP | F::PRI | F::ET;
        match self {
            Self::Read => read,
            Self::ReadWrite => read | F::OUT,
        }
    }
}

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches `fd` from now on; what it is ready for already is reported too. Closing it ends the
    /// watch.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token.to_bits());
        epoll::add(&self.epoll, fd, data, interest.flags())
    }

    /// Changes what `fd` is watched for; what it is ready for already is reported again.
    pub(crate) fn modify(
        &self,
        fd: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token.to_bits());
        epoll::modify(&self.epoll, fd, data, interest.flags())
    }

    /// Watches `fd` no longer, though it stays open.
    pub(crate) fn remove(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.epoll, fd)
    }

    /// Waits for events, for `timeout` at most, and puts them in place of what `events` held.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        events.0.clear();
        let spare = rustix::buffer::spare_capacity(&mut events.0);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Room for the events of one wait.
pub(crate) struct Events(Vec<epoll::Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, index: usize) -> (Token, Readiness) {
        let event = self.0[index];
        (Token::from_bits(event.data.u64()), Readiness(event.flags))
    }
}
