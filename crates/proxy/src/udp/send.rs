//! Sends a run of messages that belong to one session with as few system calls, and as few passes
//! through the kernel's stack, as they allow.

use std::{io::IoSlice, os::fd::BorrowedFd};

use rustix::io::Errno;

use super::sys::{self, BATCH, Destination, Inbox, Message, Train};

/// The most bytes in a train: with its headers it must be a valid IP packet.
const TRAIN_BYTES: u64 = 65_487;
/// The most datagrams in a train (the kernel's `UDP_MAX_SEGMENTS`).
const TRAIN_DATAGRAMS: u64 = 64;

/// Which messages of an [`Inbox`] go the same way: one bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run(u32);

const _: () = assert!(BATCH == u32::BITS as usize);

impl Run {
    pub(super) const NONE: Self = Self(0);

    /// The first `count` messages.
    pub(super) fn first(count: usize) -> Self {
        Self(u32::MAX.checked_shr((BATCH - count.min(BATCH)) as u32).unwrap_or(0))
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn filter(self, wanted: impl Fn(usize) -> bool) -> Self {
        let wanted = self.indices().filter(|&index| wanted(index));
        Self(wanted.fold(0, |bits, index| bits | 1 << index))
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn from(self, index: usize) -> Self {
        Self(self.0 & u32::MAX << index)
    }

    /// The messages' indices, in the order in which they were received.
    pub(super) fn indices(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let index = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (index < BATCH).then_some(index)
        })
    }
}

/// What became of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    /// Datagrams that the kernel would not send.
    pub(super) dropped: u64,
    /// Messages that weren't sent because an ICMP error came from the receiver, or for lack of a
    /// way to it.
    pub(super) undeliverable: Run,
}

/// One direction of a session.
#[derive(Debug)]
pub(super) struct Path<'a> {
    pub(super) socket: BorrowedFd<'a>,
    /// None if the socket is connected.
    pub(super) destination: Option<Destination>,
    /// Whether datagrams may go out in trains. Cleared if the kernel can't send them so: those that
    /// are longer than the path's MTU.
    pub(super) trains: &'a mut bool,
}

impl Path<'_> {
    /// Sends `run`.
    pub(super) fn send(mut self, inbox: &Inbox, run: Run) -> Outcome {
        let mut outcome = Outcome { datagrams: 0, bytes: 0, dropped: 0, undeliverable: Run::NONE };
        let mut batch = Batch::new();
        for index in run.indices() {
            let message = inbox.message(index);
            let join = *self.trains;
            let length = if join || message.segment == 0 { usize::MAX } else { message.segment };
            let mut rest = message.bytes;
            loop {
                let (bytes, after) = rest.split_at(rest.len().min(length));
                let segment = if join { message.segment } else { 0 };
                if batch.is_full() {
                    self.flush(&mut batch, run, &mut outcome);
                }
                batch.push(index, Message { bytes, segment, ..message }, join);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
        }
        self.flush(&mut batch, run, &mut outcome);
        outcome
    }

    fn flush(&mut self, batch: &mut Batch<'_>, run: Run, outcome: &mut Outcome) {
        let mut done = 0;
        while done < batch.trains && outcome.undeliverable.is_empty() {
            let parts = &batch.parts[..batch.used];
            let left = &batch.cuts[done..batch.trains];
            match sys::send(self.socket, self.destination.as_ref(), parts, left) {
                Ok(sent) => {
                    for cargo in &batch.cargo[done..done + sent] {
                        outcome.datagrams += cargo.datagrams;
                        outcome.bytes += cargo.bytes;
                    }
                    done += sent.max(1);
                }
                Err(error) => {
                    let (cut, cargo) = (batch.cuts[done], batch.cargo[done]);
                    match Failure::of(error, cut.segment.is_some()) {
                        Failure::Interrupted => continue,
                        Failure::Train => {
                            *self.trains = false;
                            self.send_one_by_one(parts, cut, outcome);
                        }
                        Failure::Full => {
                            let left = &batch.cargo[done..batch.trains];
                            outcome.dropped += left.iter().map(|c| c.datagrams).sum::<u64>();
                            break;
                        }
                        Failure::Datagram => outcome.dropped += cargo.datagrams,
                        Failure::Receiver => outcome.undeliverable = run.from(cargo.message),
                    }
                    done += 1;
                }
            }
        }
        *batch = Batch::new();
    }

    /// Sends a train's datagrams, each as a message.
    fn send_one_by_one(&self, parts: &[IoSlice<'_>], cut: Train, outcome: &mut Outcome) {
        let segment = usize::from(cut.segment.unwrap_or(u16::MAX));
        let parts = &parts[cut.parts.0..cut.parts.1];
        for datagram in parts.iter().flat_map(|part| part.chunks(segment)) {
            let part = [IoSlice::new(datagram)];
            let train = [Train { parts: (0, 1), segment: None }];
            match sys::send(self.socket, self.destination.as_ref(), &part, &train) {
                Ok(_) => {
                    outcome.datagrams += 1;
                    outcome.bytes += datagram.len() as u64;
                }
                Err(_) => outcome.dropped += 1,
            }
        }
    }
}

/// What an error in sending concerns.
enum Failure {
    Interrupted,
    /// The train, the datagrams of which may go out alone.
    Train,
    /// Every datagram: there is no room for more now.
    Full,
    /// This datagram only: too long, forbidden, …
    Datagram,
    /// The receiver.
    Receiver,
}

impl Failure {
    fn of(error: Errno, is_train: bool) -> Self {
        match error {
            Errno::INTR => Self::Interrupted,
            Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => Self::Full,
            Errno::INVAL | Errno::IO | Errno::MSGSIZE if is_train => Self::Train,
            error if is_from_receiver(error) => Self::Receiver,
            _ => Self::Datagram,
        }
    }
}

/// Whether an error comes from an ICMP message, or from there being no way to the receiver at all.
pub(super) fn is_from_receiver(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::PROTO
    )
}

