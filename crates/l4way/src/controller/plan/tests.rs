use super::*;
use crate::delivery::PARTS;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team", name)
}

fn object(kind: Kind, name: &str, spec: Value) -> Object {
    let value = json!({"metadata": {"name": name, "namespace": "team"}, "spec": spec});
    let mut object = Object { kind, key: key(name), value };
    seal(&mut object);
    object
}

/// What the API server answers to a request for the object: with a default, and a UID.
fn observed(object: &Object) -> ((Kind, ObjectKey), Arc<Value>) {
    let mut value = object.value.clone();
    value["spec"]["default"] = 1.into();
    value["metadata"]["uid"] = "uid".into();
    ((object.kind, object.key.clone()), Arc::new(value))
}

fn infrastructure_of(desired: &[Object], owned: &Owned, is_delivered: bool) -> Steps {
    infrastructure(desired, &[], owned, &mut Settled::default(), is_delivered)
}

#[test]
fn pods_come_last_and_with_a_configuration() {
    let desired = [
        object(Kind::Deployment, "gw", json!({"a": 1})),
        object(Kind::Role, "gw", json!({"a": 1})),
    ];
    let kinds = |steps: Steps| -> Vec<Vec<Kind>> {
        let kind = |step: &Step| match step {
            Step::Apply { object, .. } => object.kind,
            Step::Delete { kind, .. } => *kind,
        };
        steps.iter().map(|group| group.iter().map(kind).collect()).collect()
    };
    let nothing = Owned::new();
    assert_eq!(kinds(infrastructure_of(&desired, &nothing, false)), [[Kind::Role]]);
    let all = infrastructure_of(&desired, &nothing, true);
    assert_eq!(kinds(all), [[Kind::Role], [Kind::Deployment]]);
}

#[test]
fn only_what_differs_is_asked_for() {
    let desired = [object(Kind::Role, "gw", json!({"a": 1}))];
    let mut owned: Owned = [observed(&desired[0])].into();
    assert_eq!(infrastructure_of(&desired, &owned, true), Steps::new());

    let drifted = owned.values_mut().next().unwrap();
    Arc::make_mut(drifted)["spec"]["a"] = 2.into();
    let steps = infrastructure_of(&desired, &owned, true);
    assert_eq!(steps, [[Step::Apply { object: desired[0].clone(), exists: true }]]);
}

#[test]
fn what_is_no_longer_asked_for_is_a_difference() {
    let before = object(Kind::Role, "gw", json!({"a": 1, "b": 2}));
    let after = object(Kind::Role, "gw", json!({"a": 1}));
    let owned: Owned = [observed(&before)].into();
    assert_eq!(infrastructure_of(&[after], &owned, true).len(), 1);
}

#[test]
fn a_value_in_another_form_is_settled() {
    let desired = [object(Kind::Deployment, "gw", json!({"cpu": "0.5"}))];
    let (id, mut answer) = observed(&desired[0]);
    Arc::make_mut(&mut answer)["spec"]["cpu"] = "500m".into();
    let owned: Owned = [(id.clone(), answer.clone())].into();
    let mut settled = Settled::default();
    let steps = |owned: &Owned, settled: &mut Settled| {
        infrastructure(&desired, &[], owned, settled, true).len()
    };
    assert_eq!(steps(&owned, &mut settled), 1, "it differs");
    settled.answered(&desired[0], &answer);
    assert_eq!(steps(&owned, &mut settled), 0, "that was the answer");

    let mut drifted = answer;
    Arc::make_mut(&mut drifted)["spec"]["cpu"] = "1".into();
    assert_eq!(steps(&[(id, drifted)].into(), &mut settled), 1, "somebody has changed it");
}

#[test]
fn what_nobody_wants_goes_but_secrets_and_leases() {
    let [service, secret, lease, pod] = [Kind::Service, Kind::Secret, Kind::Lease, Kind::Pod]
        .map(|kind| observed(&object(kind, "gw", json!({}))));
    let owned: Owned = [service, secret, lease, pod].into();
    let uid = "uid".to_owned();
    let delete = Step::Delete { kind: Kind::Service, key: key("gw"), uid };
    assert_eq!(infrastructure_of(&[], &owned, true), [[delete]]);
}

