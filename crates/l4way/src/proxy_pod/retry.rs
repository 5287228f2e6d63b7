use std::time::{Duration, Instant};

/// How long to wait before something that failed is tried again: twice as long each time.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    first: Duration,
    longest: Duration,
    next: Duration,
    last: Option<Instant>,
}

impl Retry {
    /// Waits of `first` to `longest`.
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first, last: None }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
        self.last = None;
    }

    /// How long to wait after a failure that came at `now`. One that comes long after the last is a
    /// first one again: what works for long may say nothing for long.
    pub(super) fn after_failure(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > 4 * self.longest) {
            self.reset();
        }
        self.last = Some(now);
        let wait = self.next;
        self.next = (2 * wait).min(self.longest);
        wait
    }

    /// Whether it has failed so often that the waits don't grow any more.
    pub(super) fn is_slow(&self) -> bool {
        self.next == self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_begin_again() {
        let mut retry = Retry::new(Duration::from_millis(50), Duration::from_secs(2));
        let now = Instant::now();
        let mut waits = |now| retry.after_failure(now).as_millis();
        assert_eq!(
            [50, 100, 200, 400, 800, 1600, 2000, 2000].map(|_| waits(now)),
            [50, 100, 200, 400, 800, 1600, 2000, 2000]
        );
        assert_eq!(waits(now + Duration::from_secs(9)), 50);
        assert!(!retry.is_slow());
        retry.after_failure(now);
        retry.reset();
        assert_eq!(retry.after_failure(now), Duration::from_millis(50));
    }
}
