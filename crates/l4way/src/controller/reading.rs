//! Which objects are looked at, where what some of them hold has yet to be read.

use l4way_resources::Snapshot;

/// Objects that refer to others of which nothing has been read yet are held until that is done, so that
/// nothing is said or done that would be taken back at once. What was known stays in force meanwhile.
///
/// They are looked at then though newer ones may have come. Else somebody who always changes his
/// references could keep everybody waiting.
#[derive(Debug, Default)]
pub(super) struct Reading {
    held: Option<Snapshot>,
    /// Whether there may be newer objects than those that were looked at.
    behind: bool,
}

impl Reading {
    /// The objects to look at: those that are held, with what has been read meanwhile, or else the newest.
    pub(super) fn next(&mut self, newest: Snapshot) -> Snapshot {
        self.behind = false;
        let Some(held) = &self.held else { return newest };
        let Snapshot { secrets, config_maps, unread, refused, .. } = newest;
        Snapshot { secrets, config_maps, unread, refused, ..held.clone() }
    }

    /// Whether objects are held.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// What these objects refer to is being read.
    pub(super) fn hold(&mut self, snapshot: Snapshot) {
        self.held = Some(snapshot);
    }

    /// Everything has been read that the objects refer to.
    pub(super) fn release(&mut self) {
        self.behind = self.held.take().is_some();
    }

    /// Whether to look again at once.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }
}

#[cfg(test)]
mod tests {
    use l4way_resources::{AnyObject, api::ObjectKey};
    use serde_json::json;

    use super::*;

    fn with(kind: &str, name: &str) -> Snapshot {
        let value = json!({"metadata": {"name": name, "namespace": "apps"}});
        [AnyObject::from_value(kind, &value).unwrap().unwrap()].into_iter().collect()
    }

    #[test]
    fn held_objects_are_looked_at_before_newer_ones() {
        let mut reading = Reading::default();
        let first = with("Namespace", "first");
        assert_eq!(reading.next(first.clone()), first);
        reading.hold(first);
        assert!(reading.holds() && !reading.is_behind());

        let mut newest = with("Namespace", "second");
        newest.secrets = with("Secret", "tls").secrets;
        let next = reading.next(newest.clone());
        let key = |name: &str| ObjectKey::new("apps", name);
        assert!(next.namespaces.contains_key(&key("first")));
        assert!(!next.namespaces.contains_key(&key("second")));
        assert!(next.secrets.contains_key(&key("tls")), "it has been read meanwhile");

        reading.release();
        assert!(reading.is_behind(), "the newest have yet to be looked at");
        assert_eq!(reading.next(newest.clone()), newest);
        reading.release();
        assert!(!reading.is_behind());
    }
}
