use std::time::Duration;

/// Durations of the same thing, in ascending order; at least one.
#[derive(Debug)]
pub(crate) struct Stats(Vec<Duration>);

impl Stats {
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The shortest of them that so many percent don't exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn max(&self) -> Duration {
        self.percentile(100)
    }
}

/// A duration in milliseconds, for a person.
pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let stats = Stats::new((1..=200).rev().map(Duration::from_millis).collect());
        let [median, p99, max] = [stats.median(), stats.percentile(99), stats.max()];
        assert_eq!([median, p99, max].map(|duration| duration.as_millis()), [100, 198, 200]);
        assert_eq!(milliseconds(Duration::from_micros(12_345)), "12.35");
    }
}
