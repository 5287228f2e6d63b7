//! Descriptors, and the shares of them that listeners may take.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The part of the descriptors that only listeners may take which have few: one in so many.
const RESERVE: usize = 8;
/// Descriptors of a TCP session: a listener's own share is no use if it is less.
const LEAST: usize = 2;

/// Kind of taker of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetKind {
    /// TCP and TLS listeners, with the clients of HTTPS that they accept: two for a session.
    Tcp,
    /// UDP listeners: one for a session.
    Udp,
    /// HTTP listeners, and connections to endpoints of HTTP and HTTPS.
    Http,
}

impl BudgetKind {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Http];
}

/// Carrier that can have idle clients leave where others want to come.
pub trait MakeRoom: fmt::Debug + Send + Sync {
    /// Has one client leave that may have to. False if it is known that there is none. It doesn't block.
    fn make_room(&self) -> bool;
}

/// The descriptors that sessions may use: one budget for TCP, TLS, UDP and HTTP, and for their sockets
/// toward endpoints.
///
/// Each worker has a pool of it, so that taking and giving back are a few relaxed atomic additions to
/// memory that mostly stays with one core. Whose pool is empty may take of the others', too.
///
/// So that nobody takes the last from everybody else, an eighth of each pool is divided into shares: among
/// TCP, UDP and HTTP, as far as they have listeners, and each one's part among its listeners. A listener
/// that has less than its share may take as long as there is a descriptor at all; whoever has more may
/// not take what would be left of the others' shares if they had nothing. So what is used is never more
/// than seven eighths and what each has within its share, and each always gets its share. Where listeners
/// are so many that a share would be less than a session's descriptors, all of a kind have one together.
#[derive(Debug)]
pub struct DescriptorBudget {
    pools: Box<[Arc<DescriptorPool>]>,
    listeners: Mutex<Vec<Listener>>,
    /// The workers, and who serves HTTP.
    sessions: OnceLock<Arc<dyn MakeRoom>>,
    http: OnceLock<Arc<dyn MakeRoom>>,
}

/// A listener that a share is kept for, as long as it is there.
#[derive(Debug)]
struct Listener {
    kind: BudgetKind,
    /// One for each pool.
    shares: Weak<[Arc<Share>]>,
}

/// One worker's part of a [`DescriptorBudget`].
#[derive(Debug)]
#[repr(align(128))]
pub struct DescriptorPool {
    limit: usize,
    /// Descriptors that are in nobody's share.
    common: AtomicUsize,
    used: AtomicUsize,
    kinds: [Few; BudgetKind::ALL.len()],
}

/// Number of descriptors that somebody has, and of those that are kept for him.
#[derive(Debug, Default)]
struct Few {
    used: AtomicUsize,
    own: AtomicUsize,
}

impl Few {
    fn own(&self) -> usize {
        self.own.load(Relaxed)
    }

    fn has_room(&self, count: usize) -> bool {
        self.used.load(Relaxed) + count <= self.own()
    }
}

/// Part of one pool that a listener has, and may have.
#[derive(Debug)]
#[repr(align(64))]
struct Share {
    pool: Arc<DescriptorPool>,
    worker: usize,
    kind: BudgetKind,
    of_listener: Few,
}

/// A listener's way to descriptors. While it is there, its share is kept for it.
#[derive(Debug)]
pub struct Allowance {
    all: Arc<[Arc<Share>]>,
    budget: Weak<DescriptorBudget>,
}

/// Descriptors that are taken, until this is dropped.
#[derive(Debug)]
pub struct Descriptors {
    share: Arc<Share>,
    count: u32,
}

impl DescriptorBudget {
    /// A budget of so many descriptors, with a pool for each worker.
    pub fn new(descriptors: usize, workers: NonZeroUsize) -> Arc<Self> {
        let limit = descriptors / workers;
        let pool = |_| Arc::new(DescriptorPool::new(limit));
        Arc::new(Self {
            pools: (0..workers.get()).map(pool).collect(),
            listeners: Mutex::default(),
            sessions: OnceLock::new(),
            http: OnceLock::new(),
        })
    }

    /// A worker's pool.
    ///
    /// # Panics
    /// If there are not so many workers.
    pub fn pool(&self, worker: usize) -> &Arc<DescriptorPool> {
        &self.pools[worker]
    }

    /// Descriptors that there are.
    pub fn descriptors(&self) -> usize {
        self.pools.iter().map(|pool| pool.limit).sum()
    }

    /// Descriptors that are taken.
    pub fn used(&self) -> usize {
        self.pools.iter().map(|pool| pool.used()).sum()
    }

    /// Lets a listener take descriptors, and keeps a share for it.
    pub fn allow(self: &Arc<Self>, kind: BudgetKind) -> Allowance {
        let allowance = self.allow_without_share(kind);
        let shares = Arc::downgrade(&allowance.all);
        self.listeners().push(Listener { kind, shares });
        self.divide();
        allowance
    }

