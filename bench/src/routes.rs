//! Many listeners and routes of l4way's.

use serde_json::{Value, json};

/// How many listeners a Gateway has at most.
const LISTENERS: u16 = 64;
/// The first of the listeners' ports, none of which connections begin at.
const FIRST: u16 = 8500;

/// Gateways with that many listeners together, and as many routes.
pub(crate) fn manifests(count: u16) -> String {
    let gateways = (0..count.div_ceil(LISTENERS)).map(|number| {
        let begin = number * LISTENERS;
        let listener = |index: u16| {
            let name = format!("tcp-{index}");
            json!({"name": name, "protocol": "TCP", "port": FIRST + index})
        };
        let listeners: Vec<Value> = (begin..count.min(begin + LISTENERS)).map(listener).collect();
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": format!("many-{number}")},
            "spec": {"gatewayClassName": "l4way", "listeners": listeners},
        })
    });
    let routes = (0..count).map(|index| {
        let gateway = format!("many-{}", index / LISTENERS);
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "TCPRoute",
            "metadata": {"name": format!("many-{index}")},
            "spec": {
                "parentRefs": [{"name": gateway, "sectionName": format!("tcp-{index}")}],
                "rules": [{
                    "backendRefs": [{"group": "l4way.dev", "kind": "Backend", "name": "backends"}],
                }],
            },
        })
    });
    let items: Vec<Value> = gateways.chain(routes).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_has_a_listener_with_a_port() {
        let list: Value = serde_json::from_str(&manifests(1000)).unwrap();
        let items = list["items"].as_array().unwrap();
        let of = |kind: &'static str| items.iter().filter(move |item| item["kind"] == kind);
        assert_eq!((of("Gateway").count(), of("TCPRoute").count()), (16, 1000));
        let ports: Vec<u64> = of("Gateway")
            .flat_map(|gateway| gateway["spec"]["listeners"].as_array().unwrap())
            .map(|listener| listener["port"].as_u64().unwrap())
            .collect();
        assert_eq!(ports, (8500..9500).collect::<Vec<_>>());
    }
}
