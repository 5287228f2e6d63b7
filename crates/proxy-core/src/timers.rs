use std::time::{Duration, Instant};

/// How exact timers are.
const TICK: Duration = Duration::from_millis(10);
/// One turn of the wheel is 10.24 s: a connect timeout, of which there are many, fits in one.
const SPOKES: usize = 1_024;
/// No entry: the end of a list.
const NONE: u32 = u32::MAX;

/// Names a timer until it is due or cancelled, and no other one after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    entry: u32,
    generation: u32,
}

/// Timers, each with something to remember.
///
/// A hashed wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", scheme 6): nearly
/// all timers are connect timeouts, which are cancelled at once, and both scheduling and cancelling
/// take constant time and leave nothing behind. A timer is due up to 10 ms late, never early.
#[derive(Debug)]
pub struct Timers<T> {
    start: Instant,
    /// Ticks since `start` of which all timers were handed out.
    done: u64,
    /// The first timer of each spoke.
    spokes: Box<[u32; SPOKES]>,
    /// Which spokes have timers.
    occupied: [u64; SPOKES / 64],
    entries: Vec<Entry<T>>,
    /// A list of free entries through `Entry::next`.
    free: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    /// When it is due, in ticks since the start.
    tick: u64,
    previous: u32,
    next: u32,
    what: Option<T>,
}

impl<T> Timers<T> {
    /// No timers. None will be due before `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            done: 0,
            spokes: Box::new([NONE; SPOKES]),
            occupied: [0; SPOKES / 64],
            entries: Vec::new(),
            free: NONE,
        }
    }

    /// Remembers `what` until `at`.
    pub fn schedule(&mut self, at: Instant, what: T) -> TimerId {
        let since_start = at.saturating_duration_since(self.start).as_nanos();
        let tick = since_start.div_ceil(TICK.as_nanos()) as u64;
        let tick = tick.max(self.done + 1);
        let entry = Entry { generation: 0, tick, previous: NONE, next: NONE, what: Some(what) };
        let index = match self.free {
            NONE => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
            index => {
                let slot = &mut self.entries[index as usize];
                self.free = slot.next;
                *slot = Entry { generation: slot.generation, ..entry };
                index
            }
        };
        self.link(index);
        TimerId { entry: index, generation: self.entries[index as usize].generation }
    }

    /// Forgets a timer. `None` if it has been handed out or cancelled already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(id.entry as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        self.take(id.entry)
    }

    /// One of the timers that are due, or `None` if there is none (left).
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let elapsed = now.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos();
        let now = elapsed as u64;
        while self.done < now {
            // After a long pause one turn sees every spoke.
            self.done = self.done.max(now.saturating_sub(SPOKES as u64));
            let Some(tick) = self.next_occupied().filter(|&tick| tick <= now) else {
                self.done = now;
                break;
            };
            if let Some(index) = self.due_on_spoke(tick, now) {
                return self.take(index);
            }
            self.done = tick;
        }
        None
    }

    /// When to call [`pop`](Self::pop) next; `None` if there are no timers. At times too early: one
    /// that is many seconds away is looked at once every turn of the wheel.
    pub fn next_due(&self) -> Option<Instant> {
        let tick = self.next_occupied()?;
        let nanos = u64::try_from(TICK.as_nanos()).ok()?.saturating_mul(tick);
        self.start.checked_add(Duration::from_nanos(nanos))
    }

    /// The next tick after `done` that has a spoke with timers.
    fn next_occupied(&self) -> Option<u64> {
        let first = self.done + 1;
        let (word, bit) = spoke_bit(first);
        let words = self.occupied.len();
        // The first word counts twice: its upper bits at once, its lower ones after a whole turn.
        (0..=words).find_map(|n| {
            let mask = match n {
                0 => u64::MAX << bit,
                n if n == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let bits = self.occupied[(word + n) % words] & mask;
            (bits != 0)
                .then(|| first - u64::from(bit) + n as u64 * 64 + u64::from(bits.trailing_zeros()))
        })
    }

    /// A timer on the spoke of `tick` that is due at the tick `now`.
    fn due_on_spoke(&self, tick: u64, now: u64) -> Option<u32> {
        let mut index = self.spokes[spoke(tick)];
        while let Some(entry) = self.entries.get(index as usize) {
            if entry.tick <= now {
                return Some(index);
            }
            index = entry.next;
        }
        None
    }

    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        let head = std::mem::replace(&mut self.spokes[spoke(tick)], index);
        self.entries[index as usize].next = head;
        if let Some(head) = self.entries.get_mut(head as usize) {
            head.previous = index;
        }
        let (word, bit) = spoke_bit(tick);
        self.occupied[word] |= 1 << bit;
    }

    fn take(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        let what = entry.what.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        let (tick, previous, next) = (entry.tick, entry.previous, entry.next);
        entry.next = self.free;
        self.free = index;
        match self.entries.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.spokes[spoke(tick)] = next,
        }
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = previous;
        }
        if self.spokes[spoke(tick)] == NONE {
            let (word, bit) = spoke_bit(tick);
            self.occupied[word] &= !(1 << bit);
        }
        Some(what)
    }
}

