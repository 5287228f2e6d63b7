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

fn infrastructure_of(desired: &[Object], owned: &Owned, is_delivered: bool) -> Vec<Step> {
    infrastructure(desired, &[], owned, &mut Settled::default(), is_delivered)
}

/// The kinds of objects that something is done about.
fn kinds(steps: &[Step]) -> Vec<Kind> {
    steps.iter().map(|step| step.id().0).collect()
}

#[test]
fn what_an_object_cannot_be_without_comes_before_it() {
    let all = [
        Kind::ServiceAccount,
        Kind::Role,
        Kind::RoleBinding,
        Kind::Service,
        Kind::PodDisruptionBudget,
        Kind::Deployment,
    ];
    let desired = all.map(|kind| object(kind, "gw", json!({"a": 1})));
    let mut owned = Owned::new();
    let first = infrastructure_of(&desired, &owned, true);
    assert_eq!(
        kinds(&first),
        [Kind::ServiceAccount, Kind::Role, Kind::Service, Kind::PodDisruptionBudget]
    );
    // Those that can't be written hold up nobody but who would be somebody else's with them.
    owned.extend([observed(&desired[0])]);
    let steps = infrastructure_of(&desired, &owned, true);
    assert_eq!(
        kinds(&steps),
        [Kind::Role, Kind::Service, Kind::PodDisruptionBudget, Kind::Deployment]
    );
    owned.extend([observed(&desired[1])]);
    let steps = infrastructure_of(&desired, &owned, true);
    assert_eq!(kinds(&steps), all[2..]);
    let steps = infrastructure_of(&desired, &owned, false);
    assert_eq!(kinds(&steps), all[2..5], "pods come with a configuration");
}

#[test]
fn bindings_of_earlier_releases_go_when_their_successors_are_there() {
    let key = |namespace: &str, name: &str| ObjectKey::new(namespace, name);
    let binding = |namespace: &str, name: &str, labels: Value| {
        let metadata = json!({"namespace": namespace, "name": name, "labels": labels});
        let key = key(namespace, name);
        let value = json!({"metadata": metadata, "spec": {}});
        let mut object = Object { kind: Kind::RoleBinding, key, value };
        seal(&mut object);
        object
    };
    let hashed =
        |namespace: &str| binding(namespace, "l4way-gw-1", json!({"l4way.dev/owner": "1"}));
    let old = |namespace: &str| observed(&binding(namespace, "l4way-gw", json!({})));
    let mut owned: Owned = [old("apps"), old("former")].into();
    let desired = [hashed("apps")];
    let ids = |owned: &Owned| -> Vec<_> {
        let steps = infrastructure_of(&desired, owned, true);
        steps.iter().map(|step| step.id().1).collect()
    };
    assert_eq!(ids(&owned), [key("apps", "l4way-gw-1"), key("former", "l4way-gw")]);
    owned.extend([observed(&desired[0])]);
    assert_eq!(ids(&owned), [key("apps", "l4way-gw"), key("former", "l4way-gw")]);
}

#[test]
fn only_what_differs_is_asked_for() {
    let desired = [object(Kind::Role, "gw", json!({"a": 1}))];
    let mut owned: Owned = [observed(&desired[0])].into();
    assert!(infrastructure_of(&desired, &owned, true).is_empty());

    let drifted = owned.values_mut().next().unwrap();
    Arc::make_mut(drifted)["spec"]["a"] = 2.into();
    let steps = infrastructure_of(&desired, &owned, true);
    let uid = Some("uid".to_owned());
    assert_eq!(steps, [Step::Apply { object: desired[0].clone(), uid }]);
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
    let desired = [object(Kind::Service, "gw", json!({"cpu": "0.5"}))];
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
    assert_eq!(infrastructure_of(&[], &owned, true), [delete]);
}

#[test]
fn while_a_gateway_is_not_accepted_only_rights_to_endpoints_change() {
    let binding = |name: &str, role: &str| {
        let labels = json!({"l4way.dev/owner": "1"});
        let metadata = json!({"name": name, "namespace": "team", "labels": labels});
        let value = json!({"metadata": metadata, "roleRef": {"kind": role}});
        let mut object = Object { kind: Kind::RoleBinding, key: key(name), value };
        seal(&mut object);
        object
    };
    let own = observed(&binding("own", "Role"));
    let [kept, gone, new] = ["kept", "gone", "new"].map(|name| binding(name, "ClusterRole"));
    let service = observed(&object(Kind::Service, "gw", json!({})));
    let owned: Owned = [own, service, observed(&kept), observed(&gone)].into();
    let steps = endpoint_bindings(&[kept, new.clone()], &owned, &mut Settled::default());
    let apply = Step::Apply { object: new, uid: None };
    let delete = Step::Delete { kind: Kind::RoleBinding, key: key("gone"), uid: "uid".to_owned() };
    assert_eq!(steps, [apply, delete]);
}

#[test]
fn what_is_ending_is_waited_for() {
    let desired = [object(Kind::Service, "gw", json!({"a": 1}))];
    let (id, mut value) = observed(&object(Kind::Service, "gw", json!({"a": 2})));
    Arc::make_mut(&mut value)["metadata"]["deletionTimestamp"] = "now".into();
    let owned: Owned = [(id, value)].into();
    assert!(infrastructure_of(&desired, &owned, true).is_empty());
    assert!(infrastructure_of(&[], &owned, true).is_empty());
}

#[test]
fn the_mark_is_of_the_whole_object() {
    let one = object(Kind::Role, "gw", json!({"a": 1}));
    let other = object(Kind::Role, "gw", json!({"a": 2}));
    assert_ne!(mark(&one.value), mark(&other.value));
    assert_eq!(mark(&one.value), mark(&object(Kind::Role, "gw", json!({"a": 1})).value));
}
