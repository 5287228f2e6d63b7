//! Requests for a Gateway: which may be made, and when what failed is tried again. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use l4way_resources::api::ObjectKey;

use super::{apply::Failure, objects::Kind};

const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest pause before what was refused is tried again, for somebody has to change something.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// The longest pause before what may pass, such as an API server that is away, is tried again.
const LAST_RETRY: Duration = Duration::from_secs(2);

/// An object that a request is about.
pub(crate) type Id = (Kind, ObjectKey);

/// Requests for a Gateway: at most one at a time for each object, later and later after failures. No object
/// waits for another one.
#[derive(Debug, Default)]
pub(crate) struct Work {
    running: BTreeSet<Id>,
    failed: BTreeMap<Id, Failed>,
}

#[derive(Debug)]
struct Failed {
    times: u32,
    retry_at: Instant,
    /// Why the last request failed.
    failure: Failure,
}

impl Work {
    /// Whether a request for the object may be made now.
    pub(crate) fn may_start(&self, id: &Id, now: Instant) -> bool {
        !self.running.contains(id)
            && self.failed.get(id).is_none_or(|failed| failed.retry_at <= now)
    }

    /// Whether requests are under way.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether a request for an object of which this holds is under way.
    pub(crate) fn is_any_running(&self, holds: impl Fn(&Id) -> bool) -> bool {
        self.running.iter().any(holds)
    }

    /// A request for the object is being made.
    pub(crate) fn start(&mut self, id: Id) {
        self.running.insert(id);
    }

    /// The request for the object has ended. Whether the failure is news.
    pub(crate) fn end(&mut self, id: Id, failure: Option<&Failure>, now: Instant) -> bool {
        self.running.remove(&id);
        let Some(failure) = failure else {
            self.failed.remove(&id);
            return false;
        };
        let before = self.failed.get(&id);
        let is_news = before.is_none_or(|before| before.failure != *failure);
        let times = before.map_or(0, |before| before.times);
        let longest = if failure.is_refusal { REFUSED_RETRY } else { LAST_RETRY };
        let delay = FIRST_RETRY.saturating_mul(1 << times.min(10)).min(longest);
        let failure = failure.clone();
        self.failed.insert(id, Failed { times: times + 1, retry_at: now + delay, failure });
        is_news
    }

    /// Forgets the failures of objects that need nothing any more.
    pub(crate) fn retain(&mut self, needed: impl Fn(&Id) -> bool) {
        self.failed.retain(|id, _| needed(id) || self.running.contains(id));
    }

    /// What was asked for has changed: it may fare better.
    pub(crate) fn forgive(&mut self, now: Instant) {
        for failed in self.failed.values_mut() {
            failed.times = 0;
            failed.retry_at = failed.retry_at.min(now);
        }
    }

    /// When something is to be tried again after this time.
    pub(crate) fn retry_after(&self, now: Instant) -> Option<Instant> {
        let waiting = self.failed.iter().filter(|(id, _)| !self.running.contains(id));
        waiting.map(|(_, failed)| failed.retry_at).filter(|at| *at > now).min()
    }

    /// The objects for which the last request failed.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &Id> {
        self.failed.keys()
    }

    /// Why requests failed, for each object.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failed.values().map(|failed| &failed.failure)
    }

    /// A failure that takes somebody to change something, if there is one.
    pub(crate) fn refusal(&self) -> Option<&Failure> {
        self.failures().find(|failure| failure.is_refusal)
    }

    /// The same, of an object of this kind.
    pub(crate) fn refusal_of(&self, kind: Kind) -> Option<&Failure> {
        let of_kind = self.failed.iter().filter(|((failed, _), _)| *failed == kind);
        of_kind.map(|(_, failed)| &failed.failure).find(|failure| failure.is_refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: Kind) -> Id {
        (kind, ObjectKey::new("team", "gw"))
    }

    fn failed(is_refusal: bool) -> Failure {
        Failure { message: "no".to_owned(), is_refusal, reason: "forbidden" }
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let id = || id(Kind::Service);
        let mut work = Work::default();
        let now = Instant::now();
        assert!(work.may_start(&id(), now));
        work.start(id());
        assert!(!work.may_start(&id(), now));
        assert!(work.end(id(), Some(&failed(true)), now), "the first is news");
        assert!(!work.may_start(&id(), now) && work.may_start(&id(), now + FIRST_RETRY));
        assert!(!work.end(id(), Some(&failed(true)), now), "the same again isn't");
        assert_eq!(work.retry_after(now), Some(now + 2 * FIRST_RETRY));
        work.forgive(now);
        assert!(work.may_start(&id(), now) && work.refusal().is_some(), "it isn't mended yet");
        for _ in 0..40 {
            work.end(id(), Some(&failed(true)), now);
        }
        assert_eq!(work.retry_after(now), Some(now + REFUSED_RETRY));
        assert_eq!(work.retry_after(now + REFUSED_RETRY), None, "it has been looked at then");
        work.end(id(), Some(&failed(false)), now);
        assert_eq!(work.retry_after(now), Some(now + LAST_RETRY));
        work.end(id(), None, now);
        assert_eq!(work.retry_after(now), None);
    }

    #[test]
    fn one_object_never_holds_up_another() {
        let now = Instant::now();
        let mut work = Work::default();
        work.start(id(Kind::Service));
        assert!(work.is_running() && work.may_start(&id(Kind::Role), now), "one has no answer");
        work.end(id(Kind::Service), Some(&failed(true)), now);
        assert!(work.may_start(&id(Kind::Role), now), "one was refused");
        assert!(!work.end(id(Kind::Role), None, now));
        assert!(work.refusal().is_some(), "what others do doesn't mend it");
        work.retain(|id| id.0 == Kind::Role);
        assert_eq!(
            (work.refusal(), work.retry_after(now)),
            (None, None),
            "nobody wants it any more"
        );
    }
}
