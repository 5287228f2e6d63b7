//! Whether this process may change anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Lets a process change things for ever, or for as long as its Lease holds. A clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Fence(Arc<AtomicU64>);

/// For ever, in nanoseconds.
const ALWAYS: u64 = u64::MAX;

impl Default for Fence {
    /// One that is never closed unless somebody begins to close it.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(ALWAYS)))
    }
}

impl Fence {
    /// It is open until then, as [`boot_time`] counts.
    pub(crate) fn open_until(&self, time: Duration) {
        self.0.store(time.as_nanos().try_into().unwrap_or(ALWAYS), Ordering::Relaxed);
    }

    /// It is closed until further notice.
    pub(crate) fn close(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether it is open now.
    pub(crate) fn is_open(&self) -> bool {
        Duration::from_nanos(self.0.load(Ordering::Relaxed)) > boot_time()
    }
}

/// The time since the machine began, also while it slept or this process was stopped (clock_gettime(2),
/// CLOCK_BOOTTIME).
pub(crate) fn boot_time() -> Duration {
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_closes_by_itself() {
        let fence = Fence::default();
        assert!(fence.is_open(), "nobody has to lead where there is no election");
        fence.open_until(boot_time() + Duration::from_secs(60));
        assert!(fence.is_open());
        fence.open_until(boot_time());
        assert!(!fence.is_open());
        fence.open_until(boot_time() + Duration::from_secs(60));
        fence.close();
        assert!(!fence.is_open());
    }
}
