use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

/// The shortest time that an answer is used, whatever its TTL.
const MIN_TTL: Duration = Duration::from_secs(1);
/// The longest time that an answer is used, whatever its TTL.
const MAX_TTL: Duration = Duration::from_secs(300);
/// The longest time between two lookups of a name that fails; the first is [`MIN_TTL`].
const MAX_RETRY: Duration = Duration::from_secs(60);
/// How long the name servers have to say that a name isn't there before it is believed: a zone that
/// is broken for a moment says the same.
const MISSING_HOLD: Duration = Duration::from_secs(30);

/// What became of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Addresses, sorted, never none, and how long they may be used.
    Found { addresses: Arc<[IpAddr]>, ttl: Duration },
    /// There is no such name, or it has no address.
    Missing,
    /// There was no answer, or none that says anything about the name.
    Failed(String),
}

/// What is known of one name, from the answers so far.
#[derive(Debug)]
pub(super) struct Known {
    name: Arc<str>,
    addresses: Option<Arc<[IpAddr]>>,
    /// Lookups since the last that found something.
    failures: u32,
    missing_since: Option<Instant>,
}

impl Known {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { name, addresses: None, failures: 0, missing_since: None }
    }

    /// The last good addresses.
    pub(super) fn addresses(&self) -> Option<&Arc<[IpAddr]>> {
        self.addresses.as_ref()
    }

    /// Takes in the next answer, which came at `now`; returns the time until the next lookup. Says
    /// in the log what has changed.
    pub(super) fn learn(&mut self, answer: Answer, now: Instant) -> Duration {
        match answer {
            Answer::Found { addresses, ttl } => {
                self.found(addresses);
                ttl.clamp(MIN_TTL, MAX_TTL)
            }
            Answer::Missing => {
                let since = *self.missing_since.get_or_insert(now);
                self.failed("no such name, or it has no address");
                if now.duration_since(since) >= MISSING_HOLD && self.addresses.take().is_some() {
                    warn!(name = &*self.name, "the name is gone: its addresses are no longer used");
                }
                self.retry()
            }
            Answer::Failed(error) => {
                self.missing_since = None;
                self.failed(&error);
                self.retry()
            }
        }
    }

    fn found(&mut self, addresses: Arc<[IpAddr]>) {
        if self.failures > 0 || self.addresses.as_ref() != Some(&addresses) {
            info!(name = &*self.name, ?addresses, "resolved");
        }
        self.addresses = Some(addresses);
        self.failures = 0;
        self.missing_since = None;
    }

    fn failed(&mut self, error: &str) {
        if self.failures == 0 {
            match &self.addresses {
                Some(addresses) => warn!(
                    name = &*self.name,
                    ?addresses,
                    error,
                    "can't be resolved: its last addresses stay in use"
                ),
                None => warn!(name = &*self.name, error, "can't be resolved"),
            }
        }
        self.failures = self.failures.saturating_add(1);
    }

    fn retry(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        (MIN_TTL * 2_u32.pow(doublings)).min(MAX_RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, ttl: u64) -> Answer {
        Answer::Found {
            addresses: [address.parse().unwrap()].into(),
            ttl: Duration::from_secs(ttl),
        }
    }

    fn failed() -> Answer {
        Answer::Failed("timeout".to_owned())
    }

    fn addresses(known: &Known) -> Option<String> {
        known.addresses().map(|addresses| addresses[0].to_string())
    }

    #[test]
    fn the_ttl_is_bounded() {
        let mut known = Known::new("a".into());
        let now = Instant::now();
        for (ttl, wait) in [(0, 1), (1, 1), (20, 20), (86_400, 300)] {
            assert_eq!(known.learn(found("::1", ttl), now), Duration::from_secs(wait), "{ttl}");
        }
    }

    #[test]
    fn failures_keep_the_addresses_and_back_off() {
        let mut known = Known::new("a".into());
        let now = Instant::now();
        known.learn(found("10.0.0.1", 5), now);
        let waits: Vec<u64> = (0..9).map(|_| known.learn(failed(), now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(addresses(&known).as_deref(), Some("10.0.0.1"));

        known.learn(found("10.0.0.2", 5), now);
        assert_eq!(addresses(&known).as_deref(), Some("10.0.0.2"));
        assert_eq!(known.learn(failed(), now), Duration::from_secs(1));
    }

    #[test]
    fn a_name_that_stays_missing_loses_its_addresses() {
        let mut known = Known::new("a".into());
        let start = Instant::now();
        known.learn(found("10.0.0.1", 5), start);
        known.learn(Answer::Missing, start);
        known.learn(failed(), start + MISSING_HOLD);
        known.learn(Answer::Missing, start + MISSING_HOLD);
        assert!(addresses(&known).is_some(), "a failure says nothing about the name");
        known.learn(Answer::Missing, start + 2 * MISSING_HOLD);
        assert_eq!(addresses(&known), None);
    }
}
