use std::time::{Duration, Instant};

/// How often the same is told at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps what happens again and again from being told each time.
#[derive(Clone, Debug, Default)]
pub struct Seldom {
    /// When it was told last.
    told: Option<Instant>,
    /// How often it has happened since.
    times: u64,
}

impl Seldom {
    /// Notes that it happens now. How often it has since it was told last, if it is to be told again.
    pub fn note(&mut self, now: Instant) -> Option<u64> {
        self.times += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_once_and_then_once_an_interval_with_how_often_it_happened() {
        let begin = Instant::now();
        let mut seldom = Seldom::default();
        let mut at = |seconds| seldom.note(begin + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(3), at(9)], [Some(1), None, None, None]);
        assert_eq!([at(10), at(19), at(100)], [Some(4), None, Some(2)]);
    }
}
