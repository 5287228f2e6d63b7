//! What each Gateway of a cluster is given.

use l4way_model::Transport;
use l4way_resources::{AnyObject, Snapshot};
use l4way_translate::{Settings, graph, provisions};
use serde_json::json;

fn gateway(name: &str) -> AnyObject {
    let object = json!({
        "metadata": {"name": name, "namespace": "team"},
        "spec": {
            "gatewayClassName": "l4way",
            "listeners": [{"name": "tcp", "port": 9000, "protocol": "TCP"}],
        },
    });
    AnyObject::from_value("Gateway", object).expect("a kind that is read").expect("a Gateway")
}

#[test]
fn gateways_with_pods_of_their_own_may_have_the_same_port() {
    let snapshot: Snapshot = [gateway("a"), gateway("b")].into_iter().collect();
    let graph = graph(&snapshot, &Settings::in_cluster());
    let provisions = provisions(&graph);
    assert_eq!(provisions.len(), 2);
    for provision in provisions {
        assert_eq!(provision.ports, [(9000, Transport::Tcp)].into());
        assert_eq!(provision.compiled.config.listeners().len(), 1);
    }
}
