//! What should be there, as a function of the objects that others have made.

use std::io::Read;

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::store::{Id, Store, owners};

pub(super) const GATEWAYS: &str = "gateway.networking.k8s.io/gateways";
const CLASSES: &str = "gateway.networking.k8s.io/gatewayclasses";
const ROUTES: &str = "gateway.networking.k8s.io/tcproutes";
const BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";
const CONTROLLER: &str = "l4way.dev/gateway-controller";

/// The label that Gateways ask for on what is made for them.
pub(super) const ASKED_LABEL: &str = "example.com/asked";
/// The address that strangers' Services have.
pub(super) const STRANGE_ADDRESS: &str = "203.0.113.66";

/// Of these, a Gateway has exactly one each, by its name.
const ONE_EACH: [&str; 5] = [
    "apps/deployments",
    "/services",
    "/serviceaccounts",
    "rbac.authorization.k8s.io/roles",
    "policy/poddisruptionbudgets",
];

/// Whether an object was made for a Gateway: by its owner, whatever its labels are.
pub(super) fn is_made(object: &Value) -> bool {
    owners(object).iter().any(|owner| owner["kind"] == "Gateway")
}

/// What a Gateway should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Everything,
    Nothing,
    /// Its class is missing: what it has stays, since that may be a mistake.
    AsItIs,
}

/// What isn't as it should be; garbage has been collected.
pub(super) fn faults(store: &Store, strangers: &[(Id, Value)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, gateway) in store.of(GATEWAYS) {
        of_gateway(store, id, gateway, &mut faults);
    }
    for (id, route) in store.of(ROUTES) {
        of_route(store, id, route, &mut faults);
    }
    leases(store, &mut faults);
    left_over(store, &mut faults);
    for (id, left) in strangers {
        if store.get(id) != Some(left) {
            faults.push(format!("{id:?} isn't as it was left: {:?}", store.get(id)));
        }
    }
    faults
}

fn wanted(store: &Store, gateway: &Value) -> Wanted {
    let class = gateway["spec"]["gatewayClassName"].as_str().unwrap_or_default();
    match store.get(&Id::new(CLASSES, "", class)) {
        Some(class) if class["spec"]["controllerName"] == CONTROLLER => Wanted::Everything,
        Some(_) => Wanted::Nothing,
        None => Wanted::AsItIs,
    }
}

fn of_gateway(store: &Store, id: &Id, gateway: &Value, faults: &mut Vec<String>) {
    let uid = &gateway["metadata"]["uid"];
    let is_owned = |object: &Value| owners(object).iter().any(|owner| owner["uid"] == *uid);
    let owned: Vec<_> = store.all().filter(|(_, object)| is_owned(object)).collect();
    match wanted(store, gateway) {
        Wanted::AsItIs => {}
        Wanted::Nothing => {
            let names: Vec<_> = owned.iter().map(|(id, _)| id).collect();
            if !names.is_empty() {
                faults.push(format!("{id:?} isn't ours and has {names:?}"));
            }
        }
        Wanted::Everything => {
            let mut fault = |what: String| faults.push(format!("{id:?}: {what}"));
            infrastructure(id, gateway, &owned, &mut fault);
            bindings(store, id, &owned, &mut fault);
            configuration(store, id, gateway, &owned, &mut fault);
            status(gateway, &mut fault);
        }
    }
}

fn infrastructure(
    id: &Id,
    gateway: &Value,
    owned: &[(&Id, &Value)],
    fault: &mut impl FnMut(String),
) {
    for resource in ONE_EACH {
        let of_kind: Vec<_> = owned.iter().filter(|(id, _)| id.resource == resource).collect();
        let [(own, object)] = of_kind[..] else {
            let names: Vec<_> = of_kind.iter().map(|(id, _)| &id.name).collect();
            fault(format!("one of {resource} is wanted, there are {names:?}"));
            continue;
        };
        if own.namespace != id.namespace {
            fault(format!("{own:?} is elsewhere"));
        }
        let labels = &object["metadata"]["labels"];
        if labels["app.kubernetes.io/name"] != "l4way-proxy" {
            fault(format!("{own:?} has been spoilt: {labels}"));
        }
        if labels[ASKED_LABEL] != gateway["spec"]["infrastructure"]["labels"][ASKED_LABEL] {
            fault(format!("{own:?} has other labels than are asked for: {labels}"));
        }
        if resource == "/services" {
            service(gateway, own, object, fault);
        }
    }
}

