//! Backends that proxies may have sessions with though no route names them any more. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use l4way_model::{BackendId, BackendSource};

/// How long proxies are told at least that a backend is gone, however many changes there are.
const TELL_FOR: Duration = Duration::from_secs(600);

/// What a Gateway's proxies were told of backends outside of the cluster. Unlike pods, these have no
/// EndpointSlices by which a proxy would see that they are gone, and sessions with them have to move.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// Those that a configuration named, and that are there.
    known: BTreeSet<BackendId>,
    /// Those of them that are gone, and since when.
    gone: BTreeMap<BackendId, Instant>,
}

impl Former {
    /// Takes in which backends the configuration names, and which others are there. Whether another one
    /// is gone.
    pub(crate) fn follow(
        &mut self,
        named: &BTreeMap<BackendId, BackendSource>,
        is_there: impl Fn(&BackendId) -> bool,
        now: Instant,
    ) -> bool {
        let is_known = |source: &BackendSource| matches!(source, BackendSource::Known(_));
        let known = named.iter().filter(|(_, source)| is_known(source));
        self.known.extend(known.map(|(id, _)| id.clone()));
        self.gone.retain(|id, since| !named.contains_key(id) && now < *since + TELL_FOR);
        let gone = self.known.extract_if(.., |id| !named.contains_key(id) && !is_there(id));
        let before = self.gone.len();
        self.gone.extend(gone.map(|id| (id, now)));
        self.gone.len() > before
    }

    /// Those that are there, whether or not a route names them.
    pub(crate) fn known(&self) -> impl Iterator<Item = &BackendId> {
        self.known.iter()
    }

    /// Those that proxies are told are gone: they have no endpoints.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (BackendId, BackendSource)> + '_ {
        self.gone.keys().map(|id| (id.clone(), BackendSource::Known(Vec::new())))
    }
}

#[cfg(test)]
mod tests {
    use l4way_model::{ServicePort, Transport};

    use super::*;

    fn id(kind: &str, name: &str) -> BackendId {
        BackendId {
            kind: kind.into(),
            namespace: "default".into(),
            name: name.into(),
            port: None,
            transport: Transport::Udp,
        }
    }

    fn known(names: &[&str]) -> BTreeMap<BackendId, BackendSource> {
        let known = |name: &&str| (id("Backend", name), BackendSource::Known(Vec::new()));
        names.iter().map(known).collect()
    }

    #[test]
    fn what_is_gone_is_told_until_it_is_back_or_everybody_has_heard() {
        let now = Instant::now();
        let mut former = Former::default();
        let told = |former: &Former| former.gone().map(|(id, _)| id).collect::<Vec<_>>();
        assert!(!former.follow(&known(&["a", "b"]), |_| true, now));
        assert!(!former.follow(&known(&["b"]), |_| true, now), "it is there, though not named");
        assert_eq!(former.known().count(), 2);
        assert!(former.follow(&known(&["b"]), |_| false, now));
        assert_eq!(told(&former), [id("Backend", "a")]);
        assert!(!former.follow(&known(&["b"]), |_| false, now), "it is no news");
        assert_eq!((told(&former).len(), former.known().count()), (1, 1));
        former.follow(&known(&["a", "b"]), |_| false, now);
        assert!(told(&former).is_empty(), "it is named again");
        assert!(former.follow(&known(&[]), |_| false, now));
        former.follow(&known(&[]), |_| false, now + TELL_FOR);
        assert!(told(&former).is_empty() && former.known().next().is_none());
    }

    #[test]
    fn of_services_the_slices_tell() {
        let port = ServicePort { name: "".into(), publish_not_ready: false };
        let named = [(id("Service", "s"), BackendSource::Slices(port))].into();
        let mut former = Former::default();
        former.follow(&named, |_| true, Instant::now());
        assert!(!former.follow(&known(&[]), |_| false, Instant::now()));
    }
}
