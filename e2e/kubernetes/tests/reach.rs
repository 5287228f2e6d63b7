//! The ways in which a Gateway is reached, and what its routes may reach.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::{
    Ask, Gateway, Namespace, ask, get, parameters, route, wait_for, wait_for_condition,
};

/// The address of the cluster's only node.
const NODE: &str = "10.88.0.1";

/// A Gateway with these parameters and an application behind its port.
fn with_parameters<'a>(namespace: &'a Namespace, port: u16, spec: &str) -> Gateway<'a> {
    let (reference, object) = parameters("gw", spec);
    namespace.apply(&object);
    namespace.deployed(port, &reference)
}

#[test]
fn a_hidden_client_address_is_told() {
    let namespace = Namespace::new("reach-cluster");
    let gw = with_parameters(&namespace, 9000, "{service: {externalTrafficPolicy: Cluster}}");
    gw.serves(9000);
    let message = gw.wait("Programmed", "True", "Programmed");
    assert!(message.contains("externalTrafficPolicy is Cluster"), "{message}");
}

#[test]
fn a_node_port_is_on_the_nodes_with_a_proxy() {
    let namespace = Namespace::new("reach-node-port");
    let gw = with_parameters(&namespace, 9000, "{service: {type: NodePort}}");
    assert_eq!(gw.programmed().to_string(), NODE);
    let port = gw.owned("service")["spec"]["ports"][0]["nodePort"].as_u64().expect("a port");
    let port = u16::try_from(port).expect("a port");
    let to = SocketAddr::new(NODE.parse().expect("an address"), port);
    wait_for(format_args!("an answer of {to}"), || match ask(to) {
        Ok(Ask::Answer(answer)) if answer == "Hello from app!\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn an_address_inside_of_the_cluster_is_enough_for_some() {
    let namespace = Namespace::new("reach-inside");
    let gw = with_parameters(&namespace, 9000, "{service: {type: ClusterIP}}");
    gw.serves(9000);
    assert_eq!(gw.owned("service")["spec"]["clusterIP"], gw.programmed().to_string());
}

#[test]
fn the_hosts_network_needs_no_service() {
    let namespace = Namespace::new("reach-host");
    let gw = with_parameters(&namespace, 609, "{hostNetwork: true}");
    gw.serves(609);
    assert_eq!(gw.programmed().to_string(), NODE);
    let services =
        get(namespace.name(), &["services", "--selector=app.kubernetes.io/managed-by=l4way"]);
    assert_eq!(services["items"], json!([]));
}

#[test]
fn the_kernel_of_a_pod_carries_sessions_where_it_is_asked_to() {
    let namespace = Namespace::new("kernel-path");
    let gw = with_parameters(&namespace, 9000, "{dataPath: Kernel}");
    gw.serves(9000);
    wait_for("the listener's status", || {
        let object = get(namespace.name(), &["gateway", "gw"]);
        let status = object["status"]["listeners"][0].to_string();
        if status.contains("which the kernel carries") { Ok(()) } else { Err(status) }
    });
    gw.serves(9000);
}

#[test]
fn what_is_outside_of_the_cluster_is_reached_only_if_the_gateways_parameters_allow_it() {
    let namespace = Namespace::new("outside");
    let gw = with_parameters(&namespace, 9000, "{}");
    gw.serves(9000);
    let pods = get(namespace.name(), &["pods", "--selector=app=app"]);
    let ip = pods["items"][0]["status"]["podIP"].as_str().expect("the application's address");
    let backend = |name: &str, ip: &str| {
        format!(
            "apiVersion: l4way.dev/v1alpha1\nkind: Backend\nmetadata: {{name: {name}}}\nspec: \
             {{endpoints: [{{ip: {{address: {ip}, port: 5000}}}}]}}\n---\n"
        )
    };
    let to = |name: &str| {
        route("TCPRoute", "route", "gw/tcp", &[(name, 5000, 1)]).replace(
            &format!("{{name: {name}, port: 5000,"),
            &format!("{{group: l4way.dev, kind: Backend, name: {name},"),
        )
    };
    let refused = |words: &[&str]| {
        let condition = ("ResolvedRefs", "False", "UnsupportedValue");
        let message = wait_for_condition(namespace.name(), "tcproute", "route", condition);
        assert!(words.iter().all(|word| message.contains(word)), "no {words:?} in: {message}");
        gw.refuses(9000);
    };
    namespace.apply(&(backend("outside", ip) + &to("outside")));
    refused(&["a Backend", "externalBackends in GatewayParameters"]);

    namespace.apply(&parameters("gw", "{externalBackends: [Backend]}").1);
    gw.serves(9000);

    namespace.apply(&(backend("itself", "127.0.0.1") + &to("itself")));
    refused(&["127.0.0.1:5000", "the proxy's own host"]);
}
