use l4way_model::{BindFailure, BindFailureKind, GatewayId, Listener, ListenerId, Transport};
use l4way_translate::Provision;
use serde_json::json;

use super::*;
use crate::controller::objects::CONTAINER;

const HASH: &str = "hash";

fn names() -> Names {
    Names::new("gw", "l4way")
}

fn id() -> ListenerId {
    ListenerId { gateway: GatewayId::new("team", "gw"), listener_set: None, name: "tcp".into() }
}

fn config() -> Config {
    let listener = Listener {
        id: id(),
        transport: Transport::Tcp,
        addresses: vec!["0.0.0.0".parse().unwrap()],
        port: 9000,
        route: None,
    };
    Config::new([listener]).unwrap()
}

fn pod(name: &str, ready: bool) -> ((Kind, ObjectKey), Arc<Value>) {
    let value = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"nodeName": format!("node-{name}")},
        "status": {"conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }},
        ]},
    });
    ((Kind::Pod, ObjectKey::new("team", name)), Arc::new(value))
}

fn lease(pod: &str, hash: &str, failure: Option<BindFailure>) -> ((Kind, ObjectKey), Arc<Value>) {
    let result = failure.map_or(ListenerReport::Bound, ListenerReport::Failed);
    let report = ApplyReport { listeners: [(id(), result)].into(), ..ApplyReport::default() };
    let answer = serde_json::to_string(&Acknowledgement::new(hash, &report)).unwrap();
    let value = json!({"metadata": {"annotations": {ACKNOWLEDGEMENT_ANNOTATION: answer}}});
    let name = names().lease(&format!("uid-{pod}"));
    ((Kind::Lease, ObjectKey::new("team", name)), Arc::new(value))
}

fn standing_of<const N: usize>(
    objects: [((Kind, ObjectKey), Arc<Value>); N],
) -> (Standing, ApplyReport) {
    standing(&names(), &objects.into(), &config(), HASH)
}

#[test]
fn every_ready_proxy_has_to_confirm() {
    let (standing, report) = standing_of([
        pod("a", true),
        pod("b", true),
        pod("c", false),
        lease("a", HASH, None),
        lease("b", HASH, None),
    ]);
    assert_eq!(standing, Standing::Confirmed);
    assert_eq!(report.listeners, [(id(), ListenerReport::Bound)].into());

    let objects = [pod("a", true), pod("b", true), lease("a", HASH, None)];
    let (standing, _) = standing_of(objects);
    assert!(
        matches!(&standing, Standing::Unconfirmed(who) if who.contains("team/b")),
        "{standing:?}"
    );

    let old = [pod("a", true), lease("a", "old", None)];
    assert!(matches!(standing_of(old).0, Standing::Unconfirmed(who) if who.contains("earlier")));
}

#[test]
fn what_failed_in_one_pod_has_failed() {
    let failure = BindFailure {
        bind: "0.0.0.0:9000".parse().unwrap(),
        kind: BindFailureKind::PortTaken,
        message: "taken".to_owned(),
    };
    let (standing, report) = standing_of([
        pod("a", true),
        pod("b", true),
        lease("a", HASH, Some(failure.clone())),
        lease("b", HASH, None),
    ]);
    assert_eq!(standing, Standing::Confirmed);
    assert_eq!(report.listeners, [(id(), ListenerReport::Failed(failure))].into());
}

