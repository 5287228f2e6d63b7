use std::time::Duration;

/// Durations of the same thing, in ascending order.
#[derive(Debug)]
pub(crate) struct Stats(Vec<Duration>);

impl Stats {
    /// Of at least one duration.
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The shortest of them that so many percent don't exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn min(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }

    pub(crate) fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let stats = Stats::new((1..=100).rev().map(Duration::from_millis).collect());
        let milliseconds = |percent| stats.percentile(percent).as_millis();
        assert_eq!((milliseconds(50), milliseconds(99), milliseconds(100)), (50, 99, 100));
        let few = Stats::new([3, 1, 2].map(Duration::from_millis).into());
        assert_eq!((few.percentile(50).as_millis(), few.percentile(99).as_millis()), (2, 3));
        assert_eq!((few.min().as_millis(), few.max().as_millis(), few.count()), (1, 3, 3));
    }
}
