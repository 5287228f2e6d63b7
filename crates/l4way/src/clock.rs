//! The time, as far as what is said of certificates depends on it.

use std::time::{Duration, SystemTime};

/// How long to rely on a wait: somebody may set the clock meanwhile.
const LONGEST_WAIT: u64 = 60 * 60;

/// The time, in seconds of Unix time.
pub(crate) fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Whether a time, if there is one, has come.
pub(crate) fn has_come(time: Option<i64>) -> bool {
    time.is_some_and(|time| time <= unix_time())
}

/// How long to wait for a time, or to see what the clock says.
pub(crate) fn until(time: i64) -> Duration {
    let left = u64::try_from(time - unix_time()).unwrap_or_default();
    Duration::from_secs(left.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_has_come_is_not_waited_for() {
        assert!(!has_come(None));
        for past in [0, unix_time()] {
            assert!(has_come(Some(past)));
            assert_eq!(until(past), Duration::ZERO);
        }
        let far = unix_time() + 1_000_000;
        assert!(!has_come(Some(far)));
        assert_eq!(until(far), Duration::from_secs(LONGEST_WAIT));
    }
}
