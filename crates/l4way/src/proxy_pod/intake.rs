use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

/// How long a configuration waits for the EndpointSlices that it needs: a backend without them would
/// refuse sessions.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a new configuration waits until the endpoints of its backends are known, while the one
/// before it goes on.
#[derive(Debug)]
pub(super) struct Intake<T> {
    waiting: Option<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    config: T,
    namespaces: BTreeSet<Arc<str>>,
    until: Instant,
}

impl<T> Default for Intake<T> {
    fn default() -> Self {
        Self { waiting: None }
    }
}

impl<T> Intake<T> {
    /// Takes a configuration that needs the EndpointSlices of these namespaces. One that still waits
    /// is forgotten, but the time that it has waited counts: changes may come fast.
    pub(super) fn offer(&mut self, config: T, namespaces: BTreeSet<Arc<str>>, now: Instant) {
        let until = self.waits_until().unwrap_or(now + PATIENCE);
        self.waiting = Some(Waiting { config, namespaces, until });
    }

    /// What waits.
    pub(super) fn waiting(&mut self) -> Option<&mut T> {
        self.waiting.as_mut().map(|waiting| &mut waiting.config)
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.waiting = None;
    }

    /// The namespaces that what waits needs.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.waiting.iter().flat_map(|waiting| &waiting.namespaces)
    }

    /// When what waits is taken as it is.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.until)
    }

    /// The configuration if it has waited for long enough: until every namespace is known, or as
    /// long as it may.
    pub(super) fn take(&mut self, is_known: impl Fn(&str) -> bool, now: Instant) -> Option<T> {
        let ready = |waiting: &mut Waiting<T>| {
            waiting.until <= now || waiting.namespaces.iter().all(|namespace| is_known(namespace))
        };
        self.waiting.take_if(ready).map(|waiting| waiting.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces<const N: usize>(names: [&str; N]) -> BTreeSet<Arc<str>> {
        names.map(Into::into).into()
    }

    #[test]
    fn a_configuration_waits_for_every_namespace_that_it_names() {
        let (mut intake, now) = (Intake::default(), Instant::now());
        intake.offer(1, namespaces(["a", "b"]), now);
        assert_eq!(intake.take(|namespace| namespace == "a", now), None);
        assert_eq!(intake.take(|_| true, now), Some(1));
        assert_eq!(intake.take(|_| true, now), None);
        intake.offer(2, namespaces([]), now);
        assert_eq!(intake.take(|_| false, now), Some(2));
    }

    #[test]
    fn it_waits_no_longer_than_it_may_and_the_latest_wins() {
        let (mut intake, now) = (Intake::default(), Instant::now());
        intake.offer(1, namespaces(["a"]), now);
        intake.offer(2, namespaces(["b"]), now + PATIENCE / 2);
        assert_eq!(intake.waits_until(), Some(now + PATIENCE));
        assert_eq!(intake.namespaces().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
        assert_eq!(intake.take(|_| false, now + PATIENCE), Some(2));
        assert_eq!(intake.waits_until(), None);
    }
}
