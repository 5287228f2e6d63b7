//! What a person wants to see of every object at a glance, taken from the objects and their status.

use std::collections::BTreeMap;

use l4way_delivery::EndpointSummary;
use l4way_model::{ListenerId, PathReport};
use l4way_resources::{
    Snapshot,
    api::{Listener, ObjectKey, ObjectRef, ParentRef},
    status::{Condition, ConditionStatus, ListenerStatus, Status, StatusUpdate},
};
use serde::{Deserialize, Serialize};

/// Every Gateway, listener and route that is ours, and every policy about one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Gateways of our classes.
    pub gateways: Vec<GatewayRow>,
    /// Listeners of those and of their ListenerSets.
    pub listeners: Vec<ListenerRow>,
    /// Routes, a row for each of their parents.
    pub routes: Vec<RouteRow>,
    /// BackendTLSPolicies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyRow>,
    /// The pods of Gateways; only a cluster tells of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<ProxyRow>,
}

/// One Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRow {
    /// `namespace/name`.
    pub name: String,
    /// The name of its GatewayClass.
    pub class: String,
    /// The addresses of its status.
    pub addresses: Vec<String>,
    /// The conditions of its status.
    pub conditions: Vec<Condition>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerRow {
    /// `namespace/name/listener`, of the Gateway or ListenerSet.
    pub name: String,
    /// The protocol as the API spells it.
    pub protocol: String,
    /// The port that clients use.
    pub port: u16,
    /// The number of routes that are attached to it.
    pub attached_routes: u32,
    /// Who carries its sessions, where the kernel may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<PathReport>,
    /// The conditions of its status.
    pub conditions: Vec<Condition>,
}

/// One route with one of its parents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRow {
    /// `Kind namespace/name`.
    pub name: String,
    /// `namespace/name`, with `/listener` or `:port` where the route names them.
    pub parent: String,
    /// The conditions of its status.
    pub conditions: Vec<Condition>,
}

/// One BackendTLSPolicy with one of the Gateways that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRow {
    /// `Kind namespace/name`.
    pub name: String,
    /// `namespace/name`.
    pub gateway: String,
    /// The conditions of its status.
    pub conditions: Vec<Condition>,
}

/// One pod of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyRow {
    /// `namespace/name` of the pod.
    pub name: String,
    /// `namespace/name`.
    pub gateway: String,
    /// Whether it takes sessions.
    pub ready: bool,
    /// The version of l4way that it runs, if it has said so.
    pub version: Option<String>,
    /// The hash of the configuration in force, if there is one.
    pub configuration: Option<String>,
    /// Why that isn't the Gateway's latest one, as a clause about the pod.
    pub behind: Option<String>,
    /// Where nobody answers it.
    #[serde(default, skip_serializing_if = "EndpointSummary::is_empty")]
    pub endpoints: EndpointSummary,
}

impl Overview {
    /// Joins the objects with what is said of them.
    pub fn new(snapshot: &Snapshot, updates: &[StatusUpdate]) -> Self {
        let mut overview = Self::default();
        for update in updates {
            overview.add(snapshot, update);
        }
        overview
    }

    /// Adds who carries the sessions of listeners.
    pub fn set_paths(&mut self, paths: &BTreeMap<ListenerId, PathReport>) {
        let paths: BTreeMap<_, _> = paths.iter().map(|(id, path)| (id.to_string(), path)).collect();
        for row in &mut self.listeners {
            row.data_path = paths.get(&row.name).map(|&path| path.clone());
        }
    }