    /// Lets somebody take descriptors who isn't a listener: no share is kept.
    pub fn allow_without_share(self: &Arc<Self>, kind: BudgetKind) -> Allowance {
        let share = |(worker, pool): (usize, &Arc<DescriptorPool>)| {
            Arc::new(Share { pool: pool.clone(), worker, kind, of_listener: Few::default() })
        };
        let all = self.pools.iter().enumerate().map(share).collect();
        Allowance { all, budget: Arc::downgrade(self) }
    }

    /// Says who can have the clients of workers leave.
    pub fn set_sessions(&self, sessions: Arc<dyn MakeRoom>) {
        // There is one proxy to a budget.
        let _ = self.sessions.set(sessions);
    }

    /// Says who can have the clients of HTTP leave.
    pub fn set_http(&self, http: Arc<dyn MakeRoom>) {
        // There is one proxy to a budget.
        let _ = self.http.set(http);
    }

    /// Has a client leave that may have to: a worker's; if they have none, one of HTTP. The place may be
    /// free a moment later.
    pub fn ask_for_room(&self) {
        // If nobody may have to leave, there is nothing else to be done.
        let _ = match self.sessions.get() {
            Some(sessions) => sessions.make_room(),
            None => self.ask_http(),
        };
    }

    /// The workers have nobody who may have to leave. Whether HTTP has.
    pub fn ask_http(&self) -> bool {
        self.http.get().is_some_and(|http| http.make_room())
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Divides the reserve anew among the listeners that there are.
    fn divide(&self) {
        let mut listeners = self.listeners();
        listeners.retain(|listener| listener.shares.strong_count() > 0);
        let count = |kind| listeners.iter().filter(|listener| listener.kind == kind).count();
        let counts = BudgetKind::ALL.map(count);
        let kinds = counts.iter().filter(|&&count| count > 0).count();
        for (worker, pool) in self.pools.iter().enumerate() {
            let of_kind = pool.limit / RESERVE / kinds.max(1);
            let own = counts.map(|count| match count {
                0 => 0,
                count => Some(of_kind / count).filter(|own| *own >= LEAST).unwrap_or(0),
            });
            let mut kept = 0;
            for kind in BudgetKind::ALL {
                let (count, own) = (counts[kind as usize], own[kind as usize]);
                let together = if count > 0 && own == 0 { of_kind } else { 0 };
                pool.kinds[kind as usize].own.store(together, Relaxed);
                kept += own * count + together;
            }
            pool.common.store(pool.limit - kept, Relaxed);
            for Listener { kind, shares } in listeners.iter() {
                let Some(shares) = shares.upgrade() else { continue };
                shares[worker].of_listener.own.store(own[*kind as usize], Relaxed);
            }
        }
    }
}

impl DescriptorPool {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            common: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            kinds: Default::default(),
        }
    }

    /// Descriptors that there are.
    #[inline]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Descriptors that are taken.
    #[inline]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// True if so many are free for whoever comes.
    #[inline]
    pub fn has_free(&self, count: usize) -> bool {
        self.used() + count <= self.common.load(Relaxed)
    }
}

impl Share {
    #[inline]
    fn take(self: &Arc<Self>, count: usize) -> Option<Descriptors> {
        let Self { pool, of_listener, kind, .. } = &**self;
        let of_kind = &pool.kinds[*kind as usize];
        let limit = match of_listener.has_room(count) || of_kind.has_room(count) {
            true => pool.limit,
            false => pool.common.load(Relaxed) + of_listener.own() + of_kind.own(),
        };
        let taken = |used| Some(used + count).filter(|used| *used <= limit);
        pool.used.fetch_update(Relaxed, Relaxed, taken).ok()?;
        self.note(count);
        Some(Descriptors { share: self.clone(), count: count as u32 })
    }

    /// Counts descriptors that are taken as the listener's.
    #[inline]
    fn note(&self, count: usize) {
        self.of_listener.used.fetch_add(count, Relaxed);
        self.pool.kinds[self.kind as usize].used.fetch_add(count, Relaxed);
    }

    #[inline]
    fn forget(&self, count: usize) {
        self.of_listener.used.fetch_sub(count, Relaxed);
        self.pool.kinds[self.kind as usize].used.fetch_sub(count, Relaxed);
    }

    #[inline]
    fn give_back(&self, count: usize) {
        self.forget(count);
        self.pool.used.fetch_sub(count, Relaxed);
    }
}

impl Allowance {
    /// Takes descriptors of a worker's pool, or of another one's if that is empty.
    #[inline]
    pub fn take_as(&self, worker: usize, count: usize) -> Option<Descriptors> {
        let (before, from) = self.all.split_at(worker);
        from.iter().chain(before).find_map(|share| share.take(count))
    }

    /// Descriptors of this worker's that are taken, by whomever.
    #[inline]
    pub fn used_of(&self, worker: usize) -> usize {
        self.all[worker].pool.used()
    }

    /// Takes descriptors of this worker's pool.
    #[inline]
    pub fn take_of(&self, worker: usize, count: usize) -> Option<Descriptors> {
        self.all[worker].take(count)
    }

