//! Sends a run of messages that belong to one session with as few system calls, and as few passes
//! through the kernel's stack, as they allow.

use std::{io::IoSlice, os::fd::BorrowedFd};

use rustix::io::Errno;

use super::{
    sys::{self, BATCH, Destination, Inbox, Message},
    train::{Train, Trains},
};

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

    fn starting_at(self, index: usize) -> Self {
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

impl Outcome {
    fn add(&mut self, train: &Train) {
        self.datagrams += train.datagrams;
        self.bytes += train.bytes as u64;
    }
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
        let mut trains = Trains::new();
        for index in run.indices() {
            let message = inbox.message(index);
            if *self.trains {
                trains.push(index, &message, true);
                continue;
            }
            for message in message.split() {
                if trains.is_full() {
                    self.flush(&trains, run, &mut outcome);
                    trains = Trains::new();
                }
                trains.push(index, &message, false);
            }
        }
        self.flush(&trains, run, &mut outcome);
        outcome
    }

    fn flush(&mut self, trains: &Trains<'_>, run: Run, outcome: &mut Outcome) {
        let mut left = trains.as_slice();
        while let Some((first, rest)) = left.split_first()
            && outcome.undeliverable.is_empty()
        {
            let sent = sys::send(self.socket, self.destination.as_ref(), trains.parts(), left);
            match sent.map_err(|error| Failure::of(error, first)) {
                Ok(count) => {
                    let (sent, unsent) = left.split_at(count);
                    sent.iter().for_each(|train| outcome.add(train));
                    left = unsent;
                    continue;
                }
                Err(Failure::Interrupted) => continue,
                Err(Failure::Full) => {
                    outcome.dropped += left.iter().map(|train| train.datagrams).sum::<u64>();
                    return;
                }
                Err(Failure::Train) => {
                    *self.trains = false;
                    self.send_one_by_one(trains.parts(), first, outcome);
                }
                Err(Failure::Datagram) => outcome.dropped += first.datagrams,
                Err(Failure::Receiver) => outcome.undeliverable = run.starting_at(first.message),
            }
            left = rest;
        }
    }

    /// Sends a train's datagrams, each as a message.
    fn send_one_by_one(&self, parts: &[IoSlice<'_>], train: &Train, outcome: &mut Outcome) {
        let length = train.cut().map_or(usize::MAX, usize::from);
        let parts = &parts[train.parts.0..train.parts.1];
        for datagram in parts.iter().flat_map(|part| part.chunks(length)) {
            let mut single = Trains::new();
            single.push(train.message, &Message::single(datagram), false);
            let destination = self.destination.as_ref();
            match sys::send(self.socket, destination, single.parts(), single.as_slice()) {
                Ok(_) => single.as_slice().iter().for_each(|train| outcome.add(train)),
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
    fn of(error: Errno, train: &Train) -> Self {
        match error {
            Errno::INTR => Self::Interrupted,
            Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => Self::Full,
            Errno::INVAL | Errno::IO | Errno::MSGSIZE if train.cut().is_some() => Self::Train,
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

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let (from, to) = (socket(), socket());
        from.connect(to.local_addr().expect("bound")).expect("loopback");
        (from, to)
    }

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a valid timeout");
        socket
    }

    fn receive(inbox: &mut Inbox, socket: &UdpSocket) {
        // Waits, which the inbox doesn't.
        socket.peek(&mut [0]).expect("a datagram in time");
        inbox.receive(socket.as_fd()).expect("a datagram");
    }

    fn send(socket: &UdpSocket, trains: &mut bool, inbox: &Inbox) -> Outcome {
        let path = Path { socket: socket.as_fd(), destination: None, trains };
        path.send(inbox, Run::first(inbox.len()))
    }

    fn assert_received(socket: &UdpSocket, lengths: &[usize]) {
        for &length in lengths {
            let received = socket.recv(&mut [0; 2_048]).expect("a datagram in time");
            assert_eq!(received, length);
        }
    }

    #[test]
    fn datagrams_go_on_as_they_came_in_trains_and_without() {
        const LENGTHS: [usize; 6] = [200, 200, 200, 50, 0, 70];
        let (client, front) = pair();
        let (back, endpoint) = pair();
        for mut trains in [true, false] {
            let mut inbox = Inbox::new();
            for length in LENGTHS {
                client.send(&[1; 200][..length]).expect("sent");
            }
            receive(&mut inbox, &front);
            let outcome = send(&back, &mut trains, &inbox);
            assert_eq!((outcome.datagrams, outcome.bytes, outcome.dropped), (6, 720, 0));
            assert_received(&endpoint, &LENGTHS);
        }
    }

    #[test]
    fn what_came_joined_goes_on_as_single_datagrams() {
        let (client, front) = pair();
        sys::receive_joined(front.as_fd()).expect("Linux has it since 5.0");
        let (back, endpoint) = pair();
        for mut trains in [true, false] {
            let mut inbox = Inbox::new();
            let payload = [1; 1_050];
            let mut joined = Trains::new();
            let message = Message { segment: 100, ..Message::single(&payload) };
            joined.push(0, &message, true);
            sys::send(client.as_fd(), None, joined.parts(), joined.as_slice()).expect("sent");
            receive(&mut inbox, &front);
            assert_eq!((inbox.len(), inbox.message(0).datagrams()), (1, 11));
            let outcome = send(&back, &mut trains, &inbox);
            assert_eq!((outcome.datagrams, outcome.bytes, outcome.dropped), (11, 1_050, 0));
            assert_received(&endpoint, &[[100; 10].as_slice(), &[50]].concat());
        }
    }

    #[test]
    fn a_train_that_the_kernel_refuses_goes_out_as_single_datagrams() {
        let (client, front) = pair();
        let (back, endpoint) = pair();
        sys::refuse_trains(back.as_fd()).expect("Linux has it since 2.6");
        let mut inbox = Inbox::new();
        for length in [7, 100, 100, 30, 8] {
            client.send(&[1; 100][..length]).expect("sent");
        }
        receive(&mut inbox, &front);
        let mut trains = true;
        let outcome = send(&back, &mut trains, &inbox);
        assert_eq!((outcome.datagrams, outcome.bytes, outcome.dropped), (5, 245, 0));
        assert_received(&endpoint, &[7, 100, 100, 30, 8]);
        assert!(!trains, "it isn't tried again");
    }

    #[test]
    fn a_receiver_that_is_gone_leaves_the_rest_undeliverable() {
        let (client, front) = pair();
        let (back, endpoint) = pair();
        drop(endpoint);
        let mut inbox = Inbox::new();
        client.send(b"1").expect("sent");
        receive(&mut inbox, &front);
        let mut trains = true;
        // The first one brings the ICMP message that the second one meets.
        assert!(send(&back, &mut trains, &inbox).undeliverable.is_empty());
        assert_eq!(send(&back, &mut trains, &inbox).undeliverable, Run::first(1));
    }

    #[test]
    fn a_run_is_a_set_in_order() {
        let run = Run::first(5).filter(|index| index != 2);
        assert_eq!(run.indices().collect::<Vec<_>>(), [0, 1, 3, 4]);
        assert_eq!(run.starting_at(3).indices().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(Run::first(5).without(run).indices().collect::<Vec<_>>(), [2]);
        assert!(Run::first(0).is_empty());
        assert_eq!(Run::first(BATCH).indices().count(), BATCH);
    }
}