#[test]
fn what_is_ending_is_waited_for() {
    let desired = [object(Kind::Service, "gw", json!({"a": 1}))];
    let (id, mut value) = observed(&object(Kind::Service, "gw", json!({"a": 2})));
    Arc::make_mut(&mut value)["metadata"]["deletionTimestamp"] = "now".into();
    let owned: Owned = [(id, value)].into();
    assert_eq!(infrastructure_of(&desired, &owned, true), Steps::new());
    assert_eq!(infrastructure_of(&[], &owned, true), Steps::new());
}

/// A cluster that does as it is told.
#[derive(Default)]
struct Secrets(Owned);

impl Secrets {
    /// The names of what is written to deliver this, group by group.
    fn deliver(&mut self, packed: &Packed) -> Vec<Vec<String>> {
        let names = Names::new("gw", "l4way");
        let secret = |name: &str, data: Value| Object {
            kind: Kind::Secret,
            key: key(name),
            value: json!({"metadata": {"name": name}, "data": data}),
        };
        let namespace = "team".into();
        let mut settled = Settled::default();
        let steps = delivery(&names, packed, &self.0, &namespace, &mut settled, secret);
        let mut written = Vec::new();
        for group in steps {
            let mut group: Vec<_> = group.into_iter().map(|step| self.apply(step)).collect();
            group.sort();
            written.push(group);
        }
        let hash = hash_in_force(&names, &self.0, &namespace).map(ToOwned::to_owned);
        assert_eq!(hash, Some(base64(packed.hash.as_bytes())));
        written
    }

    fn apply(&mut self, step: Step) -> String {
        let Step::Apply { object, exists } = step else { panic!("{step:?}") };
        let name = object.key.name.to_string();
        let before = self.0.insert((object.kind, object.key), Arc::new(object.value));
        assert_eq!(before.is_some(), exists);
        name
    }
}

fn packed(hash: &str, parts: usize) -> Packed {
    let parts = (0..parts).map(|number| format!("{hash}{number}").into_bytes());
    Packed { hash: hash.to_owned(), parts: parts.collect() }
}

#[test]
fn a_small_configuration_is_in_its_index() {
    let mut secrets = Secrets::default();
    assert_eq!(secrets.deliver(&packed("one", 1)), [["gw-l4way-config"]]);
    assert_eq!(secrets.deliver(&packed("one", 1)), [[""; 0]; 0]);
    assert_eq!(secrets.deliver(&packed("two", 1)), [["gw-l4way-config"]]);
}

#[test]
fn parts_are_written_in_turn_and_the_index_last() {
    let mut secrets = Secrets::default();
    let index = vec!["gw-l4way-config".to_owned()];
    let parts = |set: &str| -> Vec<String> {
        (0..2).map(|part| format!("gw-l4way-config-{set}-{part}")).collect()
    };
    assert_eq!(secrets.deliver(&packed("one", 2)), [parts("a"), index.clone()]);
    assert!(secrets.deliver(&packed("one", 2)).is_empty());
    assert_eq!(secrets.deliver(&packed("two", 2)), [parts("b"), index.clone()]);
    assert_eq!(secrets.deliver(&packed("three", 2)), [parts("a"), index.clone()]);
    assert_eq!(secrets.deliver(&packed("small", 1)), [index]);
    assert!(secrets.deliver(&packed("most", PARTS)).len() == 2);
}

#[test]
fn a_part_that_was_lost_is_delivered_again() {
    let mut secrets = Secrets::default();
    secrets.deliver(&packed("one", 2));
    secrets.0.remove(&(Kind::Secret, key("gw-l4way-config-a-1")));
    let written = secrets.deliver(&packed("one", 2));
    assert_eq!(written[0], ["gw-l4way-config-b-0", "gw-l4way-config-b-1"]);
    assert!(secrets.deliver(&packed("one", 2)).is_empty());
}

#[test]
fn the_mark_is_of_the_whole_object() {
    let one = object(Kind::Role, "gw", json!({"a": 1}));
    let other = object(Kind::Role, "gw", json!({"a": 2}));
    assert_ne!(mark(&one.value), mark(&other.value));
    assert_eq!(mark(&one.value), mark(&object(Kind::Role, "gw", json!({"a": 1})).value));
}
