use std::sync::Arc;

use super::*;
use crate::{
    controller::{objects::tests::small, plan::is_delivered},
    delivery::PARTS,
};

/// A cluster that does as it is told.
#[derive(Default)]
struct Secrets(Owned);

impl Secrets {
    /// The names of what is written to deliver this, group by group; what is deleted has a minus.
    fn deliver(&mut self, config: Packed, keys: Option<Packed>) -> Vec<Vec<String>> {
        let provision = small();
        let common = Common::new(&provision);
        let documents = Documents { config, keys };
        let steps = delivery(&common, &documents, &self.0, &mut Settled::default());
        let mut written = Vec::new();
        for group in steps {
            let mut group: Vec<_> = group.into_iter().map(|step| self.apply(step)).collect();
            group.sort();
            written.push(group);
        }
        assert!(is_delivered(&common.names, &self.0, &"team".into()));
        for (name, packed) in [("config", Some(documents.config)), ("keys", documents.keys)] {
            let index = self.0.get(&(Kind::Secret, key(&format!("gw-l4way-{name}"))));
            let hash = index.and_then(|index| index["data"]["hash"].as_str());
            let expected = packed.map(|packed| base64(packed.hash.as_bytes()));
            assert_eq!(hash, expected.as_deref());
        }
        written
    }

    fn apply(&mut self, step: Step) -> String {
        match step {
            Step::Apply { object, exists } => {
                let name = object.key.name.to_string();
                let before = self.0.insert((object.kind, object.key), Arc::new(object.value));
                assert_eq!(before.is_some(), exists);
                name
            }
            Step::Delete { kind, key, .. } => {
                assert!(self.0.remove(&(kind, key.clone())).is_some());
                format!("-{}", key.name)
            }
        }
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team", name)
}

fn packed(hash: &str, parts: usize) -> Packed {
    let parts = (0..parts).map(|number| format!("{hash}{number}").into_bytes());
    Packed { hash: hash.to_owned(), parts: parts.collect() }
}

fn parts(prefix: &str, set: &str) -> Vec<String> {
    (0..2).map(|part| format!("{prefix}gw-l4way-config-{set}-{part}")).collect()
}

fn index() -> Vec<String> {
    vec!["gw-l4way-config".to_owned()]
}

#[test]
fn a_small_configuration_is_in_its_index() {
    let mut secrets = Secrets::default();
    assert_eq!(secrets.deliver(packed("one", 1), None), [index()]);
    assert_eq!(secrets.deliver(packed("one", 1), None), [[""; 0]; 0]);
    assert_eq!(secrets.deliver(packed("two", 1), None), [index()]);
}

#[test]
fn parts_are_written_in_turn_and_the_index_after_them() {
    let mut secrets = Secrets::default();
    assert_eq!(secrets.deliver(packed("one", 2), None), [parts("", "a"), index()]);
    assert!(secrets.deliver(packed("one", 2), None).is_empty());
    let written = secrets.deliver(packed("two", 2), None);
    assert_eq!(written, [parts("", "b"), index(), parts("-", "a")]);
    let written = secrets.deliver(packed("three", 2), None);
    assert_eq!(written, [parts("", "a"), index(), parts("-", "b")]);
    assert_eq!(secrets.deliver(packed("small", 1), None), [index(), parts("-", "a")]);
    assert!(secrets.deliver(packed("most", PARTS), None).len() == 2);
}

#[test]
fn a_part_that_was_lost_is_delivered_again() {
    let mut secrets = Secrets::default();
    secrets.deliver(packed("one", 2), None);
    secrets.0.remove(&(Kind::Secret, key("gw-l4way-config-a-1")));
    let written = secrets.deliver(packed("one", 2), None);
    assert_eq!(written[0], parts("", "b"));
    assert!(secrets.deliver(packed("one", 2), None).is_empty());
}

#[test]
fn key_pairs_come_before_the_configuration_and_go_after_it() {
    let mut secrets = Secrets::default();
    let keys = |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).to_owned()).collect() };
    let written = secrets.deliver(packed("one", 1), Some(packed("k1", 1)));
    assert_eq!(written, [keys(&["gw-l4way-keys"]), index()]);
    let written = secrets.deliver(packed("one", 1), Some(packed("k2", 1)));
    assert_eq!(written, [keys(&["gw-l4way-keys"])]);
    let written = secrets.deliver(packed("one", 1), Some(packed("k3", 2)));
    let in_parts = keys(&["gw-l4way-keys-a-0", "gw-l4way-keys-a-1"]);
    assert_eq!(written, [in_parts, keys(&["gw-l4way-keys"])]);
    let written = secrets.deliver(packed("two", 1), None);
    let gone = keys(&["-gw-l4way-keys", "-gw-l4way-keys-a-0", "-gw-l4way-keys-a-1"]);
    assert_eq!(written, [index(), gone]);
}