/// Trains that wait to be sent.
struct Batch<'a> {
    parts: [IoSlice<'a>; BATCH],
    used: usize,
    cuts: [Train; BATCH],
    cargo: [Cargo; BATCH],
    trains: usize,
}

/// What is in a train.
#[derive(Clone, Copy)]
struct Cargo {
    /// The first message's index.
    message: usize,
    datagrams: u64,
    bytes: u64,
    /// The length of its datagrams, until one is shorter; then none may follow.
    segment: usize,
    open: bool,
}

impl<'a> Batch<'a> {
    fn new() -> Self {
        let cargo = Cargo { message: 0, datagrams: 0, bytes: 0, segment: 0, open: false };
        Self {
            parts: [IoSlice::new(&[]); BATCH],
            used: 0,
            cuts: [Train { parts: (0, 0), segment: None }; BATCH],
            cargo: [cargo; BATCH],
            trains: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.used == BATCH
    }

    /// Adds a message, to the last train if it may and fits.
    fn push(&mut self, index: usize, message: Message<'a>, join: bool) {
        let bytes = message.bytes.len();
        let segment = if message.segment == 0 { bytes } else { message.segment };
        let datagrams = message.datagrams();
        let is_full = bytes > 0 && bytes.is_multiple_of(segment);
        self.parts[self.used] = IoSlice::new(message.bytes);
        self.used += 1;
        let last = self.trains.wrapping_sub(1);
        if let Some(train) = self.cargo.get_mut(last).filter(|_| join)
            && train.open
            && (segment == train.segment || (datagrams == 1 && (1..train.segment).contains(&bytes)))
            && train.bytes + bytes as u64 <= TRAIN_BYTES
            && train.datagrams + datagrams <= TRAIN_DATAGRAMS
        {
            train.datagrams += datagrams;
            train.bytes += bytes as u64;
            train.open = is_full && segment == train.segment;
            self.cuts[last] = Train {
                parts: (self.cuts[last].parts.0, self.used),
                segment: u16::try_from(train.segment).ok(),
            };
            return;
        }
        let cut = u16::try_from(segment).ok().filter(|_| datagrams > 1);
        self.cuts[self.trains] = Train { parts: (self.used - 1, self.used), segment: cut };
        self.cargo[self.trains] =
            Cargo { message: index, datagrams, bytes: bytes as u64, segment, open: is_full };
        self.trains += 1;
    }
}
