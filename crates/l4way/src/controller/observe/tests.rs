use l4way_delivery::{
    ACKNOWLEDGEMENT_ANNOTATION, Acknowledgement, DocumentKind, IDENTITY_ANNOTATION, Identity,
    Refusal, Refused,
};
use l4way_model::{BindFailure, BindFailureKind, GatewayId, Listener, ListenerId, Transport};
use l4way_translate::Provision;
use serde_json::json;

use super::*;
use crate::controller::{
    cluster::Cluster,
    objects::{
        CONTAINER,
        tests::{names_of, small},
    },
    ownership::{Owner, Sorted},
};

const HASH: &str = "hash";

fn names() -> ObjectNames {
    ObjectNames::new("gw", "l4way")
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
    answered(pod, Some(&Identity::own()), Some(&Acknowledgement::new(hash, None, &report)))
}

/// The Lease of a pod whose proxy has said this.
fn answered(
    pod: &str,
    identity: Option<&Identity>,
    said: Option<&Acknowledgement>,
) -> ((Kind, ObjectKey), Arc<Value>) {
    let mut annotations = json!({});
    if let Some(identity) = identity {
        annotations[IDENTITY_ANNOTATION] = serde_json::to_string(identity).unwrap().into();
    }
    if let Some(said) = said {
        annotations[ACKNOWLEDGEMENT_ANNOTATION] = serde_json::to_string(said).unwrap().into();
    }
    let name = names().documents.lease(&format!("uid-{pod}"));
    let value = json!({"metadata": {"annotations": annotations}});
    ((Kind::Lease, ObjectKey::new("team", name)), Arc::new(value))
}

