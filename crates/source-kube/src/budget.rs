//! When the API server is in need, and who may ask it then. No I/O, no clock of its own.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::{Backoff, random};

/// How long answers that begin with 5 have to repeat before the server is believed to be in need.
const BELIEVED_AFTER: Duration = Duration::from_secs(10);
/// Pauses where the server names none.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How much of a pause that the server names is added at most, so that its clients don't come back at
/// once; and how much of it in any case.
const SPREAD: Duration = Duration::from_secs(1);
const SPREAD_SHARE: u32 = 4;
/// How long one that was let through may be without an answer before another one is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which requests are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// They wait while the server is in need.
    Ordinary,
    /// Requests for the Lease by which this process leads, or says that it lives: they never wait.
    Lease,
}

/// What an answer says of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// It does what it is for, be that a refusal.
    Well,
    /// The request is to come again, after this time if the server says so: 429, or 503 with
    /// Retry-After (RFC 6585, section 4; RFC 9110, section 10.2.3).
    Later(Option<Duration>),
    /// It failed (5xx), with a request for this kind of object.
    Failed(&'a str),
    /// There was none: the connection was refused or has ended.
    None,
}

/// Whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    /// Not before this, unless the server is well before.
    At(Instant),
}

/// What has come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// The server is in need from now on, for this long at first.
    InNeed(Duration),
    /// It still is, but somebody may try now.
    MayTry,
    /// It is well again.
    Well,
}

/// The one budget of all requests of a client. While the server is well, it has no limit; while the server
/// is in need, one request at a time may find out how it is, when the pause has passed or a Lease's request
/// has succeeded.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    state: State,
    backoff: Backoff,
    failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// Nobody asks before this.
    Pause {
        until: Instant,
        need: Need,
    },
    /// One asks, and another one from then on if that one has no answer yet.
    Trial {
        another: Instant,
        need: Need,
    },
}

/// Why the server was left in peace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Overload,
    Failures,
}

/// Answers that begin with 5, without one between them that says that the server is well.
#[derive(Clone, Debug)]
struct Failing {
    since: Instant,
    /// The kind of object that the first one was about.
    kind: Box<str>,
    /// Whether others were about other kinds: one object that can't be written, as where its kind's
    /// webhook fails, is no server in need.
    several: bool,
}

impl Budget {
    pub(crate) fn new() -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        Self { state: State::Well, backoff, failing: None }
    }

    /// Whether an ordinary request may go out. It has to, if it may.
    pub(crate) fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Well => Admission::Now,
            State::Pause { until: next, need } | State::Trial { another: next, need } => {
                if now < next {
                    return Admission::At(next);
                }
                self.state = State::Trial { another: now + PATIENCE, need };
                Admission::Now
            }
        }
    }

    /// Takes an answer to a request of this lane in.
    pub(crate) fn answered(&mut self, lane: Lane, answer: Answer<'_>, now: Instant) -> Change {
        match answer {
            Answer::Well => self.well(lane, now),
            Answer::Later(after) => self.later(after, now),
            Answer::Failed(kind) => self.failed(lane, kind, now),
            // Whoever asked tries again soon, so that a server that comes back is noticed.
            Answer::None => match self.state {
                State::Trial { .. } if lane == Lane::Ordinary => self.recover(),
                _ => Change::Nothing,
            },
        }
    }

    fn well(&mut self, lane: Lane, now: Instant) -> Change {
        self.failing = None;
        match (self.state, lane) {
            (State::Trial { .. }, Lane::Ordinary) => self.recover(),
            (State::Pause { need, .. }, Lane::Lease) => {
                self.state = State::Trial { another: now, need };
                Change::MayTry
            }
            // What was under way when the server came to be in need says nothing.
            _ => Change::Nothing,
        }
    }

    fn later(&mut self, after: Option<Duration>, now: Instant) -> Change {
        let pause = match after.filter(|after| !after.is_zero()) {
            Some(after) => spread(after.min(LONGEST_PAUSE)),
            None => self.backoff.delay(now),
        };
        self.pause(pause, Need::Overload, now)
    }

    fn failed(&mut self, lane: Lane, kind: &str, now: Instant) -> Change {
        let failing = self.failing.get_or_insert_with(|| Failing {
            since: now,
            kind: kind.into(),
            several: false,
        });
        failing.several |= *failing.kind != *kind;
        let is_believed = failing.several && now.duration_since(failing.since) >= BELIEVED_AFTER;
        match self.state {
            State::Well if is_believed => self.pause_for_failures(now),
            State::Trial { need: Need::Failures, .. } if lane == Lane::Ordinary => {
                self.pause_for_failures(now)
            }
            // It isn't overloaded any more.
            State::Trial { need: Need::Overload, .. } if lane == Lane::Ordinary => self.recover(),
            _ => Change::Nothing,
        }
    }

    fn pause_for_failures(&mut self, now: Instant) -> Change {
        let pause = self.backoff.delay(now);
        self.pause(pause, Need::Failures, now)
    }

    fn pause(&mut self, pause: Duration, need: Need, now: Instant) -> Change {
        let until = match self.state {
            State::Pause { until, .. } => until.max(now + pause),
            State::Well | State::Trial { .. } => now + pause,
        };
        let was_well = self.state == State::Well;
        self.state = State::Pause { until, need };
        if was_well { Change::InNeed(pause) } else { Change::Nothing }
    }

    fn recover(&mut self) -> Change {
        self.state = State::Well;
        self.backoff.reset();
        Change::Well
    }
}

