//! What becomes of a Gateway's objects while it is changed, disturbed and deleted.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};

use crate::support::{
    Gateway, Namespace, PATIENCE, Pod, echo, exists, gateway, get, kubectl, nc, parameters, route,
    server_saying_who, wait_for, wait_for_condition,
};

/// A patch in one of kubectl's types.
fn patch(namespace: &Namespace, object: &str, kind: &str, patch: &Value) {
    let kind = format!("--type={kind}");
    namespace.kubectl(&["patch", object, &kind, "--patch", &patch.to_string()]);
}

#[test]
fn what_others_change_or_delete_is_repaired() {
    let namespace = Namespace::new("drift");
    let gw = namespace.serving("");
    let spec = |kind: &str| gw.owned(kind)["spec"].clone();
    let arguments =
        |deployment: &Value| deployment["template"]["spec"]["containers"][0]["args"].clone();

    let service = gw.owned("service")["metadata"]["uid"].clone();
    namespace.kubectl(&["delete", "service", &gw.base()]);
    wait_for("another Service", || {
        let found = exists(gw.namespace(), "service", &gw.base());
        let uid = found.then(|| gw.owned("service")["metadata"]["uid"].clone());
        uid.filter(|uid| *uid != service).ok_or("none")
    });
    gw.serves(9000);

    let wanted = arguments(&spec("deployment"));
    let path = "/spec/template/spec/containers/0/args/0";
    let change = json!([{"op": "replace", "path": path, "value": "run"}]);
    patch(&namespace, &format!("deployment/{}", gw.base()), "json", &change);
    wait_for("the Deployment's arguments to be as they were", || {
        let found = arguments(&spec("deployment"));
        if found == wanted { Ok(()) } else { Err(found) }
    });

    let label = "app.kubernetes.io/name";
    for kind in ["service", "serviceaccount", "role", "rolebinding", "pdb"] {
        namespace.kubectl(&["label", kind, &gw.base(), &format!("{label}-")]);
        wait_for(format_args!("the label of the {kind} to be back"), || {
            let found = &gw.owned(kind)["metadata"]["labels"][label];
            if found == "l4way-proxy" { Ok(()) } else { Err(found.clone()) }
        });
    }
    gw.serves(9000);
}

/// The Gateway's pods, and what they were made by. Not its generation: Kubernetes counts a change of
/// annotations as one, too.
fn rollout(gw: Gateway<'_>) -> (Vec<Pod>, Value) {
    (gw.pods(), gw.owned("deployment")["spec"].clone())
}

