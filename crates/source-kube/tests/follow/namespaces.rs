//! Where namespaces are named, nothing is asked of others.

use std::collections::BTreeSet;

use l4way_resources::api::ObjectKey;
use l4way_source_kube::{RawKind, Source, Wants};
use serde_json::{Value, json};

use crate::{fake_api::FakeApi, wait};

const NAMESPACES: &str = "/api/v1/namespaces";
const SERVICES: &str = "/api/v1/services";
const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/gateways";
const CLASSES: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn service() -> Value {
    json!({"spec": {"ports": [{"port": 80}]}})
}

/// A cluster with a Service in each of three namespaces.
fn fill(api: &FakeApi) {
    for (plural, name) in [("gateways", "Gateway"), ("gatewayclasses", "GatewayClass")] {
        let crd = json!({
            "spec": {"names": {"kind": name}, "versions": [{"name": "v1", "served": true}]},
            "status": {"conditions": [{"type": "Established", "status": "True"}]},
        });
        api.put(CRDS, "", &format!("{plural}.gateway.networking.k8s.io"), crd);
    }
    let class = json!({"spec": {"controllerName": "l4way.dev/gateway-controller"}});
    api.put(CLASSES, "", "l4way", class);
    for namespace in ["a", "b", "other"] {
        api.put(NAMESPACES, "", namespace, json!({"metadata": {"labels": {"of": namespace}}}));
        api.put(SERVICES, namespace, "app", service());
        let gateway = json!({"spec": {"gatewayClassName": "l4way", "listeners": []}});
        api.put(GATEWAYS, namespace, "edge", gateway);
    }
}

fn namespaces_of<'a>(keys: impl Iterator<Item = &'a ObjectKey>) -> Vec<&'a str> {
    keys.map(|key| &*key.namespace).collect()
}

#[tokio::test]
async fn only_objects_in_the_named_namespaces_are_seen() {
    let (api, client) = FakeApi::start().await;
    fill(&api);
    let namespaces: BTreeSet<_> = ["a", "b"].map(str::to_owned).into();
    let node = RawKind {
        version: "v1".to_owned(),
        kind: "Node".to_owned(),
        plural: "nodes".to_owned(),
        cluster_scoped: true,
        ..RawKind::default()
    };
    let wants = Wants { namespaces, raw: vec![node], ..Wants::default() };
    let mut source = Source::start(client, wants);
    let snapshot = wait(&mut source, |_| true).await;
    assert_eq!(namespaces_of(snapshot.services.keys()), ["a", "b"]);
    assert_eq!(namespaces_of(snapshot.gateways.keys()), ["a", "b"]);
    assert_eq!(snapshot.gateway_classes.len(), 1);
    let names: Vec<_> = snapshot.namespaces.keys().map(|key| &*key.name).collect();
    assert_eq!(names, ["a", "b"]);

    // Changes of one leave what is known of the other alone.
    api.put(SERVICES, "other", "new", service());
    api.delete(SERVICES, "a", "app");
    api.put(SERVICES, "b", "new", service());
    let key = ObjectKey::new("b", "new");
    let snapshot = wait(&mut source, |snapshot| snapshot.services.contains_key(&key)).await;
    let snapshot = match snapshot.services.len() {
        2 => snapshot,
        _ => wait(&mut source, |snapshot| snapshot.services.len() == 2).await,
    };
    assert_eq!(namespaces_of(snapshot.services.keys()), ["b", "b"]);

    for asked in api.asked("/") {
        let path = asked.path.as_str();
        let in_named = ["a", "b"].iter().any(|name| {
            path.contains(&format!("/namespaces/{name}/"))
                || (path == NAMESPACES
                    && asked.query["fieldSelector"] == format!("metadata.name%3D{name}"))
        });
        let of_cluster = path.starts_with(CRDS)
            || path == CLASSES
            || path == "/api/v1/nodes"
            || path == "/version";
        assert!(in_named || of_cluster, "{asked:?}");
    }
}