fn spoke(tick: u64) -> usize {
    (tick % SPOKES as u64) as usize
}

fn spoke_bit(tick: u64) -> (usize, u32) {
    let spoke = spoke(tick);
    (spoke / 64, (spoke % 64) as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_timer_is_due_at_its_time_and_once() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        timers.schedule(start + 50 * MS, "connect");
        assert_eq!(timers.next_due(), Some(start + 50 * MS));
        assert_eq!(timers.pop(start + 49 * MS), None);
        assert_eq!(timers.pop(start + 50 * MS), Some("connect"));
        assert_eq!(timers.pop(start + 50 * MS), None);
        assert_eq!(timers.next_due(), None);
    }

    #[test]
    fn a_cancelled_timer_is_gone_and_its_id_names_no_other() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        let first = timers.schedule(start + MS, 1);
        assert_eq!(timers.cancel(first), Some(1));
        timers.schedule(start + MS, 2);
        assert_eq!(timers.cancel(first), None);
        assert_eq!(timers.pop(start + 10 * MS), Some(2));
    }

    #[test]
    fn a_timer_of_a_later_turn_waits_for_it() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        let far = TICK * SPOKES as u32 * 3;
        timers.schedule(start + far, ());
        let wake = timers.next_due().expect("there is one");
        assert_eq!(timers.pop(wake), None);
        assert_eq!(timers.pop(start + far - TICK), None);
        assert_eq!(timers.pop(start + far), Some(()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Schedule(u64),
        Cancel(usize),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop_oneof![0..100_u64, 0..40_000_u64].prop_map(Step::Schedule),
            2 => any::<prop::sample::Index>().prop_map(|i| Step::Cancel(i.index(64))),
            2 => prop_oneof![0..50_u64, 0..30_000_u64].prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// Against an ordered map of times: nothing early, nothing more than a tick late, nothing
        /// lost, and `next_due` never later than the next timer's tick.
        #[test]
        fn timers_behave_like_an_ordered_map(steps in prop::collection::vec(step(), 1..200)) {
            let start = Instant::now();
            let mut timers = Timers::new(start);
            let mut model = BTreeMap::new();
            let mut now = 0_u64;
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Schedule(after) => {
                        let at = now + after;
                        model.insert(n, (at, timers.schedule(start + at as u32 * MS, n)));
                    }
                    Step::Cancel(which) => {
                        if let Some((&n, &(_, id))) = model.iter().nth(which) {
                            prop_assert_eq!(timers.cancel(id), Some(n));
                            model.remove(&n);
                        }
                    }
                    Step::Advance(by) => now += by,
                }
                let instant = start + now as u32 * MS;
                while let Some(n) = timers.pop(instant) {
                    let (at, _) = model.remove(&n).expect("handed out twice or after a cancel");
                    prop_assert!(at <= now, "early: {at} at {now}");
                }
                let overdue = model.values().find(|(at, _)| at + 10 <= now);
                prop_assert!(overdue.is_none(), "late: {overdue:?} at {now}");
                let first = model.values().map(|(at, _)| *at).min();
                prop_assert_eq!(timers.next_due().is_some(), first.is_some());
                if let (Some(due), Some(first)) = (timers.next_due(), first) {
                    prop_assert!(due < start + (first as u32 + 20) * MS);
                }
            }
        }
    }
}