    fn add(&mut self, snapshot: &Snapshot, update: &StatusUpdate) {
        let key = &update.object.key;
        match &update.status {
            Status::Gateway(status) => {
                let Some(gateway) = snapshot.gateways.get(key) else { return };
                self.gateways.push(GatewayRow {
                    name: key.to_string(),
                    class: gateway.spec.gateway_class_name.to_string(),
                    addresses: status.addresses.iter().map(|a| a.value.clone()).collect(),
                    conditions: status.conditions.clone(),
                });
                self.add_listeners(key, &gateway.spec.listeners, &status.listeners);
            }
            Status::ListenerSet(status) => {
                let Some(set) = snapshot.listener_sets.get(key) else { return };
                self.add_listeners(key, &set.spec.listeners, &status.listeners);
            }
            Status::Route(status) => {
                for parent in &status.parents {
                    self.routes.push(RouteRow {
                        name: update.object.to_string(),
                        parent: parent_name(&update.object, &parent.parent_ref),
                        conditions: parent.conditions.clone(),
                    });
                }
            }
            Status::BackendTlsPolicy(status) => {
                for ancestor in &status.ancestors {
                    self.policies.push(PolicyRow {
                        name: update.object.to_string(),
                        gateway: parent_name(&update.object, &ancestor.ancestor_ref),
                        conditions: ancestor.conditions.clone(),
                    });
                }
            }
            Status::GatewayClass(_) => {}
        }
    }

    fn add_listeners(
        &mut self,
        owner: &ObjectKey,
        specs: &[Listener],
        statuses: &[ListenerStatus],
    ) {
        let specs: BTreeMap<_, _> = specs.iter().map(|spec| (&spec.name, spec)).collect();
        for status in statuses {
            let Some(spec) = specs.get(&status.name) else { continue };
            self.listeners.push(ListenerRow {
                name: format!("{owner}/{}", status.name),
                protocol: spec.protocol.to_string(),
                port: spec.port,
                attached_routes: status.attached_routes,
                data_path: None,
                conditions: status.conditions.clone(),
            });
        }
    }

    /// Every condition that isn't as one would wish, each as a line that says whose it is.
    pub fn complaints(&self) -> Vec<String> {
        let gateways = self.gateways.iter().map(|row| ("Gateway", &row.name, &row.conditions));
        let listeners = self.listeners.iter().map(|row| ("listener", &row.name, &row.conditions));
        let routes = self.routes.iter().map(|row| ("", &row.name, &row.conditions));
        let policies = self.policies.iter().map(|row| ("", &row.name, &row.conditions));
        let proxies = self.proxies.iter();
        let behind = proxies.filter_map(|row| Some((&row.name, row.behind.as_ref()?)));
        let behind = behind.map(|(name, behind)| format!("proxy {name}: {behind}"));
        let unanswered = self.proxies.iter().flat_map(|row| {
            let none_left = row.endpoints.backends.iter().filter(|of| of.has_none_left());
            none_left.map(|of| format!("proxy {}: nobody answers at {}", row.name, of.backend))
        });
        let conditions = gateways.chain(listeners).chain(routes).chain(policies).flat_map(
            |(what, name, conditions)| {
                conditions.iter().filter(|condition| is_complaint(condition)).map(
                    move |condition| {
                        let Condition { kind, status, reason, message, .. } = condition;
                        let status = status.as_str();
                        format!("{what} {name}: {kind} {status} ({reason}): {message}")
                            .trim_start()
                            .to_owned()
                    },
                )
            },
        );
        conditions.chain(behind).chain(unanswered).collect()
    }
}

/// Whether the condition says that something is wrong: most do by being false, the few that name a
/// trouble by being true.
pub fn is_complaint(condition: &Condition) -> bool {
    let names_a_trouble = matches!(
        condition.kind.as_str(),
        "Conflicted" | "OverlappingTLSConfig" | "PartiallyInvalid" | "l4way.dev/Superseded"
    );
    (condition.status == ConditionStatus::True) == names_a_trouble
}

fn parent_name(of: &ObjectRef, parent: &ParentRef) -> String {
    let namespace = parent.namespace.as_ref().unwrap_or(&of.key.namespace);
    let mut name = format!("{namespace}/{}", parent.name);
    if let Some(section) = &parent.section_name {
        name = format!("{name}/{section}");
    }
    if let Some(port) = parent.port {
        name = format!("{name}:{port}");
    }
    name
}