/// Why none is ready, of a pod with this status.
#[track_caller]
fn assert_not_ready(status: Value, expected: &str) {
    let (key, mut value) = pod("a", false);
    Arc::make_mut(&mut value)["status"] = status;
    match standing_of([(key, value)]).0 {
        Standing::NoneReady(why) => assert_eq!(why, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_told_why_no_proxy_is_ready() {
    assert_not_ready(json!({}), "No proxy is ready: Pod team/a is starting");
    let waiting = |reason: &str, message: &str| {
        json!({"containerStatuses": [{
            "name": CONTAINER,
            "state": {"waiting": {"reason": reason, "message": message}},
        }]})
    };
    assert_not_ready(
        waiting("ImagePullBackOff", "Back-off pulling image \"l4way:none\""),
        "No proxy is ready: Pod team/a: ImagePullBackOff: Back-off pulling image \"l4way:none\"",
    );
    assert_not_ready(waiting("ContainerCreating", ""), "No proxy is ready: Pod team/a is starting");
    let unscheduled = json!({"conditions": [{
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available",
    }]});
    assert_not_ready(
        unscheduled,
        "No proxy is ready: Pod team/a has no node: Unschedulable: 0/1 nodes are available",
    );
    let nothing = standing_of([]).0;
    assert!(
        matches!(&nothing, Standing::NoneReady(why) if why.contains("Deployment")),
        "{nothing:?}"
    );
}

fn provision(parameters: Value) -> Provision {
    Provision {
        gateway: ObjectKey::new("team", "gw"),
        uid: None,
        generation: 1,
        class: "l4way".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        parameters: serde_json::from_value(parameters).unwrap(),
        addresses: Vec::new(),
        ports: [(9000, Transport::Tcp)].into(),
        compiled: Default::default(),
        endpoint_namespaces: Default::default(),
        may_run: true,
    }
}

fn service(value: Value) -> ((Kind, ObjectKey), Arc<Value>) {
    ((Kind::Service, ObjectKey::new("team", "gw-l4way")), Arc::new(value))
}

fn node(name: &str, addresses: Value) -> (ObjectKey, Arc<Value>) {
    let conditions = json!([{"type": "Ready", "status": "True"}]);
    let value = json!({"status": {"addresses": addresses, "conditions": conditions}});
    (ObjectKey::new("", name), Arc::new(value))
}

fn nodes() -> BTreeMap<ObjectKey, Arc<Value>> {
    let internal = json!([{"type": "InternalIP", "address": "10.0.0.1"}]);
    let both = json!([
        {"type": "InternalIP", "address": "10.0.0.2"},
        {"type": "ExternalIP", "address": "192.0.2.2"},
    ]);
    [node("node-a", internal), node("node-b", both)].into()
}

fn reach_of(parameters: Value, owned: Owned) -> (Vec<String>, Reach) {
    let provision = provision(parameters);
    let reach = reach(&Common::new(&provision), &owned, &nodes(), None);
    (reach.addresses.iter().map(|address| address.value.clone()).collect(), reach)
}

#[test]
fn addresses_are_the_load_balancers() {
    let ingress = json!([{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]);
    let given = service(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    let (addresses, reach) = reach_of(json!({}), [given].into());
    assert_eq!(addresses, ["192.0.2.1", "lb.example.com"]);
    assert_eq!(&*reach.addresses[1].kind, "Hostname");
    assert_eq!((reach.pending, reach.note), (None, None));
}

#[test]
fn addresses_are_the_nodes() {
    let node_port = json!({"service": {"type": "NodePort"}});
    let owned: Owned = [service(json!({})), pod("b", true), pod("a", false)].into();
    assert_eq!(reach_of(node_port, owned.clone()).0, ["192.0.2.2"]);
    let everywhere = json!({"service": {"type": "NodePort", "externalTrafficPolicy": "Cluster"}});
    let (addresses, reach) = reach_of(everywhere, owned.clone());
    assert_eq!(addresses, ["10.0.0.1", "192.0.2.2"]);
    assert!(reach.note.unwrap().contains("externalTrafficPolicy"));
    assert_eq!(reach_of(json!({"hostNetwork": true}), owned).0, ["192.0.2.2"]);
}

#[test]
fn addresses_are_the_clusters() {
    let owned: Owned = [service(json!({"spec": {"clusterIPs": ["10.96.0.7", "fd00::7"]}}))].into();
    let (addresses, _) = reach_of(json!({"service": {"type": "ClusterIP"}}), owned);
    assert_eq!(addresses, ["10.96.0.7", "fd00::7"]);
}

#[test]
fn it_is_told_what_to_do_about_a_pending_address() {
    let (addresses, reach) = reach_of(json!({}), [service(json!({}))].into());
    assert!(addresses.is_empty());
    let pending = reach.pending.unwrap();
    assert!(pending.contains("MetalLB") && pending.contains("minikube tunnel"), "{pending}");
}
