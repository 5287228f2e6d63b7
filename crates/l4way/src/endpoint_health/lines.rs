//! What the log has to say of endpoints.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use l4way_proxy_core::{EndpointFailure, EndpointKey, HealthChange};

/// Within this time an endpoint has two lines at most: that it goes, and that it is back.
const INTERVAL: Duration = Duration::from_secs(10);

/// Says of each endpoint when it goes and when it is back; of one that does so again and again, now and then.
#[derive(Debug, Default)]
pub(super) struct Lines(HashMap<EndpointKey, State>);

/// A line to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: EndpointKey,
    /// Why it is passed over; `None` if it answers again.
    pub(super) failure: Option<EndpointFailure>,
    /// How often it has gone or come back since its last line.
    pub(super) times: u64,
}

#[derive(Debug)]
struct State {
    now: Option<EndpointFailure>,
    /// Whether its last line said that it is passed over.
    was_passed_over: bool,
    /// When its last two lines were written, the older first.
    told: [Option<Instant>; 2],
    changes: u64,
}

impl State {
    fn is_untold(&self) -> bool {
        self.now.is_some() != self.was_passed_over
    }
}

impl Lines {
    /// Takes in what has changed.
    pub(super) fn note(&mut self, change: &HealthChange) {
        let state = self.0.entry(change.key.clone()).or_insert_with(|| State {
            now: None,
            // What came before was told long ago.
            was_passed_over: change.failure.is_none(),
            told: [None; 2],
            changes: 0,
        });
        state.now = change.failure;
        state.changes += 1;
    }

    /// The lines to write now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Line> {
        let is_over = |told: Option<Instant>| {
            told.is_none_or(|told| now.saturating_duration_since(told) >= INTERVAL)
        };
        let mut lines = Vec::new();
        for (key, state) in &mut self.0 {
            if state.is_untold() && is_over(state.told[0]) {
                state.told = [state.told[1], Some(now)];
                state.was_passed_over = state.now.is_some();
                let times = std::mem::take(&mut state.changes);
                lines.push(Line { key: key.clone(), failure: state.now, times });
            }
        }
        self.0.retain(|_, state| state.is_untold() || !is_over(state.told[1]));
        lines.sort_by(|a, b| a.key.cmp(&b.key));
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use l4way_model::{EndpointAddress, Transport};

    use super::*;

    fn key() -> EndpointKey {
        let address = EndpointAddress::Ip(SocketAddr::from(([127, 0, 0, 1], 1)));
        EndpointKey { transport: Transport::Tcp, address, backend: None }
    }

    /// Whether it is said that it is passed over, and how often it has changed.
    fn told(lines: &mut Lines, at: Instant) -> Vec<(bool, u64)> {
        let due = lines.due(at).into_iter();
        due.map(|line| (line.failure.is_some(), line.times)).collect()
    }

    #[test]
    fn an_endpoint_that_comes_and_goes_is_told_of_now_and_then() {
        let (mut lines, began) = (Lines::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let change = |lines: &mut Lines, failure| {
            lines.note(&HealthChange { key: key(), failure, failed_at: began });
        };
        let down = Some(EndpointFailure::Refused);
        change(&mut lines, down);
        assert_eq!(told(&mut lines, at(0)), [(true, 1)]);
        change(&mut lines, None);
        assert_eq!(told(&mut lines, at(2)), [(false, 1)]);
        for _ in 0..3 {
            change(&mut lines, down);
            assert_eq!(told(&mut lines, at(4)), []);
            change(&mut lines, None);
            assert_eq!(told(&mut lines, at(5)), []);
        }
        change(&mut lines, down);
        assert_eq!(told(&mut lines, at(9)), []);
        assert_eq!(told(&mut lines, at(10)), [(true, 7)], "what is so now is told in the end");
        assert_eq!(told(&mut lines, at(30)), []);
        assert!(lines.0.is_empty(), "what has been told is forgotten");
        change(&mut lines, None);
        assert_eq!(told(&mut lines, at(31)), [(false, 1)]);
    }

    #[test]
    fn what_is_as_it_was_told_is_not_told_again() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        for failure in [Some(EndpointFailure::Timeout), None] {
            lines.note(&HealthChange { key: key(), failure, failed_at: now });
        }
        assert_eq!(told(&mut lines, now), []);
    }
}