    /// Takes descriptors of whichever pool has most.
    pub fn take(&self, count: usize) -> Option<Descriptors> {
        let used = |share: &&Arc<Share>| share.pool.used();
        let least = self.all.iter().min_by_key(used)?;
        least.take(count).or_else(|| self.take_as(0, count))
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.all = Arc::default();
        if let Some(budget) = self.budget.upgrade() {
            budget.divide();
        }
    }
}

impl Descriptors {
    /// The worker whose descriptors they are.
    #[inline]
    pub fn worker(&self) -> usize {
        self.share.worker
    }

    /// Number of them.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Gives all but `count` back.
    pub fn shrink(&mut self, count: usize) {
        let less = self.count().saturating_sub(count);
        self.share.give_back(less);
        self.count -= less as u32;
    }

    /// From now on they are what this listener has.
    pub fn pass_to(&mut self, allowance: &Allowance) {
        let share = &allowance.all[self.share.worker];
        if Arc::ptr_eq(share, &self.share) {
            return;
        }
        self.share.forget(self.count());
        share.note(self.count());
        self.share = share.clone();
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.share.give_back(self.count());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(descriptors: usize, workers: usize) -> Arc<DescriptorBudget> {
        DescriptorBudget::new(descriptors, NonZeroUsize::new(workers).expect("not none"))
    }

    fn all_of(allowance: &Allowance, count: usize) -> Vec<Descriptors> {
        std::iter::from_fn(|| allowance.take(count)).collect()
    }

    #[test]
    fn nobody_takes_the_last_from_others() {
        let budget = budget(400, 2);
        let [tcp, other] = [(); 2].map(|()| budget.allow(BudgetKind::Tcp));
        let udp = budget.allow(BudgetKind::Udp);
        let held = all_of(&udp, 1);
        // The others' shares are 12 of each pool.
        assert_eq!(held.len(), 400 - 2 * 12);
        for listener in [&tcp, &other] {
            assert!(listener.take(2).is_some());
        }
        let held = (held, all_of(&tcp, 2));
        assert!(other.take(2).is_some());
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn listeners_that_come_and_go_change_the_shares_of_others() {
        let budget = budget(160, 1);
        let one = budget.allow(BudgetKind::Tcp);
        assert_eq!(all_of(&one, 2).len(), 80);
        let many: Vec<_> = (0..100).map(|_| budget.allow(BudgetKind::Http)).collect();
        // Ten of twenty are for HTTP, and ten for the other.
        let held = all_of(&one, 2);
        assert_eq!(held.len(), 75);
        assert_eq!(many.iter().map(|listener| all_of(listener, 2).len()).max(), Some(5));
        drop((held, many));
        assert_eq!(all_of(&one, 2).len(), 80);
    }

    #[test]
    fn an_empty_pool_is_no_limit_while_another_has_some() {
        let budget = budget(20, 2);
        let allowance = budget.allow(BudgetKind::Udp);
        let held: Vec<_> = std::iter::from_fn(|| allowance.take_as(1, 1)).collect();
        assert_eq!(held.len(), 20);
        assert_eq!(held.iter().filter(|place| place.worker() == 0).count(), 10);
    }

    #[test]
    fn a_place_that_shrinks_or_passes_on_is_counted_once() {
        let budget = budget(16, 1);
        let (one, other) = (budget.allow(BudgetKind::Tcp), budget.allow(BudgetKind::Http));
        let mut place = one.take(2).expect("room");
        place.shrink(1);
        assert_eq!((place.count(), budget.used()), (1, 1));
        place.pass_to(&other);
        assert_eq!(budget.used(), 1);
        assert_eq!(one.all[0].of_listener.used.load(Relaxed), 0);
        assert_eq!(other.all[0].of_listener.used.load(Relaxed), 1);
        drop(place);
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        /// Whatever others have taken and given back, a listener gets its share.
        #[test]
        fn a_listener_always_gets_its_share(
            limit in 64_usize..2_000,
            kinds in prop::collection::vec(0..3_usize, 1..8),
            steps in prop::collection::vec((any::<prop::sample::Index>(), 1..400_usize), 1..60),
        ) {
            let budget = budget(limit, 1);
            let listeners: Vec<_> =
                kinds.iter().map(|&kind| budget.allow(BudgetKind::ALL[kind])).collect();
            let mut held: Vec<Vec<Descriptors>> = listeners.iter().map(|_| Vec::new()).collect();
            for (which, count) in steps {
                let which = which.index(listeners.len());
                if count % 3 == 0 {
                    held[which].truncate(count / 8);
                } else {
                    held[which].extend((0..count).map_while(|_| listeners[which].take(2)));
                }
                prop_assert!(budget.used() <= limit);
            }
            for (listener, held) in listeners.iter().zip(&mut held) {
                let own = listener.all[0].of_listener.own.load(Relaxed);
                held.extend((held.len()..own / 2).map_while(|_| listener.take(2)));
                prop_assert!(held.len() >= own / 2, "{} of {own}", held.len());
            }
        }
    }
}
