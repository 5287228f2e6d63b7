use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use l4way_model::{BackendId, EndpointAddress};
use l4way_proxy_core::{EndpointFailure, EndpointKey, HealthChange};

/// How long the last failure is remembered of an endpoint that is back.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Of how many endpoints; where there are more, as pods come and go, the older half is forgotten.
const MOST: usize = 10_000;

/// Why endpoints were passed over last, and when they failed last.
#[derive(Debug, Default)]
pub(super) struct Past(HashMap<EndpointKey, (EndpointFailure, Instant)>);

impl Past {
    /// Takes in what has changed.
    pub(super) fn note(&mut self, change: &HealthChange) {
        let HealthChange { key, failure, failed_at } = change;
        match failure {
            Some(failure) => {
                self.0.insert(key.clone(), (*failure, *failed_at));
            }
            None => {
                if let Some((_, at)) = self.0.get_mut(key) {
                    *at = *failed_at;
                }
            }
        }
    }

    /// The last failure of a backend's endpoint that is taken, and how long ago it was.
    pub(super) fn last(
        &self,
        backend: &BackendId,
        address: &EndpointAddress,
        now: Instant,
    ) -> Option<(EndpointFailure, Duration)> {
        let of = |backend: Option<&BackendId>, transport| {
            let key =
                EndpointKey { transport, address: address.clone(), backend: backend.cloned() };
            self.0.get(&key).copied()
        };
        let both = [of(None, backend.transport), of(Some(backend), backend.transport)];
        let (failure, at) = both.into_iter().flatten().max_by_key(|(_, at)| *at)?;
        Some((failure, now.saturating_duration_since(at)))
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, (_, at)| now.saturating_duration_since(*at) < REMEMBERED);
        if self.0.len() > MOST {
            let mut times: Vec<_> = self.0.values().map(|(_, at)| *at).collect();
            let (_, median, _) = times.select_nth_unstable(MOST / 2);
            let median = *median;
            self.0.retain(|_, (_, at)| *at > median);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use l4way_model::Transport;

    use super::*;

    #[test]
    fn memory_is_bounded() {
        let (mut past, began) = (Past::default(), Instant::now());
        let at = |n: u16| began + Duration::from_millis(n.into());
        let address = |n: u16| EndpointAddress::Ip(SocketAddr::from(([192, 0, 2, 1], n)));
        for n in 1..60_000 {
            let key = EndpointKey { transport: Transport::Udp, address: address(n), backend: None };
            let failure = Some(EndpointFailure::Refused);
            past.note(&HealthChange { key, failure, failed_at: at(n) });
            if n % 100 == 0 {
                past.forget_old(at(n));
                assert!(past.0.len() <= MOST);
            }
        }
        let backend = BackendId {
            kind: "Service".into(),
            namespace: "default".into(),
            name: "b".into(),
            port: None,
            transport: Transport::Udp,
        };
        let last = |n| past.last(&backend, &address(n), at(59_999));
        assert_eq!(last(59_999), Some((EndpointFailure::Refused, Duration::ZERO)));
        assert_eq!(last(1), None);
        past.forget_old(at(59_999) + REMEMBERED);
        assert!(past.0.is_empty());
    }
}
