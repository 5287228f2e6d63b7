//! Backends that no route refers to any more, but that sessions may be with.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use l4way_model::{BackendId, BackendSource, Transport};
use l4way_resources::{AnyObject, Snapshot};
use l4way_translate::{Settings, graph};
use serde_json::{Value, json};

fn object(kind: &str, value: Value) -> AnyObject {
    AnyObject::from_value(kind, &value).unwrap().unwrap()
}

fn id(kind: &str, name: &str, port: Option<u16>) -> BackendId {
    BackendId {
        kind: kind.into(),
        namespace: "default".into(),
        name: name.into(),
        port,
        transport: Transport::Udp,
    }
}

#[test]
fn they_are_looked_up_as_long_as_they_are_there() {
    let metadata = |name: &str| json!({"name": name, "namespace": "default"});
    let endpoints = json!([{"ip": {"address": "192.0.2.1", "port": 53}}]);
    let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}]);
    let snapshot: Snapshot = [
        object("Backend", json!({"metadata": metadata("b"), "spec": {"endpoints": endpoints}})),
        object("Service", json!({"metadata": metadata("s"), "spec": {"ports": ports}})),
    ]
    .into_iter()
    .collect();
    let there = [id("Backend", "b", None), id("Service", "s", Some(53))];
    let gone = [id("Backend", "other", None), id("Service", "s", Some(54))];
    let former = there.iter().chain(&gone).cloned().collect();
    let settings = Settings { former, ..Settings::default() };
    let looked_up = graph(&snapshot, &settings);
    let Some(BackendSource::Known(endpoints)) = looked_up.source(&there[0]) else { panic!() };
    assert_eq!(endpoints.len(), 1);
    assert!(looked_up.source(&there[1]).is_some());
    assert!(gone.iter().all(|id| looked_up.source(id).is_none()));
    assert!(graph(&snapshot, &Settings::default()).source(&there[0]).is_none(), "nobody asked");
}
