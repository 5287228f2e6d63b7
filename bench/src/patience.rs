//! How long clients wait.

use std::time::{Duration, Instant};

use crate::tally::Tally;

/// How long a client waits for a gateway, which then has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits for a datagram, which then is lost, and for what is under way at the end.
pub(crate) const LOST: Duration = Duration::from_millis(500);
/// How often clients look whether they go on, if nothing else happens.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Until when a thread's clients work: after the end they wait for what is under way.
pub(crate) struct Patience<'a> {
    tally: &'a Tally,
    end: Option<Instant>,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(tally: &'a Tally) -> Self {
        Self { tally, end: None }
    }

    /// Whether there is something to wait for. What has not come when patience ends is counted as
    /// lost.
    pub(crate) fn lasts(&mut self, under_way: impl Fn() -> usize) -> bool {
        if self.tally.goes_on() {
            return true;
        }
        let end = *self.end.get_or_insert_with(|| Instant::now() + LOST);
        match under_way() {
            0 => false,
            _ if Instant::now() < end => true,
            lost => {
                (0..lost).for_each(|_| self.tally.lose("no answer came"));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_lost() {
        let tally = Tally::default();
        let mut patience = Patience::new(&tally);
        assert!(patience.lasts(|| 0));
        tally.stop();
        assert!(!patience.lasts(|| 0));
        assert!(patience.lasts(|| 2));
        patience.end = Some(Instant::now());
        assert!(!patience.lasts(|| 2));
        assert_eq!(tally.into_parts().1.get("no answer came"), Some(&2));
    }
}
