//! How long to wait before something is tried again.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// Failures that are further apart than this have nothing to do with each other.
const CALM: Duration = Duration::from_secs(10);

/// Delays that double up to a limit, with jitter: a server that comes back isn't met by all at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
    last: Option<Instant>,
}

impl Backoff {
    /// From this delay up to that.
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first, last: None }
    }

    /// For following the API: a change is seen within 2 s of a server's return.
    pub fn following() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_millis(1500))
    }

    /// The delay after a failure now.
    pub fn delay(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > self.limit + CALM) {
            self.next = self.first;
        }
        self.last = Some(now);
        let delay = self.next;
        self.next = (delay * 2).min(self.limit);
        jitter(delay)
    }

    /// Something succeeded.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between three and four quarters of a delay.
fn jitter(delay: Duration) -> Duration {
    delay * 3 / 4 + delay / 4 * random() / 256
}

/// A number below 256. The keys of a `RandomState` are random.
pub(crate) fn random() -> u32 {
    u32::try_from(RandomState::new().hash_one(()) % 256).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_start_again_after_calm() {
        let within = |delay: Duration, milliseconds: u64| {
            let full = Duration::from_millis(milliseconds);
            assert!(delay <= full && delay >= full * 3 / 4, "{delay:?} of {full:?}");
        };
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        let now = Instant::now();
        within(backoff.delay(now), 100);
        within(backoff.delay(now), 200);
        within(backoff.delay(now), 300);
        within(backoff.delay(now), 300);
        within(backoff.delay(now + Duration::from_secs(60)), 100);
        within(backoff.delay(now + Duration::from_secs(60)), 200);
        backoff.reset();
        within(backoff.delay(now + Duration::from_secs(60)), 100);
    }
}
