use std::{env, fs, path::Path};

use l4way_model::{Config, GatewayId, Listener, ListenerId, Transport};
use l4way_resources::api::GatewayParametersSpec;
use l4way_translate::Compiled;
use serde_json::json;

use super::*;
use crate::output;

pub(crate) fn settings() -> Settings {
    Settings {
        image: "l4way:test".to_owned(),
        image_pull_policy: None,
        endpoints_role: "l4way-proxy-endpoints".to_owned(),
        metrics_from: None,
        requires: BTreeSet::new(),
    }
}

/// A Gateway of which nothing special is asked.
pub(crate) fn small() -> Provision {
    Provision {
        gateway: ObjectKey::new("team", "gw"),
        uid: Some("1234".into()),
        generation: 1,
        class: "l4way".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        parameters: GatewayParametersSpec::default(),
        addresses: Vec::new(),
        ports: [(9000, Transport::Tcp), (53, Transport::Udp)].into(),
        compiled: Compiled::default(),
        endpoint_namespaces: ["team".into()].into(),
        may_run: true,
    }
}

fn full() -> Provision {
    let parameters = json!({
        "image": "registry.example/l4way:custom",
        "imagePullPolicy": "Never",
        "replicas": 3,
        "resources": {"limits": {"memory": "1Gi"}},
        "nodeSelector": {"edge": "true"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "topologySpreadConstraints": [{
            "maxSkew": 2,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
        }],
        "service": {
            "type": "LoadBalancer",
            "loadBalancerClass": "example.com/lb",
            "externalTrafficPolicy": "Cluster",
            "annotations": {"example.com/pool": "public"},
        },
        "log": {"level": "Debug", "format": "Json"},
        "accessLog": "Stdout",
        "dataPath": "Kernel",
        "drainSeconds": 300,
        "connectTimeoutSeconds": 2,
        "udpSessionTimeoutSeconds": 30,
        "atLimit": "Evict",
    });
    Provision {
        labels: [("team", "db"), (MANAGED_BY, "somebody")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        annotations: [("note".to_owned(), "hello".to_owned())].into(),
        parameters: serde_json::from_value(parameters).unwrap(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        endpoint_namespaces: ["apps".into(), "team".into()].into(),
        ..small()
    }
}

/// The names of what this Gateway has, if nobody else has any of them.
pub(crate) fn names_of(provision: &Provision) -> ObjectNames {
    ObjectNames::new(&provision.gateway.name, &provision.class)
}

fn desired(provision: &Provision, settings: &Settings, pods: &[PodId]) -> Vec<Object> {
    super::desired(&Common::new(provision, &names_of(provision)), settings, pods, &Leaving::new())
}

fn pods() -> Vec<PodId> {
    ["a", "b"].map(|id| PodId { name: format!("gw-l4way-{id}"), uid: format!("uid-{id}") }).into()
}

/// Compares the objects with those in `testdata`, which `L4WAY_GOLDEN=refresh` writes.
#[track_caller]
fn assert_golden(name: &str, objects: &[Object]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/controller/objects/testdata")
        .join(format!("{name}.yaml"));
    let documents: Vec<_> = objects.iter().map(|object| output::yaml(&object.value)).collect();
    let actual = documents.join("---\n");
    if env::var("L4WAY_GOLDEN").as_deref() == Ok("refresh") {
        fs::write(&file, &actual).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs", file.display());
}

fn of_kind(objects: &[Object], kind: Kind) -> Vec<&Value> {
    objects.iter().filter(|object| object.kind == kind).map(|object| &object.value).collect()
}

#[test]
fn a_small_gateway_has_what_it_needs() {
    assert_golden("small", &desired(&small(), &settings(), &[]));
}

#[test]
fn parameters_and_infrastructure_are_in_the_objects() {
    assert_golden("full", &desired(&full(), &settings(), &pods()));
}

#[test]
fn no_listener_route_or_label_is_in_a_pod_template() {
    let template = |provision: &Provision| {
        let objects = desired(provision, &settings(), &pods());
        of_kind(&objects, Kind::Deployment)[0]["spec"]["template"].clone()
    };
    let id = ListenerId {
        gateway: GatewayId::new("team", "gw"),
        listener_set: None,
        name: "new".into(),
    };
    let listener = Listener {
        id,
        transport: Transport::Tcp,
        addresses: vec!["0.0.0.0".parse().unwrap()],
        port: 1,
        route: None,
    };
    let changed = Provision {
        generation: 7,
        labels: [("new".to_owned(), "label".to_owned())].into(),
        annotations: [("new".to_owned(), "annotation".to_owned())].into(),
        addresses: vec!["192.0.2.9".parse().unwrap()],
        ports: [(1, Transport::Tcp)].into(),
        compiled: Compiled { config: Config::new([listener]).unwrap(), ..Compiled::default() },
        endpoint_namespaces: ["elsewhere".into()].into(),
        ..small()
    };
    assert_eq!(template(&changed), template(&small()));
}

#[test]
fn what_a_running_proxy_can_follow_is_not_in_its_deployment() {
    let deployment = |parameters: Value| {
        let mut provision = small();
        provision.parameters = serde_json::from_value(parameters).unwrap();
        of_kind(&desired(&provision, &settings(), &pods()), Kind::Deployment)[0].clone()
    };
    let none = deployment(json!({}));
    for parameters in [
        json!({"log": {"level": "Debug"}}),
        json!({"log": {"format": "Text"}}),
        json!({"accessLog": "Stdout"}),
        json!({"connectTimeoutSeconds": 2}),
        json!({"udpSessionTimeoutSeconds": 30}),
        json!({"atLimit": "Evict"}),
    ] {
        assert_eq!(deployment(parameters.clone()), none, "{parameters}");
    }
}

#[test]
fn on_the_host_network_there_is_no_service() {
    let mut provision = small();
    provision.parameters.host_network = Some(true);
    let objects = desired(&provision, &settings(), &[]);
    assert!(of_kind(&objects, Kind::Service).is_empty());
    let deployment = &of_kind(&objects, Kind::Deployment)[0]["spec"];
    assert_eq!(deployment["strategy"]["rollingUpdate"]["maxSurge"], 0);
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert!(pod["securityContext"].get("sysctls").is_none());
    let capabilities = &pod["containers"][0]["securityContext"]["capabilities"];
    assert_eq!(*capabilities, json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}));
}

#[test]
fn services_are_as_the_parameters_say() {
    let spec = |parameters: Value, addresses: &[&str]| {
        let mut provision = small();
        provision.parameters = serde_json::from_value(parameters).unwrap();
        provision.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let objects = desired(&provision, &settings(), &[]);
        let services = of_kind(&objects, Kind::Service);
        (services[0]["spec"].clone(), services[0]["metadata"]["annotations"].clone())
    };
    let (lb, annotations) = spec(json!({}), &["192.0.2.1"]);
    assert_eq!(lb["loadBalancerIP"], "192.0.2.1");
    assert_eq!(lb["externalTrafficPolicy"], "Local");
    assert_eq!(annotations, Value::Null);
    let (node_port, _) = spec(json!({"service": {"type": "NodePort"}}), &["192.0.2.1"]);
    assert_eq!(node_port["type"], "NodePort");
    assert_eq!(node_port["externalTrafficPolicy"], "Local");
    assert!(node_port.get("loadBalancerIP").is_none());
    let (cluster_ip, _) = spec(json!({"service": {"type": "ClusterIP"}}), &[]);
    assert!(cluster_ip.get("externalTrafficPolicy").is_none());
}

#[test]
fn without_ports_there_is_no_service() {
    let provision = Provision { ports: Default::default(), ..small() };
    assert!(of_kind(&desired(&provision, &settings(), &[]), Kind::Service).is_empty());
}

#[test]
fn bindings_of_any_two_gateways_have_different_names() {
    let bindings = |namespace: &str, gateway: &str, uid: &str| {
        let provision = Provision {
            gateway: ObjectKey::new(namespace, gateway),
            uid: Some(uid.into()),
            endpoint_namespaces: ["apps".into(), namespace.into()].into(),
            ..small()
        };
        let objects = desired(&provision, &settings(), &[]);
        let bindings = of_kind(&objects, Kind::RoleBinding).into_iter().cloned();
        let bindings: Vec<_> = bindings.filter(|b| b["roleRef"]["kind"] == "ClusterRole").collect();
        assert_eq!(bindings.len(), 2);
        bindings
    };
    let hash = |binding: &Value| binding["metadata"]["labels"][OWNER_HASH].clone();
    let one = bindings("a", "b-c", "1");
    // The names run together, and the last one is the first one made anew.
    for other in [bindings("a-b", "c", "2"), bindings("a", "b-c", "3")] {
        assert_ne!(one[0]["metadata"]["name"], other[0]["metadata"]["name"]);
        assert_ne!(hash(&one[0]), hash(&other[0]));
    }
    for binding in bindings("team", "gw", "1").iter().chain(&one) {
        let metadata = &binding["metadata"];
        let is_home = metadata["namespace"] == metadata["labels"][GATEWAY_NAMESPACE];
        assert_eq!(metadata["ownerReferences"].is_array(), is_home, "{metadata}");
    }
}

#[test]
fn every_reference_is_to_the_name_that_was_chosen() {
    let provision = full();
    let mut names = names_of(&provision);
    names.choose(&Default::default(), true);
    let objects =
        super::desired(&Common::new(&provision, &names), &settings(), &pods(), &Leaving::new());
    let text =
        serde_json::to_string(&objects.iter().map(|o| &o.value).collect::<Vec<_>>()).unwrap();
    let plain = ["\"gw-l4way\"", "=gw-l4way\"", "\"gw-l4way-config", "\"gw-l4way-uid"];
    assert!(!plain.iter().any(|name| text.contains(name)), "{text}");
}

#[test]
fn long_names_fit() {
    let long = "n".repeat(200);
    let provision = Provision { gateway: ObjectKey::new("team", long.clone()), ..full() };
    for Object { kind, key, value } in desired(&provision, &settings(), &pods()) {
        // Pods and Services are known by a DNS label, Leases by a domain name.
        let longest = if kind == Kind::Lease { 253 } else { 63 };
        assert!(key.name.len() <= longest, "{kind:?} {key}");
        let labels = value["metadata"]["labels"].as_object().unwrap();
        assert!(labels.values().all(|label| label.as_str().unwrap().len() <= 63), "{labels:?}");
    }
}

#[test]
fn annotations_spread_no_key_and_give_nobody_an_identity() {
    let annotated = |provision: &Provision| {
        let mut objects = desired(provision, &settings(), &[]);
        let names = names_of(provision);
        objects.push(Common::new(provision, &names).object(Kind::Secret, "config", json!({})));
        let annotated =
            objects.iter().filter(|o| o.value["metadata"]["annotations"]["note"] == "hello");
        annotated.map(|object| object.kind).collect::<BTreeSet<_>>()
    };
    let mut provision = full();
    let without = [Kind::Service, Kind::PodDisruptionBudget, Kind::Deployment];
    assert_eq!(annotated(&provision), without.into());
    let asked = json!({"serviceAccount": {"infrastructureAnnotations": "Copy"}});
    provision.parameters = serde_json::from_value(asked).unwrap();
    let mut with = BTreeSet::from(without);
    with.insert(Kind::ServiceAccount);
    assert_eq!(annotated(&provision), with);
}

#[test]
fn the_gateways_labels_are_laid_over_running_pods() {
    let full = full();
    let overlay = pod_metadata(&Common::new(&full, &names_of(&full)), &pods()[0]).value;
    let metadata = &overlay["metadata"];
    assert_eq!(metadata["uid"], "uid-a");
    assert_eq!(metadata["labels"]["team"], "db");
    assert_eq!(metadata["labels"][MANAGED_BY], MANAGER);
    assert_eq!(metadata["annotations"]["note"], "hello");
}