fn service(gateway: &Value, id: &Id, service: &Value, fault: &mut impl FnMut(String)) {
    if service["spec"]["ports"][0]["port"] != gateway["spec"]["listeners"][0]["port"] {
        fault(format!("{id:?} has another port: {}", service["spec"]));
    }
    if service["spec"]["selector"]["app.kubernetes.io/managed-by"] != "l4way" {
        fault(format!("{id:?} leads elsewhere: {}", service["spec"]));
    }
}

/// The routes of a Gateway; they are in its namespace.
fn has_routes(store: &Store, gateway: &Id) -> bool {
    store.of(ROUTES).any(|(id, route)| {
        id.namespace == gateway.namespace && route["spec"]["parentRefs"][0]["name"] == *gateway.name
    })
}

/// One for its own Role, and one where its backends' endpoints are; by Gateway, not by owner.
fn bindings(store: &Store, id: &Id, owned: &[(&Id, &Value)], fault: &mut impl FnMut(String)) {
    let own = owned
        .iter()
        .filter(|(id, object)| id.resource == BINDINGS && object["roleRef"]["kind"] == "Role");
    let own = own.count();
    if own != 1 {
        fault(format!("one RoleBinding for its Role is wanted, there are {own}"));
    }
    let accounts = owned.iter().filter(|(id, _)| id.resource == "/serviceaccounts");
    let accounts: Vec<_> = accounts.map(|(id, _)| &id.name).collect();
    let endpoints = store.of(BINDINGS).filter(|(_, binding)| {
        let subject = &binding["subjects"][0];
        binding["roleRef"]["kind"] == "ClusterRole"
            && subject["namespace"] == *id.namespace
            && accounts.iter().any(|name| subject["name"] == **name)
    });
    let (endpoints, needed) = (endpoints.count(), usize::from(has_routes(store, id)));
    if endpoints != needed {
        fault(format!("{needed} RoleBindings for endpoints are wanted, there are {endpoints}"));
    }
}

fn configuration(
    store: &Store,
    id: &Id,
    gateway: &Value,
    owned: &[(&Id, &Value)],
    fault: &mut impl FnMut(String),
) {
    let secrets = owned.iter().filter(|(id, _)| id.resource == "/secrets");
    let delivered: Vec<_> = secrets.filter_map(|(_, secret)| unpacked(secret)).collect();
    let [config] = &delivered[..] else {
        fault(format!("one configuration is wanted, there are {}", delivered.len()));
        return;
    };
    let listener = &config["listeners"][0];
    if listener["port"] != gateway["spec"]["listeners"][0]["port"] {
        fault(format!("the configuration has another port: {config}"));
    }
    if listener["route"].is_null() == has_routes(store, id) {
        fault(format!("the configuration has another route: {config}"));
    }
}

/// The configuration in a Secret, if it is in one.
fn unpacked(secret: &Value) -> Option<Value> {
    let packed = BASE64_STANDARD.decode(secret["data"]["config"].as_str()?).ok()?;
    let mut json = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut json).ok()?;
    serde_json::from_str(&json).ok()
}

fn status(gateway: &Value, fault: &mut impl FnMut(String)) {
    let status = &gateway["status"];
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let accepted = conditions.find(|condition| condition["type"] == "Accepted");
    let is_accepted = accepted.is_some_and(|condition| {
        condition["status"] == "True"
            && condition["observedGeneration"] == gateway["metadata"]["generation"]
    });
    if !is_accepted {
        fault(format!(
            "it isn't accepted in its generation {}: {status}",
            gateway["metadata"]["generation"]
        ));
    }
    if status["addresses"].to_string().contains(STRANGE_ADDRESS) {
        fault(format!("it has a stranger's address: {status}"));
    }
}