#[test]
fn no_change_of_listeners_routes_or_labels_replaces_a_pod() {
    let namespace = Namespace::new("rollout");
    let gw = namespace.serving("");
    let before = rollout(gw);
    assert_eq!(before.0.len(), 1, "{before:?}");

    let listener = json!({"name": "new", "protocol": "TCP", "port": 9100,
        "allowedRoutes": {"namespaces": {"from": "All"}}});
    let add = json!([{"op": "add", "path": "/spec/listeners/-", "value": listener}]);
    patch(&namespace, "gateway/gw", "json", &add);
    namespace.apply(&route("TCPRoute", "new", "gw/new", &[("app", 5000, 1)]));
    gw.serves(9100);
    namespace.apply(&route("TCPRoute", "route", "gw/tcp", &[("nothing", 5000, 1)]));
    gw.refuses(9000);
    namespace.apply(&route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)]));
    gw.serves(9000);
    let remove = json!([{"op": "remove", "path": "/spec/listeners/1"}]);
    patch(&namespace, "gateway/gw", "json", &remove);
    namespace.kubectl(&["label", "gateway", "gw", "team=blue"]);
    gw.programmed();

    assert_eq!(rollout(gw), before);
    let pod = get(gw.namespace(), &["pod", &before.0[0].name]);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn labels_and_annotations_of_the_infrastructure_are_carried_over_and_replace_no_pod() {
    let namespace = Namespace::new("infrastructure");
    let gw = namespace.serving("");
    let before = rollout(gw);
    let pod = &before.0[0].name;
    let asked = json!({"labels": {"tier": "edge"}, "annotations": {"note": "a"}});
    patch(&namespace, "gateway/gw", "merge", &json!({"spec": {"infrastructure": asked}}));
    let (base, config) = (gw.base(), format!("{}-config", gw.base()));
    for (kind, name) in [("deployment", &base), ("service", &base), ("pod", pod)] {
        wait_for(format_args!("the label and the annotation on the {kind}"), || {
            has_infrastructure(&get(gw.namespace(), &[kind, name]))
        });
    }
    // By annotations keys are spread over namespaces, and identities given.
    for (kind, name) in [("serviceaccount", &base), ("role", &base), ("secret", &config)] {
        wait_for(format_args!("the label alone on the {kind}"), || {
            let metadata = get(gw.namespace(), &[kind, name])["metadata"].clone();
            assert!(metadata["annotations"]["note"].is_null(), "{kind}: {metadata:#}");
            if metadata["labels"]["tier"] == "edge" { Ok(()) } else { Err(metadata) }
        });
    }
    patch(&namespace, "gateway/gw", "merge", &json!({"spec": {"infrastructure": null}}));
    wait_for("the label to be gone from the pod", || {
        let there = has_infrastructure(&get(gw.namespace(), &["pod", pod]));
        if there.is_err() { Ok(()) } else { Err("it is there") }
    });
    assert_eq!(rollout(gw), before);
    gw.serves(9000);
}

fn has_infrastructure(object: &Value) -> Result<(), String> {
    let metadata = &object["metadata"];
    if metadata["labels"]["tier"] == "edge" && metadata["annotations"]["note"] == "a" {
        return Ok(());
    }
    Err(format!("{:#}", metadata["labels"]))
}

#[test]
fn addresses_that_are_asked_for_are_given() {
    let namespace = Namespace::new("address");
    let gw = namespace.serving("addresses: [{type: IPAddress, value: 10.99.0.177}]");
    assert_eq!(gw.programmed().to_string(), "10.99.0.177");
    let addresses = gw.object()["status"]["addresses"].clone();
    assert_eq!(addresses, json!([{"type": "IPAddress", "value": "10.99.0.177"}]));
}

#[test]
fn a_deleted_gateway_leaves_nothing_in_any_namespace() {
    let namespace = Namespace::new("deleted");
    let others = Namespace::new("deleted-backends");
    namespace.apply(&gateway("gw", &[("tcp", "TCP", 9000)], ""));
    let across = route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])
        .replace("{name: gw,", &format!("{{name: gw, namespace: {},", namespace.name()));
    others.apply(&(echo("app", "TCP") + &across));
    others.available(&["app"]);
    let gw = Gateway::new(namespace.name(), "gw");
    gw.serves(9000);
    let managed = "app.kubernetes.io/managed-by=l4way";
    let bindings = || others.kubectl(&["get", "rolebindings", "-l", managed, "-o", "name"]);
    assert_eq!(bindings().lines().count(), 1, "one by which the proxy follows endpoints");

    namespace.kubectl(&["delete", "gateway", "gw"]);
    gw.leaves_nothing();
    wait_for("nothing to be left beside the backend", || {
        let left = bindings();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    wait_for("the route to forget its parent", || {
        let status = get(others.name(), &["tcproute", "route"])["status"].clone();
        if status["parents"].as_array().is_none_or(Vec::is_empty) { Ok(()) } else { Err(status) }
    });
}

#[test]
fn a_gateway_of_another_class_loses_what_was_made_for_it() {
    let namespace = Namespace::new("reclassed");
    let gw = namespace.serving("");
    patch(&namespace, "gateway/gw", "merge", &json!({"spec": {"gatewayClassName": "e2e-nobody"}}));
    gw.leaves_nothing();
    patch(&namespace, "gateway/gw", "merge", &json!({"spec": {"gatewayClassName": "l4way"}}));
    gw.serves(9000);
}

/// An open connection, which its application answers whenever something comes.
fn connected(to: SocketAddr) -> TcpStream {
    let connect = || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        answered(&mut stream).map(|()| stream)
    };
    wait_for(format_args!("{to} to be served"), || connect().map_err(|error| error.to_string()))
}

