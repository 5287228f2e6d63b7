//! Trains: datagrams that go out in one message.

use std::io::IoSlice;

use smallvec::SmallVec;

use super::sys::{BATCH, Message};

/// The most bytes in a train of several datagrams: with its headers it must be a valid IP packet.
const MAX_BYTES: usize = 65_487;
/// The most datagrams in a train (the kernel's `UDP_MAX_SEGMENTS`).
const MAX_DATAGRAMS: u64 = 64;

/// Datagrams of one length, but for the last one, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Train {
    /// Which of the parts it is made of: the first one, and the one after the last.
    pub(super) parts: (usize, usize),
    /// The length of its datagrams.
    segment: usize,
    /// How long all of them are.
    pub(super) bytes: usize,
    /// How many there are.
    pub(super) datagrams: u64,
    /// The index of the first of the messages that it is made of.
    pub(super) message: usize,
}

impl Train {
    /// The length to cut the parts at, laid end to end; `None` if they are a single datagram.
    pub(super) fn cut(&self) -> Option<u16> {
        u16::try_from(self.segment).ok().filter(|_| self.datagrams > 1)
    }

    /// Whether datagrams may follow: none of those there are is shorter than the others.
    fn is_open(&self) -> bool {
        self.bytes > 0 && self.bytes.is_multiple_of(self.segment)
    }

    /// Appends `other` if it fits.
    fn couple(&mut self, other: &Self) -> bool {
        let last = other.datagrams == 1 && (1..self.segment).contains(&other.bytes);
        let fits = self.is_open()
            && (other.segment == self.segment || last)
            && self.bytes + other.bytes <= MAX_BYTES
            && self.datagrams + other.datagrams <= MAX_DATAGRAMS;
        if fits {
            self.parts.1 = other.parts.1;
            self.bytes += other.bytes;
            self.datagrams += other.datagrams;
        }
        fits
    }
}

/// Trains to send with one call.
#[derive(Debug)]
pub(super) struct Trains<'a> {
    parts: SmallVec<[IoSlice<'a>; BATCH]>,
    trains: SmallVec<[Train; BATCH]>,
}

impl<'a> Trains<'a> {
    pub(super) fn new() -> Self {
        Self { parts: SmallVec::new(), trains: SmallVec::new() }
    }

    /// Whether there is no room for another message.
    pub(super) fn is_full(&self) -> bool {
        self.parts.len() == BATCH
    }

    /// The payloads.
    pub(super) fn parts(&self) -> &[IoSlice<'a>] {
        &self.parts
    }

    /// How the payloads go out.
    pub(super) fn as_slice(&self) -> &[Train] {
        &self.trains
    }

    /// Adds the message of this index, if `couple` to the last train, where it fits there.
    pub(super) fn push(&mut self, index: usize, message: &Message<'a>, couple: bool) {
        let bytes = message.bytes.len();
        let part = self.parts.len();
        self.parts.push(IoSlice::new(message.bytes));
        let train = Train {
            parts: (part, part + 1),
            segment: if message.segment == 0 { bytes } else { message.segment },
            bytes,
            datagrams: message.datagrams(),
            message: index,
        };
        let last = self.trains.last_mut();
        if !last.is_some_and(|last| couple && last.couple(&train)) {
            self.trains.push(train);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trains of messages of these lengths (and segments), as datagrams in each.
    fn couple(messages: &[(usize, usize)]) -> Vec<u64> {
        let payload = [0; 65_507];
        let mut trains = Trains::new();
        for (index, &(length, segment)) in messages.iter().enumerate() {
            let message = Message { bytes: &payload[..length], segment, peer: None, local: None };
            trains.push(index, &message, true);
        }
        trains.as_slice().iter().map(|train| train.datagrams).collect()
    }

    #[test]
    fn datagrams_of_one_length_make_a_train_that_a_shorter_one_ends() {
        assert_eq!(couple(&[(100, 0), (100, 0), (100, 0)]), [3]);
        assert_eq!(couple(&[(100, 0), (40, 0), (100, 0)]), [2, 1]);
        assert_eq!(couple(&[(40, 0), (100, 0), (100, 0)]), [1, 2]);
        assert_eq!(couple(&[(100, 0), (40, 0), (40, 0)]), [2, 1]);
    }

    #[test]
    fn an_empty_datagram_goes_alone() {
        assert_eq!(couple(&[(0, 0), (0, 0), (7, 0), (0, 0), (7, 0)]), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn what_the_kernel_has_joined_stays_so_and_is_continued() {
        assert_eq!(couple(&[(300, 100), (100, 0), (200, 100), (50, 0)]), [7]);
        assert_eq!(couple(&[(250, 100), (100, 0)]), [3, 1]);
        assert_eq!(couple(&[(100, 0), (250, 100), (150, 75)]), [4, 2]);
    }

    #[test]
    fn a_train_has_its_limits() {
        assert_eq!(couple(&[(64, 1), (1, 0)]), [64, 1]);
        assert_eq!(couple(&[(30_000, 0), (30_000, 0), (30_000, 0)]), [2, 1]);
        assert_eq!(couple(&[(65_507, 0)]), [1]);
    }
}