/// A route has our entry while its Gateway is ours, and none when it isn't.
fn of_route(store: &Store, id: &Id, route: &Value, faults: &mut Vec<String>) {
    let parent = route["spec"]["parentRefs"][0]["name"].as_str().unwrap_or_default();
    let gateway = store.get(&Id::new(GATEWAYS, &id.namespace, parent));
    let wanted = gateway.map_or(Wanted::Nothing, |gateway| wanted(store, gateway));
    let parents = route["status"]["parents"].as_array().into_iter().flatten();
    let ours: Vec<_> = parents.filter(|entry| entry["controllerName"] == CONTROLLER).collect();
    let is_accepted = |entry: &Value| {
        let mut conditions = entry["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Accepted" && condition["status"] == "True")
    };
    let is_right = match wanted {
        Wanted::Everything => ours.len() == 1 && is_accepted(ours[0]),
        Wanted::Nothing => ours.is_empty(),
        Wanted::AsItIs => true,
    };
    if !is_right {
        faults.push(format!("{id:?} of a Gateway with {wanted:?} says {ours:?}"));
    }
}

/// A pod of a Gateway that is ours has a Lease to answer in, and no other has one.
fn leases(store: &Store, faults: &mut Vec<String>) {
    for (id, lease) in store.of("coordination.k8s.io/leases") {
        let pods = owners(lease).iter().filter(|owner| owner["kind"] == "Pod");
        for owner in pods {
            let pod = store.of("/pods").find(|(_, pod)| pod["metadata"]["uid"] == owner["uid"]);
            if pod.is_none_or(|(_, pod)| gateway_of(store, pod).is_none()) {
                faults.push(format!("{id:?} is for a pod that isn't a Gateway's"));
            }
        }
    }
    for (id, pod) in store.of("/pods") {
        let uid = &pod["metadata"]["uid"];
        let leases = store.of("coordination.k8s.io/leases");
        let leases = leases.filter(|(_, l)| owners(l).iter().any(|owner| owner["uid"] == *uid));
        let gateway = gateway_of(store, pod).map(|gateway| wanted(store, gateway));
        if gateway == Some(Wanted::Everything) && leases.count() != 1 {
            faults.push(format!("{id:?} has not one Lease"));
        }
    }
}

/// RoleBindings for endpoints give rights to proxies alone. Those elsewhere have no owner, so that the controller has
/// to take them away when they are for nobody.
fn left_over(store: &Store, faults: &mut Vec<String>) {
    let mut gateways = store.of(GATEWAYS).map(|(_, gateway)| wanted(store, gateway));
    if gateways.any(|wanted| wanted == Wanted::AsItIs) {
        return;
    }
    for (id, binding) in store.of(BINDINGS).filter(|(_, of)| of["roleRef"]["kind"] == "ClusterRole")
    {
        let subject = &binding["subjects"][0];
        let text = |field: &str| subject[field].as_str().unwrap_or_default();
        match store.get(&Id::new("/serviceaccounts", text("namespace"), text("name"))) {
            None => faults.push(format!("{id:?} is for nobody: {subject}")),
            Some(account) if !is_made(account) => {
                faults.push(format!("{id:?} gives rights to a stranger: {subject}"));
            }
            Some(_) => {}
        }
    }
}

/// The Gateway that a pod descends from.
fn gateway_of<'a>(store: &'a Store, pod: &Value) -> Option<&'a Value> {
    let parent = |object: &Value| {
        let owner = owners(object).first()?;
        store
            .all()
            .map(|(_, object)| object)
            .find(|object| object["metadata"]["uid"] == owner["uid"])
    };
    let gateway = parent(parent(parent(pod)?)?)?;
    (gateway["kind"] == "Gateway").then_some(gateway)
}
