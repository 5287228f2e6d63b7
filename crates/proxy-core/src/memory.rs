use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The share of the memory that there is which sessions may hold.
const SHARE: usize = 4;

/// Budget of the bytes that the process may hold, which one side of a session has sent and the
/// other has not taken: one budget for TCP, TLS and HTTP. Only who holds something counts, so idle
/// sessions cost nothing of it.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: NonZeroUsize,
    held: AtomicUsize,
}

/// Load of a [`MemoryBudget`]: how much of it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLoad {
    /// Less than 80 %.
    Light,
    /// 80 % or more: buffers are as small as they can be.
    Heavy,
    /// All of it: who has been stalled longest is reset.
    Full,
}

impl MemoryBudget {
    /// A budget of so many bytes, none of it in use.
    pub fn new(limit: NonZeroUsize) -> Self {
        Self { limit, held: AtomicUsize::new(0) }
    }

    /// The budget of a process that may use so many bytes of memory: a quarter of them.
    pub fn of(memory: usize) -> Self {
        Self::new(NonZeroUsize::new(memory / SHARE).unwrap_or(NonZeroUsize::MIN))
    }

    /// Bytes that may be held.
    #[inline]
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Bytes that are held.
    #[inline]
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Load that it has.
    #[inline]
    pub fn load(&self) -> MemoryLoad {
        let (held, limit) = (self.held(), self.limit());
        if held >= limit {
            MemoryLoad::Full
        } else if held >= limit - limit / 5 {
            MemoryLoad::Heavy
        } else {
            MemoryLoad::Light
        }
    }

    /// Bytes that have to be given back until there is room again: a tenth of it.
    pub fn surplus(&self) -> usize {
        self.held().saturating_sub(self.limit() - self.limit() / 10)
    }

    /// So many bytes more are held.
    #[inline]
    pub fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Relaxed);
    }

    /// So many bytes that were held aren't any more.
    #[inline]
    pub fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_what_is_held_of_the_limit() {
        let budget = MemoryBudget::new(NonZeroUsize::new(1_000).unwrap());
        assert_eq!(budget.load(), MemoryLoad::Light);
        budget.hold(799);
        assert_eq!(budget.load(), MemoryLoad::Light);
        budget.hold(1);
        assert_eq!(budget.load(), MemoryLoad::Heavy);
        budget.hold(200);
        assert_eq!((budget.load(), budget.held()), (MemoryLoad::Full, 1_000));
        assert_eq!(budget.surplus(), 100);
        budget.give_back(1_000);
        assert_eq!((budget.load(), budget.held()), (MemoryLoad::Light, 0));
    }

    #[test]
    fn sessions_may_hold_a_quarter() {
        assert_eq!(MemoryBudget::of(4_096).limit(), 1_024);
        assert_eq!(MemoryBudget::of(0).limit(), 1);
    }
}