/// A pause that the server has named, and somewhat more.
fn spread(pause: Duration) -> Duration {
    pause + (pause / SPREAD_SHARE).min(SPREAD) * random() / 256
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRY_AFTER: Duration = Duration::from_secs(20);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A server that has just asked for a pause.
    fn overloaded(now: Instant) -> Budget {
        let mut budget = Budget::new();
        let change = budget.answered(Lane::Ordinary, Answer::Later(Some(RETRY_AFTER)), now);
        assert!(matches!(change, Change::InNeed(_)), "{change:?}");
        budget
    }

    #[test]
    fn a_pause_is_as_long_as_the_server_says() {
        let now = Instant::now();
        let mut budget = overloaded(now);
        let Admission::At(at) = budget.admit(now) else { panic!("{budget:?}") };
        assert!(at >= now + RETRY_AFTER && at <= now + RETRY_AFTER + SPREAD, "{:?}", at - now);
        // What was under way changes nothing, but for another such answer.
        assert_eq!(budget.answered(Lane::Ordinary, Answer::Well, now), Change::Nothing);
        assert_eq!(budget.answered(Lane::Ordinary, Answer::None, now), Change::Nothing);
        assert_eq!(budget.admit(now), Admission::At(at));
        let earlier = Answer::Later(Some(seconds(1)));
        assert_eq!(budget.answered(Lane::Ordinary, earlier, now), Change::Nothing);
        assert_eq!(budget.admit(now), Admission::At(at));
    }

    #[test]
    fn one_asks_after_a_pause_and_all_when_it_has_an_answer() {
        let now = Instant::now();
        let mut budget = overloaded(now);
        let later = now + RETRY_AFTER + SPREAD;
        assert_eq!(budget.admit(later), Admission::Now);
        assert_eq!(budget.admit(later), Admission::At(later + PATIENCE));
        // Without an answer another one may.
        assert_eq!(budget.admit(later + PATIENCE), Admission::Now);
        assert_eq!(budget.answered(Lane::Ordinary, Answer::Well, later + PATIENCE), Change::Well);
        assert_eq!(budget.admit(later + PATIENCE), Admission::Now);
        assert_eq!(budget.admit(later + PATIENCE), Admission::Now);
    }

    #[test]
    fn a_lease_that_succeeds_lets_one_ask() {
        let now = Instant::now();
        let mut budget = overloaded(now);
        assert_eq!(budget.answered(Lane::Lease, Answer::Well, now), Change::MayTry);
        assert_eq!(budget.admit(now), Admission::Now);
        assert_eq!(budget.admit(now), Admission::At(now + PATIENCE));
        // It was too early: the Lease's requests may be served before others.
        budget.answered(Lane::Ordinary, Answer::Later(Some(RETRY_AFTER)), now);
        assert!(matches!(budget.admit(now + PATIENCE), Admission::At(_)));
    }

    #[test]
    fn failures_count_when_they_are_of_several_kinds_and_last() {
        let now = Instant::now();
        let failed = |budget: &mut Budget, kind, after| {
            budget.answered(Lane::Ordinary, Answer::Failed(kind), now + seconds(after))
        };
        let mut budget = Budget::new();
        assert_eq!(failed(&mut budget, "services", 0), Change::Nothing);
        assert_eq!(failed(&mut budget, "services", 60), Change::Nothing, "a webhook of one kind");
        assert!(matches!(failed(&mut budget, "secrets", 61), Change::InNeed(_)));

        let mut budget = Budget::new();
        failed(&mut budget, "services", 0);
        assert_eq!(failed(&mut budget, "secrets", 9), Change::Nothing, "it may pass");
        budget.answered(Lane::Lease, Answer::Well, now + seconds(9));
        assert_eq!(failed(&mut budget, "secrets", 12), Change::Nothing, "some work");
        assert_eq!(failed(&mut budget, "services", 21), Change::Nothing);
        assert!(matches!(failed(&mut budget, "services", 22), Change::InNeed(_)));
    }

    #[test]
    fn pauses_without_a_word_of_the_server_grow_to_half_a_minute() {
        let mut now = Instant::now();
        let mut budget = Budget::new();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(budget.admit(now), Admission::Now);
            budget.answered(Lane::Ordinary, Answer::Later(None), now);
            let Admission::At(at) = budget.admit(now) else { panic!("{budget:?}") };
            pauses.push(at - now);
            now = at;
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses[1] <= 2 * FIRST_PAUSE, "{pauses:?}");
        assert!(pauses[7] > LAST_PAUSE / 2 && pauses[7] <= LAST_PAUSE, "{pauses:?}");
        assert!(pauses.windows(2).all(|two| two[0] < two[1] * 3 / 2), "{pauses:?}");
    }

    #[test]
    fn refused_connections_are_no_need() {
        let now = Instant::now();
        let mut budget = Budget::new();
        for second in 0..60 {
            let now = now + seconds(second);
            assert_eq!(budget.answered(Lane::Ordinary, Answer::None, now), Change::Nothing);
            assert_eq!(budget.admit(now), Admission::Now);
        }
        // One that finds nobody ends the need: whoever asks has pauses of his own.
        let mut budget = overloaded(now);
        let later = now + RETRY_AFTER + SPREAD;
        assert_eq!(budget.admit(later), Admission::Now);
        assert_eq!(budget.answered(Lane::Ordinary, Answer::None, later), Change::Well);
    }

    #[test]
    fn a_failure_after_an_overload_is_no_overload() {
        let now = Instant::now();
        let mut budget = overloaded(now);
        let later = now + RETRY_AFTER + SPREAD;
        assert_eq!(budget.admit(later), Admission::Now);
        assert_eq!(budget.answered(Lane::Ordinary, Answer::Failed("roles"), later), Change::Well);
    }

    fn answers() -> impl Strategy<Value = Answer<'static>> {
        prop_oneof![
            Just(Answer::Well),
            Just(Answer::None),
            Just(Answer::Failed("roles")),
            Just(Answer::Failed("secrets")),
            Just(Answer::Later(None)),
            (0..400_u64).prop_map(|after| Answer::Later(Some(seconds(after)))),
        ]
    }

    proptest! {
        #[test]
        fn nobody_asks_before_the_time_and_somebody_does_at_last(
            events in prop::collection::vec((0..5000_u64, any::<bool>(), answers()), 1..100)
        ) {
            let mut budget = Budget::new();
            let mut now = Instant::now();
            // Until when the server wants to be left in peace.
            let mut until = now;
            for (pause, is_lease, answer) in events {
                now += Duration::from_millis(pause);
                let is_admitted = budget.admit(now) == Admission::Now;
                prop_assert!(!is_admitted || now >= until, "{:?} too early", until - now);
                let lane = if is_lease { Lane::Lease } else { Lane::Ordinary };
                budget.answered(lane, answer, now);
                match answer {
                    Answer::Later(Some(after)) => until = until.max(now + after.min(LONGEST_PAUSE)),
                    Answer::Well if is_lease => until = now,
                    // The answer of one that was let through.
                    _ if is_admitted => until = now,
                    _ => {}
                }
                let mut budget = budget.clone();
                let Admission::At(at) = budget.admit(now) else { continue };
                prop_assert!(at - now <= LONGEST_PAUSE + SPREAD);
                prop_assert_eq!(budget.admit(at), Admission::Now);
                prop_assert!(matches!(budget.admit(at), Admission::At(_)), "one at a time");
            }
        }

        #[test]
        fn an_overloaded_server_has_one_request_in_each_pause(
            pauses in prop::collection::vec(1..60_u64, 1..50)
        ) {
            let mut now = Instant::now();
            let mut budget = overloaded(now);
            for pause in pauses {
                let Admission::At(at) = budget.admit(now) else { panic!("{budget:?}") };
                now = at;
                prop_assert_eq!(budget.admit(now), Admission::Now);
                let change = budget.answered(Lane::Ordinary, Answer::Later(Some(seconds(pause))), now);
                prop_assert_eq!(change, Change::Nothing);
                let just_before = now + seconds(pause) - Duration::from_millis(1);
                prop_assert!(matches!(budget.admit(just_before), Admission::At(_)));
            }
        }
    }
}
