use std::sync::Arc;

use l4way_delivery::pack;

use super::*;
use crate::controller::{
    objects::tests::{names_of, small},
    plan::is_delivered,
};

/// A cluster that does as it is told.
#[derive(Default)]
struct Secrets(Owned);

impl Secrets {
    /// The names of what is written to deliver this, pass by pass; what is deleted has a minus.
    fn deliver(&mut self, config: Packed, keys: Option<Packed>) -> Vec<Vec<String>> {
        let documents = Documents { config, keys, key_names: BTreeSet::new() };
        let mut written = Vec::new();
        loop {
            let mut pass: Vec<_> =
                self.steps(&documents, None, false).into_iter().map(|s| self.apply(s)).collect();
            if pass.is_empty() {
                break;
            }
            pass.sort();
            written.push(pass);
        }
        let provision = small();
        let names = names_of(&provision);
        assert!(is_delivered(&names.documents, &self.0, &"team".into()));
        for (name, packed) in [("config", Some(documents.config)), ("keys", documents.keys)] {
            let index = self.0.get(&(Kind::Secret, key(&format!("gw-l4way-{name}"))));
            let hash = index.and_then(|index| index["data"]["hash"].as_str());
            let expected = packed.map(|packed| base64(packed.hash.as_bytes()));
            assert_eq!(hash, expected.as_deref());
        }
        written
    }

    /// What is to be done now. Of the busy document something is being written.
    fn steps(
        &self,
        documents: &Documents,
        busy: Option<DocumentKind>,
        have_keys_failed: bool,
    ) -> Vec<Step> {
        let provision = small();
        let names = names_of(&provision);
        let common = Common::new(&provision, &names);
        let mut settled = Settled::default();
        let is_busy = |kind| Some(kind) == busy;
        delivery(&common, documents, &self.0, &mut settled, is_busy, have_keys_failed)
    }

    fn apply(&mut self, step: Step) -> String {
        match step {
            Step::Apply { mut object, uid } => {
                let name = object.key.name.to_string();
                object.value["metadata"]["uid"] = format!("uid of {name}").into();
                let before = self.0.insert((object.kind, object.key), Arc::new(object.value));
                let before = before.map(|before| before["metadata"]["uid"].clone());
                assert_eq!(before, uid.map(Value::from));
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
    let parts = (0..parts).map(|number| format!("{hash}{number}").into_bytes().into());
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
    assert!(secrets.deliver(packed("one", 1), None).is_empty());
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

#[test]
fn a_document_that_is_being_written_is_not_written_again() {
    let secrets = Secrets::default();
    let documents = Documents {
        config: packed("one", 1),
        keys: Some(packed("k1", 2)),
        key_names: BTreeSet::new(),
    };
    assert_eq!(secrets.steps(&documents, None, false).len(), 2, "the parts of the key pairs");
    assert!(secrets.steps(&documents, Some(DocumentKind::Keys), false).is_empty());
}

#[test]
fn keys_that_cannot_be_written_hold_up_only_what_names_them() {
    let pair = |name: &str| {
        Arc::new(l4way_model::KeyPair {
            name: name.into(),
            certificate_chain: "chain".into(),
            private_key: "key".to_owned().into(),
        })
    };
    let pairs = |names: &[&str]| {
        let mut pairs = KeyPairs::default();
        names.iter().for_each(|name| pairs.insert(pair(name)));
        pairs
    };
    let mut secrets = Secrets::default();
    let before = pack(&pairs(&["a"])).unwrap();
    secrets.deliver(packed("one", 1), Some(before));
    let documents = |names: &[&str]| Documents {
        config: packed("two", 1),
        // Renewed, too.
        keys: Some(packed("other", 1)),
        key_names: pairs(names).names(),
    };
    let written = |documents: &Documents, have_keys_failed| {
        let steps = secrets.steps(documents, None, have_keys_failed);
        steps.iter().map(|step| step.id().1.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(written(&documents(&["a"]), false), ["gw-l4way-keys"], "they come first");
    assert_eq!(written(&documents(&["a"]), true), ["gw-l4way-keys", "gw-l4way-config"]);
    assert_eq!(written(&documents(&["a", "b"]), true), ["gw-l4way-keys"]);
}

#[test]
fn what_was_delivered_can_be_read_again() {
    let names = Names::new("gw", "l4way");
    let mut secrets = Secrets::default();
    assert!(delivered::<KeyPairs>(&names, &secrets.0).is_err());
    let mut pairs = KeyPairs::default();
    pairs.insert(Arc::new(l4way_model::KeyPair {
        name: "a".into(),
        certificate_chain: "chain".into(),
        private_key: "key".to_owned().into(),
    }));
    let whole = pack(&pairs).unwrap();
    secrets.deliver(packed("one", 1), Some(whole.clone()));
    assert_eq!(delivered(&names, &secrets.0), Ok(pairs.clone()));
    let half = whole.parts[0].len() / 2;
    let (first, second) = whole.parts[0].split_at(half);
    let parts = Packed { parts: vec![first.to_vec().into(), second.to_vec().into()], ..whole };
    secrets.deliver(packed("one", 1), Some(parts));
    assert_eq!(delivered(&names, &secrets.0), Ok(pairs));
    secrets.0.remove(&(Kind::Secret, key("gw-l4way-keys-a-1")));
    assert!(delivered::<KeyPairs>(&names, &secrets.0).unwrap_err().contains("keys-a-1"));
}
