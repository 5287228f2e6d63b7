//! Looks now and then who has been silent for too long, and who has to go when memory is short.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use l4way_proxy_core::MemoryLoad;
use tokio::time::{MissedTickBehavior, interval};

use crate::{control::Shared, counters::ErrorReason};

/// How often it looks, unless timeouts are so short that it has to look more often.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is watched. Its places are used again.
#[derive(Debug)]
pub(crate) struct Watched<T>(Mutex<Places<T>>, AtomicUsize);

#[derive(Debug)]
struct Places<T> {
    taken: Vec<Option<Weak<T>>>,
    free: Vec<usize>,
    /// Whose turn it is.
    next: usize,
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        let places = Places { taken: Vec::new(), free: Vec::new(), next: 0 };
        Self(Mutex::new(places), AtomicUsize::new(0))
    }
}

impl<T> Watched<T> {
    /// Watches this too, in the place that is returned.
    pub(crate) fn enter(&self, one: Weak<T>) -> usize {
        self.1.fetch_add(1, Relaxed);
        let mut places = self.places();
        match places.free.pop() {
            Some(place) => {
                places.taken[place] = Some(one);
                place
            }
            None => {
                places.taken.push(Some(one));
                places.taken.len() - 1
            }
        }
    }

    /// The one in this place has gone.
    pub(crate) fn leave(&self, place: usize) {
        self.1.fetch_sub(1, Relaxed);
        let mut places = self.places();
        places.taken[place] = None;
        places.free.push(place);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.1.load(Relaxed)
    }

    /// All there are.
    fn all(&self) -> Vec<Arc<T>> {
        // The last of an `Arc` may go where this is looked through, and takes the lock then.
        self.places().taken.iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// So many of them, each in its turn.
    pub(crate) fn in_turn(&self, count: usize) -> Vec<Arc<T>> {
        let mut places = self.places();
        let Places { taken, next, .. } = &mut *places;
        let mut found = Vec::new();
        for _ in 0..taken.len() {
            if found.len() == count {
                break;
            }
            *next %= taken.len();
            found.extend(taken[*next].as_ref().and_then(Weak::upgrade));
            *next += 1;
        }
        found
    }

    fn places(&self) -> MutexGuard<'_, Places<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches for as long as the runtime lasts.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let timeouts = &shared.settings.timeouts;
    let often = INTERVAL.min(timeouts.shortest() / 4).max(Duration::from_millis(1));
    let mut ticks = interval(often);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        for connection in shared.connections.all() {
            if let Some(end) = connection.overdue(timeouts, now) {
                connection.end(end);
            }
        }
        let exchanges = shared.exchanges.all();
        for exchange in &exchanges {
            if let Some(reason) = exchange.overdue(timeouts, now) {
                exchange.end(reason);
            }
        }
        let memory = &shared.settings.process.memory;
        if memory.load() == MemoryLoad::Full {
            let mut stalled: Vec<_> = exchanges
                .iter()
                .filter_map(|exchange| Some((exchange.stalled(now)?, exchange)))
                .filter(|((silence, _), _)| *silence >= timeouts.stalled)
                .collect();
            stalled.sort_unstable_by_key(|((silence, _), _)| std::cmp::Reverse(*silence));
            let mut surplus = memory.surplus();
            for ((_, cost), exchange) in stalled {
                if surplus == 0 {
                    break;
                }
                surplus = surplus.saturating_sub(cost);
                exchange.end(ErrorReason::MemoryBudget);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let watched = Watched::default();
        let (one, other) = (Arc::new(1), Arc::new(2));
        assert_eq!(watched.enter(Arc::downgrade(&one)), 0);
        assert_eq!(watched.enter(Arc::downgrade(&other)), 1);
        watched.leave(0);
        assert_eq!(watched.count(), 1);
        assert_eq!(watched.all(), std::slice::from_ref(&other));
        assert_eq!(watched.enter(Arc::downgrade(&one)), 0);
        drop(other);
        assert_eq!(watched.all(), [one]);
    }

    #[test]
    fn each_has_its_turn() {
        let watched = Watched::default();
        assert!(watched.in_turn(2).is_empty());
        let all: Vec<_> = (0..4).map(Arc::new).collect();
        for one in &all {
            watched.enter(Arc::downgrade(one));
        }
        watched.leave(1);
        let turns: Vec<_> = (0..3).map(|_| watched.in_turn(2)).collect();
        let [zero, two, three] = [0, 2, 3].map(|at| all[at].clone());
        assert_eq!(turns[0], [zero.clone(), two.clone()]);
        assert_eq!(turns[1], [three.clone(), zero.clone()]);
        assert_eq!(turns[2], [two.clone(), three.clone()]);
        assert_eq!(watched.in_turn(9), [zero, two, three], "nobody has two turns");
    }
}
