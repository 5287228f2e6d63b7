use super::*;

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

#[test]
fn the_mark_is_of_the_whole_object() {
    let one = object(Kind::Role, "gw", json!({"a": 1}));
    let other = object(Kind::Role, "gw", json!({"a": 2}));
    assert_ne!(mark(&one.value), mark(&other.value));
    assert_eq!(mark(&one.value), mark(&object(Kind::Role, "gw", json!({"a": 1})).value));
}
