//! What people are told of endpoints.

use std::time::{Duration, Instant};

use l4way_model::BackendId;

use super::{EndpointFailure, EndpointOf, EndpointStore, Record};

/// What is known of an endpoint that is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Why nobody seems to answer there: the last failure.
    pub failure: EndpointFailure,
    /// How long ago that was.
    pub failed_ago: Duration,
    /// When it is tried again; zero if that is to be now, or is going on.
    pub tried_again_in: Duration,
}

impl EndpointStore {
    /// Why an endpoint is passed over and until when, if it is.
    pub fn passed_over_until(&self, endpoint: EndpointOf<'_>, now: Instant) -> Option<PassedOver> {
        let now = self.millis(now);
        let inner = self.lock();
        let of_key = |on_backends_terms| inner.records.get(&endpoint.key(on_backends_terms));
        let passed = [false, true].into_iter().filter_map(of_key).filter_map(
            |Record { retry_at, last, failed_at, .. }| Some(((*retry_at)?, (*last)?, *failed_at)),
        );
        // What keeps it longest is what a person has to see to.
        let (retry_at, failure, failed_at) = passed.max_by_key(|(retry_at, ..)| *retry_at)?;
        let between = |from: u64, to: u64| Duration::from_millis(to.saturating_sub(from));
        Some(PassedOver {
            failure,
            failed_ago: between(failed_at, now),
            tried_again_in: between(now, retry_at),
        })
    }

    /// Forgets how often endpoints have failed of backends that are gone.
    pub fn retain_backends(&self, is_there: impl Fn(&BackendId) -> bool) {
        self.lock().failures.retain(|(backend, _), _| is_there(backend));
    }
}

#[cfg(test)]
mod tests {
    use l4way_model::Transport;

    use super::{super::tests::Scene, *};

    #[test]
    fn the_failure_that_keeps_an_endpoint_longest_is_told() {
        let scene = Scene::new(Transport::Tcp);
        let told = |millis| scene.store.passed_over_until(scene.endpoint(), scene.at(millis));
        assert_eq!(told(0), None);
        scene.fail(EndpointFailure::Refused, 100);
        let refused = told(400).expect("passed over");
        assert_eq!(refused.failure, EndpointFailure::Refused);
        assert_eq!(refused.failed_ago, Duration::from_millis(300));
        assert!(refused.tried_again_in <= Duration::from_millis(1_250), "{refused:?}");
        scene.fail(EndpointFailure::Tls, 1_500);
        let both = told(1_500).expect("passed over");
        assert_eq!((both.failure, both.failed_ago), (EndpointFailure::Tls, Duration::ZERO));
        scene.store.view().connected(scene.endpoint());
        assert_eq!(told(1_500).expect("its TLS still fails").failure, EndpointFailure::Tls);
        assert_eq!(told(60_000).expect("it is due").tried_again_in, Duration::ZERO);
        scene.store.view().agreed(scene.endpoint());
        assert_eq!(told(1_500), None);
    }

    #[test]
    fn the_failures_of_a_backend_that_is_gone_are_forgotten() {
        let scene = Scene::new(Transport::Udp);
        scene.fail(EndpointFailure::Refused, 0);
        scene.store.retain_backends(|backend| *backend == scene.backend);
        assert_eq!(scene.store.failures().len(), 1);
        scene.store.retain_backends(|_| false);
        assert_eq!(scene.store.failures(), []);
    }
}
