//! A cluster, those who change it, and the controller.

use std::{
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use proptest::sample::Index;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    api_server::ApiServer,
    expected::{self, GATEWAYS, is_made},
    store::{Id, Part, Store},
};
use crate::l4way::{BINARY, L4way, PATIENCE};

pub(super) const NAMESPACES: [&str; 2] = ["team", "other"];
pub(super) const CLASSES: [&str; 2] = ["l4way", "edge"];

const API: &str = "gateway.networking.k8s.io/v1";
const CONTROLLER: &str = "l4way.dev/gateway-controller";
const CLASSES_RESOURCE: &str = "gateway.networking.k8s.io/gatewayclasses";
const ROUTES: &str = "gateway.networking.k8s.io/tcproutes";

/// The Gateway by which the others are known to have been looked at. Its class has the same name.
const SENTINEL: Gateway = Gateway { namespace: "team", name: "sentinel" };

/// The kinds that strangers make: apiVersion, kind, and what URLs call them.
pub(super) const KINDS: [(&str, &str, &str); 9] = [
    ("apps/v1", "Deployment", "apps/deployments"),
    ("v1", "Service", "/services"),
    ("v1", "ServiceAccount", "/serviceaccounts"),
    ("v1", "Secret", "/secrets"),
    ("v1", "Pod", "/pods"),
    ("coordination.k8s.io/v1", "Lease", "coordination.k8s.io/leases"),
    ("rbac.authorization.k8s.io/v1", "Role", "rbac.authorization.k8s.io/roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rbac.authorization.k8s.io/rolebindings"),
    ("policy/v1", "PodDisruptionBudget", "policy/poddisruptionbudgets"),
];

/// What the controller follows that CRDs define: what URLs call it, its group and version.
const DEFINED: [(&str, &str, &str); 11] = [
    ("gatewayclasses", "gateway.networking.k8s.io", "v1"),
    ("gateways", "gateway.networking.k8s.io", "v1"),
    ("listenersets", "gateway.networking.k8s.io", "v1"),
    ("tcproutes", "gateway.networking.k8s.io", "v1"),
    ("udproutes", "gateway.networking.k8s.io", "v1"),
    ("tlsroutes", "gateway.networking.k8s.io", "v1"),
    ("httproutes", "gateway.networking.k8s.io", "v1"),
    ("referencegrants", "gateway.networking.k8s.io", "v1"),
    ("backendtlspolicies", "gateway.networking.k8s.io", "v1"),
    ("backends", "l4way.dev", "v1alpha1"),
    ("gatewayparameters", "l4way.dev", "v1alpha1"),
];

/// A Gateway's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) namespace: &'static str,
    pub(super) name: &'static str,
}

impl Gateway {
    fn id(self) -> Id {
        Id::new(GATEWAYS, self.namespace, self.name)
    }
}