fn answered(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"still there?\n")?;
    match stream.read(&mut [0; 256])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[test]
fn what_is_deleted_and_made_again_keeps_its_sessions() {
    let namespace = Namespace::new("returns");
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: \
                 e2e-returns}\nspec: {controllerName: l4way.dev/gateway-controller}\n---\n";
    let set = |name: &str, port: u16| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: \
             {name}}}\nspec:\n  parentRef: {{name: gw}}\n  listeners: [{{name: tcp, protocol: TCP, \
             port: {port}}}]\n---\n"
        )
    };
    let of_set = |name: &str| {
        route("TCPRoute", name, name, &[("app", 5000, 1)])
            .replace("parentRefs: [{", "parentRefs: [{kind: ListenerSet, ")
    };
    let of_gateway = route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)]);
    let (reference, parameters) = parameters("gw", "{drainSeconds: 20}");
    let more = format!("allowedListeners: {{namespaces: {{from: Same}}}}\n{reference}");
    let gateway = gateway("gw", &[("tcp", "TCP", 9000)], &more)
        .replace("gatewayClassName: l4way", "gatewayClassName: e2e-returns");
    namespace.apply(&[class, &parameters, &gateway, &of_gateway].concat());
    namespace
        .apply(&(set("set", 9100) + &of_set("set") + &set("witness", 9200) + &of_set("witness")));
    namespace.apply(&server_saying_who("app", "TCP"));
    namespace.available(&["app"]);
    let gw = Gateway::new(namespace.name(), "gw");
    let address = gw.programmed();
    let pods = gw.pods();
    let [mut own, mut on_set, mut witness] =
        [9000, 9100, 9200].map(|port| connected(SocketAddr::new(address, port)));

    // The second ListenerSet isn't made again: its session tells when the deadline has passed.
    namespace.kubectl(&["delete", "listenerset", "set", "witness"]);
    let in_pod = SocketAddr::new(pods[0].ip.parse().expect("its address"), 9100);
    wait_for("the listener to be gone", || match TcpStream::connect_timeout(&in_pod, PATIENCE) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    namespace.apply(&set("set", 9100));
    for (kind, name, text) in [
        ("tcproute", "route", &*of_gateway),
        ("gatewayparameters", "gw", &parameters),
        ("gatewayclass", "e2e-returns", class),
    ] {
        namespace.kubectl(&["delete", kind, name]);
        answered(&mut own).expect("it goes on without it");
        namespace.apply(text);
    }
    connected(SocketAddr::new(address, 9100));
    io::copy(&mut witness, &mut io::sink()).expect_err("its time is over");
    answered(&mut on_set).expect("its listener has taken it back");
    answered(&mut own).expect("it goes on");
    assert_eq!((gw.programmed(), gw.pods()), (address, pods), "nothing was made anew");
    kubectl(&["delete", "gatewayclass", "e2e-returns"]);
}

