//! The certificates that listeners show, and when they expire.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use l4way_model::{Config, ListenerId};
use l4way_tls::{ENDS_SOON, not_after};

use crate::clock::unix_time;

/// A certificate that a listener shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) listener: ListenerId,
    /// The Secret's `namespace/name`.
    pub(crate) name: Arc<str>,
    /// Until when it is valid, in seconds of Unix time.
    pub(crate) not_after: i64,
}

/// The certificates that a configuration's listeners show.
pub(crate) fn of(config: &Config) -> Vec<Certificate> {
    let listeners = config.tls_ports().iter().flat_map(|port| &port.listeners);
    let shown = listeners.filter_map(|listener| Some((&listener.id, listener.mode.tls()?)));
    let pairs = shown.flat_map(|(id, tls)| tls.certificates.iter().map(move |pair| (id, pair)));
    let read = pairs.filter_map(|(id, pair)| {
        let (listener, name) = (id.clone(), pair.name.clone());
        Some(Certificate { listener, name, not_after: not_after(pair)? })
    });
    read.collect()
}

/// Warns of each certificate once when it is about to expire, and once when it has. Only proxy pods
/// do: where there are manifests, what is wrong with them has it.
#[derive(Debug, Default)]
pub(crate) struct Warnings(BTreeSet<(Arc<str>, i64, bool)>);

impl Warnings {
    /// Looks at the certificates in force.
    pub(crate) fn look_at(&mut self, certificates: &[Certificate]) {
        for warning in self.due(certificates, unix_time()) {
            tracing::warn!("{warning}");
        }
    }

    fn due(&mut self, certificates: &[Certificate], now: i64) -> Vec<String> {
        let mut due = Vec::new();
        for Certificate { name, not_after, .. } in certificates {
            let expired = *not_after < now;
            if now + ENDS_SOON < *not_after || !self.0.insert((name.clone(), *not_after, expired)) {
                continue;
            }
            let date = DateTime::<Utc>::from_timestamp(*not_after, 0).unwrap_or_default();
            let date = date.format("%Y-%m-%d %H:%M UTC");
            due.push(match expired {
                true => format!("the certificate of Secret {name} expired on {date}: renew it"),
                false => format!("the certificate of Secret {name} expires on {date}: renew it"),
            });
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use l4way_model::GatewayId;

    use super::*;

    #[test]
    fn a_certificate_is_warned_of_once_before_it_expires_and_once_after() {
        let listener = ListenerId {
            gateway: GatewayId::new("ns", "gw"),
            listener_set: None,
            name: "tls".into(),
        };
        let certificates = [Certificate { listener, name: "ns/cert".into(), not_after: ENDS_SOON }];
        let mut warnings = Warnings::default();
        assert!(warnings.due(&certificates, -1).is_empty());
        let before = warnings.due(&certificates, 0);
        assert!(before[0].contains("ns/cert expires on 1970-01-15"), "{before:?}");
        assert!(warnings.due(&certificates, ENDS_SOON).is_empty());
        assert!(warnings.due(&certificates, ENDS_SOON + 1)[0].contains("expired on"));
        assert!(warnings.due(&certificates, ENDS_SOON + 2).is_empty());
    }
}
