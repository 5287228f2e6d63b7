//! All the workers, as one of them sees them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use l4way_proxy_core::{Allowance, Descriptors, MakeRoom};

use crate::{mailbox::Sender, worker::Command};

/// Descriptors of a session.
const DESCRIPTORS: usize = 2;

/// The ways to all workers.
#[derive(Debug)]
pub(crate) struct Ring {
    mailboxes: Vec<Sender<Command>>,
    /// Whom somebody else asks next.
    next: AtomicUsize,
}

impl Ring {
    pub(crate) fn new(mailboxes: Vec<Sender<Command>>) -> Self {
        Self { mailboxes, next: AtomicUsize::new(0) }
    }
}

impl MakeRoom for Ring {
    fn make_room(&self) -> bool {
        let count = self.mailboxes.len();
        let first = self.next.fetch_add(1, Relaxed) % count;
        // One that has ended has no clients.
        self.mailboxes[first].send(Command::MakeRoom { others: count - 1 }).is_ok()
    }
}

/// All the workers, seen by one of them.
#[derive(Debug)]
pub(crate) struct Peers {
    ring: Arc<Ring>,
    me: usize,
}

impl Peers {
    pub(crate) fn new(ring: Arc<Ring>, me: usize) -> Self {
        Self { ring, me }
    }

    /// A place at the worker that should take a new connection: this one, unless another has clearly less
    /// to do, as handing over isn't free, or this one has no room. `None` if nobody has room.
    pub(super) fn place(&self, allowance: &Allowance) -> Option<Descriptors> {
        let (me, used) = (self.me, |worker| allowance.used_of(worker));
        let (mine, count) = (used(me), self.ring.mailboxes.len());
        let least = (0..count).min_by_key(|&worker| used(worker)).unwrap_or(me);
        let other = used(least);
        let order = if mine > other + other / 8 { [least, me] } else { [me, least] };
        let mut order = order.into_iter();
        order.find_map(|worker| allowance.take_of(worker, DESCRIPTORS))
    }

    /// Leaves a worker a message; gives it back if that one has ended.
    pub(super) fn send(&self, worker: usize, command: Command) -> Result<(), Command> {
        self.ring.mailboxes[worker].send(command)
    }

    /// Asks the next worker, and through it so many in all, to have a client leave. False if there is none.
    pub(super) fn ask(&self, others: usize) -> bool {
        let Some(others) = others.checked_sub(1) else { return false };
        let next = (self.me + 1) % self.ring.mailboxes.len();
        self.send(next, Command::MakeRoom { others }).is_ok()
    }

    /// How many there are beside this one.
    pub(super) fn others(&self) -> usize {
        self.ring.mailboxes.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use l4way_proxy_core::{BudgetKind, DescriptorBudget};

    use super::*;
    use crate::mailbox::mailbox;

    /// Two workers with room for `room` sessions each and with these numbers of them, seen by the
    /// first.
    fn peers(room: usize, mine: usize, other: usize) -> (Peers, Allowance, Vec<Descriptors>) {
        let mailboxes = [(); 2].map(|()| mailbox().unwrap().0);
        let two = NonZeroUsize::new(2).unwrap();
        let allowance = DescriptorBudget::new(2 * room * DESCRIPTORS, two).allow(BudgetKind::Tcp);
        let take = |worker| allowance.take_of(worker, DESCRIPTORS).unwrap();
        let mine = (0..mine).map(|_| take(0));
        let places = mine.chain((0..other).map(|_| take(1))).collect();
        (Peers::new(Arc::new(Ring::new(mailboxes.into())), 0), allowance, places)
    }

    fn placed((peers, allowance, _): &(Peers, Allowance, Vec<Descriptors>)) -> Option<usize> {
        peers.place(allowance).map(|place| place.worker())
    }

    #[test]
    fn a_connection_goes_to_a_worker_with_clearly_fewer_sessions() {
        let placed = |mine, other| placed(&peers(1_000, mine, other));
        assert_eq!(placed(0, 0), Some(0));
        assert_eq!(placed(1, 0), Some(1));
        assert_eq!(placed(0, 1), Some(0));
        assert_eq!(placed(100, 99), Some(0));
        assert_eq!(placed(100, 80), Some(1));
    }

    #[test]
    fn a_worker_without_room_places_connections_where_there_is_some() {
        assert_eq!(placed(&peers(100, 100, 99)), Some(1));
        assert_eq!(placed(&peers(100, 100, 100)), None);
    }

    #[test]
    fn a_place_is_taken_while_it_lasts() {
        let (peers, allowance, _) = peers(1, 0, 0);
        let places = [peers.place(&allowance), peers.place(&allowance)];
        assert!(places.iter().all(Option::is_some));
        assert!(peers.place(&allowance).is_none());
        drop(places);
        assert!(peers.place(&allowance).is_some());
    }
}