#[test]
fn parameters_take_effect_and_invalid_ones_leave_what_runs() {
    let namespace = Namespace::new("parameters");
    let (reference, object) = parameters("gw", "{drainSeconds: 2}");
    namespace.apply(&object);
    let gw = namespace.serving(&reference);
    let first = gw.pods();

    let (_, object) = parameters("gw", "{drainSeconds: 2, replicas: 2}");
    namespace.apply(&object);
    wait_for("two ready proxies", || {
        let ready = gw.owned("deployment")["status"]["readyReplicas"].clone();
        if ready == 2 { Ok(()) } else { Err(ready) }
    });
    gw.programmed();
    let two = gw.pods();
    assert!(two.len() == 2 && first.iter().all(|pod| two.contains(pod)), "{first:?} {two:?}");

    let (_, object) = parameters("gw", "{drainSeconds: 3, replicas: 2}");
    namespace.apply(&object);
    wait_for("other pods, one after the other", || {
        let pods = gw.pods();
        let is_new = pods.len() == 2 && pods.iter().all(|pod| !two.contains(pod));
        if is_new { Ok(()) } else { Err(format!("{pods:?}")) }
    });
    wait_for("them to be ready", || {
        let status = gw.owned("deployment")["status"].clone();
        if status["availableReplicas"] == 2 { Ok(()) } else { Err(status) }
    });
    gw.serves(9000);

    let before = gw.pods();
    let name = json!({"spec": {"infrastructure": {"parametersRef": {"name": "gww"}}}});
    patch(&namespace, "gateway/gw", "merge", &name);
    let message = gw.wait("Accepted", "False", "InvalidParameters");
    assert!(message.contains("gww don't exist") && message.contains("did you mean"), "{message}");
    gw.wait("Programmed", "False", "Invalid");
    assert_eq!(gw.pods(), before, "the running proxies are untouched");
    let service = gw.owned("service");
    let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().expect("its address");
    let answer = nc(&["-w", "1", ip, "9000"], "Hello TCP\n");
    assert_eq!(answer, "Hello from app!\n", "and go on");
}

#[test]
fn a_namespace_with_the_restricted_pod_security_standard_admits_the_proxies() {
    let enforce = "pod-security.kubernetes.io/enforce: restricted";
    let namespace = Namespace::with_labels("restricted", enforce);
    let gw = namespace.serving("");
    let low = gateway("gw", &[("tcp", "TCP", 9000), ("dns", "TCP", 53)], "");
    namespace.apply(&(low + &route("TCPRoute", "dns", "gw/dns", &[("app", 5000, 1)])));
    gw.serves(53);
}

#[test]
fn a_gateway_in_a_namespace_that_refuses_its_pods_says_so() {
    let enforce = "pod-security.kubernetes.io/enforce: restricted";
    let namespace = Namespace::with_labels("refused-pods", enforce);
    let (reference, object) = parameters("gw", "{hostNetwork: true}");
    namespace.apply(&(object + &gateway("gw", &[("tcp", "TCP", 9000)], &reference)));
    let gw = Gateway::new(namespace.name(), "gw");
    wait_for("the reason in the Gateway's status", || {
        let status = gw.object()["status"].to_string();
        let words = ["can't make pods", "PodSecurity", "restricted"];
        if words.iter().all(|word| status.contains(word)) { Ok(()) } else { Err(status) }
    });
}

#[test]
fn a_route_that_names_a_service_elsewhere_needs_a_grant() {
    let namespace = Namespace::new("grant");
    let others = Namespace::new("grant-backends");
    others.apply(&echo("app", "TCP"));
    let backend = format!("{{name: app, namespace: {},", others.name());
    let across =
        route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)]).replace("{name: app,", &backend);
    namespace.apply(&(gateway("gw", &[("tcp", "TCP", 9000)], "") + &across));
    others.available(&["app"]);
    let refused = ("ResolvedRefs", "False", "RefNotPermitted");
    let message = wait_for_condition(namespace.name(), "tcproute", "route", refused);
    assert!(message.contains("ReferenceGrant"), "{message}");
    let gw = Gateway::new(namespace.name(), "gw");
    gw.refuses(9000);
    let versions = "jsonpath={.spec.versions[?(@.storage==true)].name}";
    let crd = "referencegrants.gateway.networking.k8s.io";
    let version = kubectl(&["get", "crd", crd, "--output", versions]);
    others.apply(&format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: ReferenceGrant\nmetadata: {{name: \
         routes}}\nspec:\n  from: [{{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: {}}}]\
         \n  to: [{{group: '', kind: Service}}]\n",
        namespace.name()
    ));
    gw.serves(9000);
    others.kubectl(&["delete", "referencegrant", "routes"]);
    gw.refuses(9000);
}
