//! The workers' names for listeners.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use l4way_model::{ListenerId, Transport};

use crate::routes::ListenerKey;

/// The names of the listeners that are wanted, and of those that are gone and may have sessions left.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    wanted: BTreeMap<ListenerId, (ListenerKey, Transport)>,
    /// Until when the sessions of a listener that is gone may go on. If it comes back before, it gets
    /// its old name, and with it its sessions.
    leaving: BTreeMap<(ListenerId, Transport), (ListenerKey, Instant)>,
}

impl Keys {
    /// The name of a wanted listener.
    pub(crate) fn get(&self, id: &ListenerId) -> Option<ListenerKey> {
        self.wanted.get(id).map(|(key, _)| *key)
    }

    /// The same, if it has this transport.
    pub(crate) fn of(&self, id: &ListenerId, transport: Transport) -> Option<ListenerKey> {
        let known = self.wanted.get(id).filter(|(_, known)| *known == transport);
        known.map(|(key, _)| *key)
    }

    /// Names a listener that is wanted from now on.
    pub(crate) fn name(&mut self, id: &ListenerId, transport: Transport, key: ListenerKey) {
        self.wanted.insert(id.clone(), (key, transport));
    }

    /// A listener is wanted that has no name. Gives it its old one, if its sessions may still go on.
    pub(crate) fn take_back(
        &mut self,
        id: &ListenerId,
        transport: Transport,
        now: Instant,
    ) -> Option<ListenerKey> {
        let (key, until) = self.leaving.remove(&(id.clone(), transport))?;
        (until > now).then(|| {
            self.name(id, transport, key);
            key
        })
    }

    /// A listener isn't wanted any more; its sessions may go on until `until`. Returns what it was.
    pub(crate) fn leave(
        &mut self,
        id: &ListenerId,
        until: Instant,
    ) -> Option<(ListenerKey, Transport)> {
        let (key, transport) = self.wanted.remove(id)?;
        self.leaving.insert((id.clone(), transport), (key, until));
        Some((key, transport))
    }

    /// The listeners with a name that aren't among these.
    pub(crate) fn others(&self, wanted: &BTreeSet<&ListenerId>) -> Vec<ListenerId> {
        self.wanted.keys().filter(|id| !wanted.contains(id)).cloned().collect()
    }

    /// How many names are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wanted.len() + self.leaving.len()
    }

    /// Forgets the names of those whose sessions have had their time.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.leaving.retain(|_, (_, until)| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use l4way_model::GatewayId;

    use super::*;

    fn id(name: &str) -> ListenerId {
        let gateway = GatewayId::new("ns", "gw");
        ListenerId { gateway, listener_set: None, name: name.into() }
    }

    const FIRST: ListenerKey = ListenerKey(1);
    const DRAIN: Duration = Duration::from_secs(60);

    /// A listener that is gone since `now`.
    fn left(now: Instant) -> Keys {
        let mut keys = Keys::default();
        keys.name(&id("l"), Transport::Tcp, FIRST);
        assert_eq!(keys.leave(&id("l"), now + DRAIN), Some((FIRST, Transport::Tcp)));
        assert_eq!(keys.get(&id("l")), None);
        keys
    }

    #[test]
    fn a_listener_that_comes_back_has_its_old_name_as_often_as_it_does() {
        let mut now = Instant::now();
        let mut keys = left(now);
        for _ in 0..3 {
            now += DRAIN / 2;
            assert_eq!(keys.take_back(&id("l"), Transport::Tcp, now), Some(FIRST));
            assert_eq!(keys.of(&id("l"), Transport::Tcp), Some(FIRST));
            assert_eq!(keys.leave(&id("l"), now + DRAIN), Some((FIRST, Transport::Tcp)));
        }
    }

    #[test]
    fn one_whose_sessions_have_had_their_time_has_not() {
        let now = Instant::now();
        let mut keys = left(now);
        assert_eq!(keys.take_back(&id("l"), Transport::Tcp, now + DRAIN), None);
        assert_eq!(keys.take_back(&id("l"), Transport::Tcp, now), None, "it is forgotten");
        let mut keys = left(now);
        keys.forget(now);
        assert_eq!(keys.leaving.len(), 1);
        keys.forget(now + DRAIN);
        assert!(keys.leaving.is_empty());
    }

    #[test]
    fn another_name_or_transport_is_another_listener() {
        let now = Instant::now();
        let mut keys = left(now);
        assert_eq!(keys.take_back(&id("other"), Transport::Tcp, now), None);
        assert_eq!(keys.take_back(&id("l"), Transport::Udp, now), None);
        keys.name(&id("l"), Transport::Udp, ListenerKey(2));
        assert_eq!(keys.of(&id("l"), Transport::Tcp), None);
        keys.leave(&id("l"), now + DRAIN);
        assert_eq!(keys.take_back(&id("l"), Transport::Tcp, now), Some(FIRST));
    }
}