fn standing_of<const N: usize>(
    objects: [((Kind, ObjectKey), Arc<Value>); N],
) -> (Standing, ApplyReport) {
    let delivered = Delivered { config: HASH, keys: None };
    standing(&names(), &objects.into(), &config(), delivered)
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

/// A proxy of version 0.0.9 that refuses the configuration.
fn refusing() -> Identity {
    let refusal = Refusal {
        features: ["invented".to_owned()].into(),
        message: "it lacks the feature \"invented\"".to_owned(),
    };
    let refused = Refused { hash: HASH.to_owned(), refusal };
    Identity {
        version: "0.0.9".to_owned(),
        refused: [(DocumentKind::Config, refused)].into(),
        ..Identity::own()
    }
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_version_and_what_it_lacks() {
    let before = Acknowledgement::new("old", None, &ApplyReport::default());
    let others = [pod("b", true), lease("b", HASH, None)];
    let refusing_one = [pod("a", true), answered("a", Some(&refusing()), Some(&before))];
    let [a, b] = others;
    let [c, d] = refusing_one;
    let (standing, _) = standing_of([a, b, c, d]);
    assert_eq!(
        standing,
        Standing::Refused(
            "Pod team/a runs l4way 0.0.9, which refuses the configuration because it lacks the \
             feature \"invented\". The pod still serves the configuration before. To mend this, give \
             the Gateway's proxies a newer image, or take `image` out of its GatewayParameters."
                .to_owned()
        )
    );
}

#[test]
fn a_refusal_of_an_earlier_configuration_is_no_refusal_of_this_one() {
    let mut identity = refusing();
    identity.refused.get_mut(&DocumentKind::Config).unwrap().hash = "other".to_owned();
    let before = Acknowledgement::new("old", None, &ApplyReport::default());
    let objects = [pod("a", true), answered("a", Some(&identity), Some(&before))];
    let (standing, _) = standing_of(objects);
    assert!(matches!(standing, Standing::Unconfirmed(_)), "{standing:?}");
}

#[test]
fn a_proxy_from_before_there_were_versions_is_recognised() {
    let before = Acknowledgement::new("old", None, &ApplyReport::default());
    let (standing, _) = standing_of([pod("a", true), answered("a", None, Some(&before))]);
    assert!(
        matches!(&standing, Standing::Refused(why) if why.contains("from before 0.1.0")),
        "{standing:?}"
    );
}

#[test]
fn a_pod_that_can_read_nothing_says_so_and_one_that_says_nothing_is_suspected() {
    let (standing, _) = standing_of([pod("a", false), answered("a", Some(&refusing()), None)]);
    assert!(
        matches!(&standing, Standing::NoneReady(why) if why.contains("\"invented\"")),
        "{standing:?}"
    );
    let running = json!({"containerStatuses": [{"name": CONTAINER, "state": {"running": {}}}]});
    assert_not_ready(
        running,
        "No proxy is ready: Pod team/a runs, and has not said which l4way it is: it is starting, \
         can't reach the API server, or its image is from before 0.1.0 and can't read the \
         configuration",
    );
}

#[test]
fn renewed_key_pairs_have_to_be_confirmed() {
    let confirmed = |keys: &str| {
        let said = Acknowledgement::new(HASH, Some(keys.to_owned()), &ApplyReport::default());
        let objects = [pod("a", true), answered("a", Some(&Identity::own()), Some(&said))].into();
        let delivered = Delivered { config: HASH, keys: Some("k2") };
        standing(&names(), &objects, &config(), delivered).0
    };
    assert_eq!(confirmed("k2"), Standing::Confirmed);
    let unconfirmed = confirmed("k1");
    assert!(
        matches!(&unconfirmed, Standing::Unconfirmed(who) if who.contains("certificates")),
        "{unconfirmed:?}"
    );
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
    Provision { parameters: serde_json::from_value(parameters).unwrap(), ..small() }
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
    let names = names_of(&provision);
    let reach = reach(&Common::new(&provision, &names), &owned, &nodes(), None);
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

#[test]
fn proxies_are_at_their_pods_and_in_the_host_network_at_their_nodes() {
    let gateway = json!({
        "metadata": {"namespace": "team", "name": "gw", "uid": "1"},
        "spec": {"gatewayClassName": "l4way", "listeners": []},
    });
    let key = ObjectKey::new("team", "gw");
    let gateways = [(key.clone(), Arc::new(serde_json::from_value(gateway).unwrap()))].into();
    let pod = |name: &str, spec: Value, phase: &str, ips: &[&str]| {
        let ips: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        let value = json!({"spec": spec, "status": {"phase": phase, "podIPs": ips}});
        ((Kind::Pod, ObjectKey::new("team", name)), Arc::new(value))
    };
    let on_b = |host: bool| json!({"nodeName": "node-b", "hostNetwork": host});
    let seen = |pods: Vec<((Kind, ObjectKey), Arc<Value>)>| {
        let owned = pods.into_iter().collect();
        let owner = Owner::new("team".into(), Some("1".into()));
        let sorted = Sorted { owned: [(owner, owned)].into(), ..Sorted::default() };
        of_proxies(&gateways, &Cluster::with(sorted, nodes()))
    };
    let ips = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();

    let proxies = seen(vec![
        pod("a", on_b(false), "Running", &["10.1.0.5", "fd00::5"]),
        pod("b", on_b(false), "Pending", &[]),
        pod("c", on_b(false), "Failed", &["10.1.0.6"]),
    ]);
    assert_eq!(proxies.pods, [(key.clone(), ips(&["10.1.0.5", "fd00::5"]))].into());
    assert_eq!(proxies.nodes, ips(&["10.0.0.1", "10.0.0.2", "192.0.2.2"]));

    let proxies = seen(vec![pod("a", on_b(true), "Running", &["10.0.0.2"])]);
    assert_eq!(proxies.pods, [(key, ips(&["10.0.0.2", "192.0.2.2"]))].into());
    assert_eq!(seen(Vec::new()).pods, BTreeMap::new());
}

#[test]
fn a_listener_that_the_policy_keeps_clients_from_is_told() {
    let provision = small();
    let names = names_of(&provision);
    let common = Common::new(&provision, &names);
    let policy = |ports: Value| {
        let value = json!({"spec": {"ingress": [{ "ports": ports }]}});
        ((Kind::NetworkPolicy, ObjectKey::new("team", "gw-l4way")), Arc::new(value))
    };
    let closed = |owned: Owned| closed_port(&common, &owned);
    let [udp, tcp] =
        [json!({"port": 53, "protocol": "UDP"}), json!({"port": 9000, "protocol": "TCP"})];
    assert_eq!(closed(Owned::new()), None, "no policy keeps anybody out");
    assert_eq!(closed([policy(json!([udp, tcp]))].into()), None);
    let why = closed([policy(json!([udp]))].into()).unwrap();
    assert_eq!(why, "NetworkPolicy team/gw-l4way doesn't admit TCP/9000 yet");
}

#[test]
fn sessions_have_as_long_as_the_pod_that_has_most() {
    let mut long = pod("a", true);
    Arc::make_mut(&mut long.1)["spec"]["terminationGracePeriodSeconds"] = 75.into();
    assert_eq!(grace_seconds(&[long, pod("b", false)].into()), 75);
    assert_eq!(grace_seconds(&Owned::new()), 0, "without pods there are none");
}