/// How a stranger's object looks like one that was made for a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disguise {
    None,
    /// It has the labels.
    Labels,
    /// It has the name.
    Name,
    Both,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// All watches end.
    Cut,
    /// All watches end, and can't be resumed.
    Expired,
    /// The next write meets a conflict.
    Conflict,
    /// The next two writes meet a server that fails.
    Server,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    MakeGateway(Gateway, &'static str),
    DeleteGateway(Gateway),
    /// It is deleted, and made again at once.
    RemakeGateway(Gateway),
    ChangeClass(Gateway, &'static str),
    ChangePort(Gateway, u16),
    /// It asks for a label on what is made for it, or for none.
    Relabel(Gateway, bool),
    MakeClass(&'static str),
    DeleteClass(&'static str),
    /// The class is another controller's from now on.
    GiveClassAway(&'static str),
    /// A route to the Gateway, of its name.
    MakeRoute(Gateway),
    DeleteRoute(Gateway),
    /// Somebody deletes an object that was made for a Gateway.
    DeleteMade(Index),
    /// Somebody changes an object that was made for a Gateway.
    SpoilMade(Index),
    /// Somebody makes an object that has nothing to do with the Gateway.
    Stranger((&'static str, &'static str, &'static str), Gateway, Disguise),
    DeleteStrangers,
    /// Garbage is collected, and Deployments get their pods.
    Kubernetes,
    /// Everybody waits until all is as it should be.
    Settle,
    Fault(Fault),
    /// The controller is killed, and started again.
    Restart,
}

/// All of it.
pub(super) struct World {
    server: ApiServer,
    folder: TempDir,
    kubeconfig: PathBuf,
    controller: Option<L4way>,
    /// What others have made, as it has to stay.
    strangers: Vec<(Id, Value)>,
    sentinel_port: u16,
}

impl World {
    pub(super) fn new() -> Self {
        let server = ApiServer::start();
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = server.kubeconfig(folder.path());
        let mut world = Self {
            server,
            folder,
            kubeconfig,
            controller: None,
            strangers: Vec::new(),
            sentinel_port: 10_000,
        };
        world.server.with(|store| DEFINED.iter().for_each(|of| define(store, of)));
        for namespace in NAMESPACES {
            world.make_strange(
                Id::new("/namespaces", "", namespace),
                json!({
                    "apiVersion": "v1", "kind": "Namespace",
                }),
            );
            world.make_strange(
                Id::new("/services", namespace, "db"),
                json!({
                    "apiVersion": "v1", "kind": "Service",
                    "spec": {"ports": [{"port": 5432, "protocol": "TCP"}]},
                }),
            );
        }
        for class in ["l4way", SENTINEL.name] {
            world.take(Step::MakeClass(class));
        }
        world.take(Step::MakeGateway(SENTINEL, SENTINEL.name));
        world.start();
        world
    }

    fn start(&mut self) {
        // The old one ends first.
        self.controller = None;
        let mut command = Command::new(BINARY);
        command.args(["controller", "--image", "l4way", "--no-leader-election"]);
        command.args(["--admin-address", "127.0.0.1:0"]).env("KUBECONFIG", &self.kubeconfig);
        command.current_dir(self.folder.path());
        self.controller = Some(L4way::start(command));
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Stranger(kind, gateway, disguise) => self.make_stranger(kind, gateway, disguise),
            Step::DeleteStrangers => self.delete_strangers(),
            Step::Restart => self.start(),
            Step::Settle => self.settle(),
            Step::DeleteMade(index) => self.delete_made(&index),
            step => self.server.with(|store| change(store, step)),
        }
    }

    fn make_strange(&mut self, id: Id, value: Value) {
        // Somebody's object of this name may be there.
        if let Ok(made) = self.server.with(|store| store.create(id.clone(), value)) {
            self.strangers.push((id, made));
        }
    }

    fn make_stranger(
        &mut self,
        (api_version, kind, resource): (&str, &str, &str),
        gateway: Gateway,
        disguise: Disguise,
    ) {
        let class = self.server.with(|store| {
            let object = store.get(&gateway.id())?;
            object["spec"]["gatewayClassName"].as_str().map(str::to_owned)
        });
        let class = class.unwrap_or_else(|| CLASSES[0].to_owned());
        let name = match disguise {
            Disguise::None | Disguise::Labels => format!("stranger-{}", self.strangers.len()),
            Disguise::Name | Disguise::Both => format!("{}-{class}", gateway.name),
        };
        let labels = match disguise {
            Disguise::None | Disguise::Name => json!({"app": "stranger"}),
            Disguise::Labels | Disguise::Both => json!({
                "app.kubernetes.io/managed-by": "l4way",
                "app.kubernetes.io/name": "l4way-proxy",
                "gateway.networking.k8s.io/gateway-name": gateway.name,
                "gateway.networking.k8s.io/gateway-class-name": class,
            }),
        };
        let address = json!({"loadBalancer": {"ingress": [{"ip": expected::STRANGE_ADDRESS}]}});
        self.make_strange(
            Id::new(resource, gateway.namespace, &name),
            json!({
                "apiVersion": api_version, "kind": kind, "metadata": {"labels": labels},
                "spec": {}, "status": address,
            }),
        );
    }

    fn delete_strangers(&mut self) {
        let keeps = |id: &Id| id.resource == "/namespaces" || id.name == "db";
        self.server.with(|store| {
            for (id, object) in self.strangers.extract_if(.., |(id, _)| !keeps(id)) {
                let _ = store.delete(&id, object["metadata"]["uid"].as_str());
            }
        });
    }

    fn delete_made(&self, index: &Index) {
        self.server.with(|store| {
            let made: Vec<_> = store
                .all()
                .filter(|(_, object)| is_made(object))
                .map(|(id, _)| id.clone())
                .collect();
            if !made.is_empty() {
                let _ = store.delete(index.get(&made), None);
            }
        });
    }

    /// Waits until the controller has looked at everything once more: it has when it has followed a change of
    /// the sentinel.
    fn look_once_more(&mut self) {
        self.sentinel_port += 1;
        self.take(Step::ChangePort(SENTINEL, self.sentinel_port));
        self.settle();
    }

    /// What isn't right yet.
    fn faults(&self) -> Vec<String> {
        self.server.with(|store| {
            kubernetes(store);
            expected::faults(store, &self.strangers)
        })
    }

    /// Waits until all is as it should be.
    pub(super) fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let faults = self.faults();
            if faults.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "gave up waiting: {faults:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What is right stays so, and nobody goes on writing.
    pub(super) fn assert_quiet(&mut self) {
        // Requests that were on their way when their Gateway was deleted may still make something, which
        // Kubernetes collects.
        self.look_once_more();
        let before = self.server.with(|store| store.changes.len());
        self.look_once_more();
        self.server.with(|store| {
            // A status may be written later, as proxies have their time to answer.
            let may_change = |id: &Id| {
                id.name.starts_with(SENTINEL.name)
                    || id.resource.starts_with("gateway.networking.k8s.io/")
                    || id.resource.starts_with("events.k8s.io/")
            };
            let others = store.changes[before..].iter().filter(|change| !may_change(&change.id));
            let others: Vec<_> = others.collect();
            assert!(others.is_empty(), "changed after all was right: {others:#?}");
        });
    }
}

fn define(store: &mut Store, (plural, group, version): &(&str, &str, &str)) {
    let id =
        Id::new("apiextensions.k8s.io/customresourcedefinitions", "", &format!("{plural}.{group}"));
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "spec": {"versions": [{"name": version, "served": true}]},
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    });
    store.create(id, definition).expect("a definition");
}

/// What Kubernetes itself does when it gets round to it.
fn kubernetes(store: &mut Store) {
    store.collect();
    store.run_pods(is_made);
}

/// A change that is somebody's right. What it is about may be missing, and then nothing changes.
fn change(store: &mut Store, step: Step) {
    let spec = |spec: Value| json!({ "spec": spec });
    let mut patch = |id: Id, value: Value| drop(store.patch(id, &value, Part::All));
    match step {
        Step::MakeGateway(gateway, class) => drop(store.create(gateway.id(), new_gateway(class))),
        Step::DeleteGateway(gateway) => drop(store.delete(&gateway.id(), None)),
        Step::RemakeGateway(gateway) => {
            if let Ok(old) = store.delete(&gateway.id(), None) {
                let again = json!({
                    "apiVersion": API, "kind": "Gateway", "spec": old["spec"],
                });
                store.create(gateway.id(), again).expect("its name is free");
            }
        }
        Step::ChangeClass(gateway, class) => {
            patch(gateway.id(), spec(json!({"gatewayClassName": class})));
        }
        Step::ChangePort(gateway, port) => {
            patch(gateway.id(), spec(json!({"listeners": listeners(port)})))
        }
        Step::Relabel(gateway, on) => {
            let label = if on { json!("asked-for") } else { Value::Null };
            let labels = json!({"labels": {expected::ASKED_LABEL: label}});
            patch(gateway.id(), spec(json!({"infrastructure": labels})));
        }
        Step::MakeClass(class) => make_class(store, class, CONTROLLER),
        Step::DeleteClass(class) => drop(store.delete(&class_id(class), None)),
        Step::GiveClassAway(class) => {
            let _ = store.delete(&class_id(class), None);
            make_class(store, class, "example.com/other");
        }
        Step::MakeRoute(gateway) => drop(store.create(route_id(gateway), route(gateway))),
        Step::DeleteRoute(gateway) => drop(store.delete(&route_id(gateway), None)),
        Step::SpoilMade(index) => spoil(store, &index),
        Step::Kubernetes => kubernetes(store),
        Step::Fault(Fault::Cut) => store.cuts += 1,
        Step::Fault(Fault::Expired) => {
            store.cuts += 1;
            store.oldest = store.version + 1;
        }
        Step::Fault(Fault::Conflict) => store.failures.push_back(409),
        Step::Fault(Fault::Server) => store.failures.extend([500, 503]),
        Step::DeleteMade(_)
        | Step::Stranger(..)
        | Step::DeleteStrangers
        | Step::Settle
        | Step::Restart => unreachable!("these are the world's"),
    }
}

fn new_gateway(class: &str) -> Value {
    let spec = json!({"gatewayClassName": class, "listeners": listeners(9_000)});
    json!({"apiVersion": API, "kind": "Gateway", "spec": spec})
}

fn listeners(port: u16) -> Value {
    json!([{"name": "tcp", "protocol": "TCP", "port": port}])
}

fn class_id(class: &str) -> Id {
    Id::new(CLASSES_RESOURCE, "", class)
}

fn make_class(store: &mut Store, class: &str, controller: &str) {
    let value = json!({
        "apiVersion": API, "kind": "GatewayClass", "spec": {"controllerName": controller},
    });
    let _ = store.create(class_id(class), value);
}

fn route_id(gateway: Gateway) -> Id {
    Id::new(ROUTES, gateway.namespace, gateway.name)
}

fn route(gateway: Gateway) -> Value {
    json!({
        "apiVersion": API, "kind": "TCPRoute",
        "spec": {
            "parentRefs": [{"name": gateway.name}],
            "rules": [{"backendRefs": [{"name": "db", "port": 5432}]}],
        },
    })
}

/// Changes what the controller has asked for, as `kubectl edit` would.
fn spoil(store: &mut Store, index: &Index) {
    let made: Vec<_> = store
        .all()
        .filter(|(_, object)| is_made(object))
        .map(|(id, object)| (id.clone(), object["spec"]["selector"].clone()))
        .collect();
    if made.is_empty() {
        return;
    }
    let (id, selector) = index.get(&made);
    let mut patch = json!({"metadata": {"labels": {"app.kubernetes.io/name": "spoilt"}}});
    if id.resource == "/services" && !selector.is_null() {
        patch["spec"] = json!({"selector": {"app.kubernetes.io/managed-by": "spoilt"}});
    }
    store.patch(id.clone(), &patch, Part::All).expect("it is there");
}
