//! What a cluster holds now, for the commands that look at one: no controller has to be asked.

mod proxies;

use std::time::Duration;

use l4way_model::ApplyReport;
use l4way_observe::{Overview, ProxyRow};
use l4way_resources::{
    Diagnostic, Severity, Snapshot,
    status::{
        Condition, GatewayClassStatus, GatewayStatus, ListenerSetStatus, ListenerStatus,
        PolicyAncestorStatus, PolicyStatus, RouteParentStatus, RouteStatus, Status, StatusUpdate,
    },
};
use l4way_source_kube::{Source, Wants, connect, server_version};
use l4way_translate::{Graph, Observed, Settings, graph, status};
use serde_json::{Value, json};
use tokio::{runtime, time::timeout};

use crate::{cli::ClusterArgs, clock::unix_time, problems};

/// How long the API server may take to list everything.
const LIST_WITHIN: Duration = Duration::from_secs(60);

/// The cluster's objects, as far as they are l4way's business.
pub(crate) struct Live {
    pub(crate) snapshot: Snapshot,
    graph: Graph,
    /// The status of every object of ours, as the API server has it.
    pub(crate) objects: Vec<StatusUpdate>,
    /// The pods of Gateways, or why there is nothing to say of them.
    proxies: Result<Vec<ProxyRow>, String>,
    /// What is wrong with what the controller has told, or hasn't.
    untold: Vec<Diagnostic>,
    /// Kinds whose CRDs aren't installed.
    missing: Vec<String>,
}

impl Live {
    /// Reads the cluster.
    ///
    /// # Errors
    /// If it can't be asked, with what to do about it.
    pub(crate) fn read(cluster: &ClusterArgs) -> Result<Self, String> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("can't start: {error}"))?;
        runtime.block_on(read(cluster))
    }

    /// What is wrong, or keeps traffic from a route; errors first.
    pub(crate) fn problems(&self) -> Vec<Diagnostic> {
        let mut problems = problems::of_graph(&self.graph);
        if self.missing.iter().any(|kind| kind == "Gateway") {
            let message = "The Gateway API's CRDs are not installed: apply the standard or experimental \
                           install YAML of its release page.";
            problems.push(Diagnostic::new(Severity::Error, message));
        }
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        problems
    }

    /// What is wrong, with what the controller has left untold.
    pub(crate) fn problems_with_status(&self) -> Vec<Diagnostic> {
        let mut problems = self.untold.clone();
        problems.extend(self.problems());
        problems
    }

    /// What is to be known beside problems.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = match &*self.missing {
            [] => Vec::new(),
            kinds => vec![format!("CRDs that are not installed: {}", kinds.join(", "))],
        };
        notes.extend(self.proxies.as_ref().err().cloned());
        notes
    }

    /// Every object of ours at a glance, and the pods of Gateways.
    pub(crate) fn overview(&self) -> Overview {
        let proxies = self.proxies.clone().unwrap_or_default();
        Overview { proxies, ..Overview::new(&self.snapshot, &self.objects) }
    }
}

async fn read(cluster: &ClusterArgs) -> Result<Live, String> {
    let clients = connect(cluster.context.as_deref()).await.map_err(|error| error.to_string())?;
    let client = clients.ordinary;
    server_version(&client).await.map_err(|error| error.to_string())?;
    let namespaces = cluster.watched();
    let wants = Wants { endpoint_slices: true, namespaces: namespaces.clone(), ..Wants::default() };
    let mut source = Source::start(client.clone(), wants);
    let settings = Settings { knows_slices: true, now: unix_time(), ..cluster.translation() };
    let listed = async {
        loop {
            source.changed().await;
            if !source.has_wanted() {
                continue;
            }
            let Some(snapshot) = source.snapshot() else { continue };
            let graph = graph(&snapshot, &settings);
            // What it refers to has to be read first.
            if source.want(graph.contents()) {
                break (snapshot, graph);
            }
        }
    };
    let (snapshot, graph) = timeout(LIST_WITHIN, listed).await.map_err(|_| {
        format!(
            "the API server didn't list everything within {LIST_WITHIN:?}: may you list Gateways, \
             routes, Services, Secrets, ConfigMaps, Namespaces and EndpointSlices in all namespaces? \
             `kubectl auth can-i list gateways -A` tells. --watch-namespace names those in which you may"
        )
    })?;
    let mut untold = Vec::new();
    // What would be said tells which objects are ours.
    let objects = status(&graph, &ApplyReport::default(), &Observed::default())
        .into_iter()
        .map(|update| {
            let current = source.current(&update.object);
            told(update, &current.unwrap_or_default(), &mut untold)
        })
        .collect();
    let proxies = proxies::read(&client, &snapshot.gateways, &namespaces).await;
    Ok(Live { missing: source.missing(), snapshot, graph, objects, proxies, untold })
}

/// The status as the API server has it, in place of what would be said without having asked a proxy.
fn told(update: StatusUpdate, current: &Value, untold: &mut Vec<Diagnostic>) -> StatusUpdate {
    let status = as_told(&update.status, &current["status"]);
    let generation = current["metadata"]["generation"].as_i64().unwrap_or_default();
    let observed = conditions(&status).map(|condition| condition.observed_generation).max();
    let ask = "is l4way's controller running? `kubectl -n l4way-system get pods` tells";
    let message = match observed {
        None | Some(0) => Some(format!("l4way's controller has said nothing of this yet; {ask}")),
        Some(observed) if observed < generation => Some(format!(
            "this has changed (to generation {generation}) since l4way's controller looked at it \
             (generation {observed}); {ask}"
        )),
        Some(_) => None,
    };
    untold.extend(message.map(|message| {
        Diagnostic::new(Severity::Error, message).with_object(update.object.clone())
    }));
    StatusUpdate { object: update.object, status }
}

/// A status that has the parts of `ours`, as far as `current` has them.
fn as_told(ours: &Status, current: &Value) -> Status {
    match ours {
        Status::GatewayClass(_) => Status::GatewayClass(GatewayClassStatus {
            conditions: all(&current["conditions"]),
            supported_features: all(&current["supportedFeatures"]),
        }),
        Status::Gateway(ours) => Status::Gateway(GatewayStatus {
            addresses: all(&current["addresses"]),
            conditions: all(&current["conditions"]),
            listeners: listeners(&ours.listeners, current),
            attached_listener_sets: serde_json::from_value(current["attachedListenerSets"].clone())
                .unwrap_or_default(),
        }),
        Status::ListenerSet(ours) => Status::ListenerSet(ListenerSetStatus {
            conditions: all(&current["conditions"]),
            listeners: listeners(&ours.listeners, current),
        }),
        Status::Route(ours) => {
            let told: Vec<RouteParentStatus> = all(&current["parents"]);
            let parents = ours.parents.iter().map(|parent| {
                let same = |told: &&RouteParentStatus| {
                    told.controller_name == parent.controller_name
                        && told.parent_ref == parent.parent_ref
                };
                let conditions =
                    told.iter().find(same).map(|told| told.conditions.clone()).unwrap_or_default();
                RouteParentStatus { conditions, ..parent.clone() }
            });
            Status::Route(RouteStatus { parents: parents.collect() })
        }
        Status::BackendTlsPolicy(ours) => {
            let told: Vec<PolicyAncestorStatus> = all(&current["ancestors"]);
            let ancestors = ours.ancestors.iter().map(|ancestor| {
                let same = |told: &&PolicyAncestorStatus| {
                    told.controller_name == ancestor.controller_name
                        && told.ancestor_ref == ancestor.ancestor_ref
                };
                let conditions =
                    told.iter().find(same).map(|told| told.conditions.clone()).unwrap_or_default();
                PolicyAncestorStatus { conditions, ..ancestor.clone() }
            });
            Status::BackendTlsPolicy(PolicyStatus { ancestors: ancestors.collect() })
        }
    }
}

fn listeners(ours: &[ListenerStatus], current: &Value) -> Vec<ListenerStatus> {
    let told: Vec<ListenerStatus> = all(&current["listeners"]);
    let listeners = ours.iter().map(|listener| {
        let told = told.iter().find(|told| told.name == listener.name);
        told.cloned()
            .unwrap_or_else(|| ListenerStatus { conditions: Vec::new(), ..listener.clone() })
    });
    listeners.collect()
}

/// The items of a list that have the shape that is wanted.
fn all<T: serde::de::DeserializeOwned>(list: &Value) -> Vec<T> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| serde_json::from_value(complete(item.clone())).ok()).collect()
}

/// Conditions may come without what we always write.
fn complete(mut item: Value) -> Value {
    if let Some(condition) = item.as_object_mut().filter(|item| item.contains_key("status")) {
        condition.entry("message").or_insert_with(|| json!(""));
        condition.entry("observedGeneration").or_insert_with(|| json!(0));
    }
    item
}

fn conditions(status: &Status) -> Box<dyn Iterator<Item = &Condition> + '_> {
    match status {
        Status::GatewayClass(status) => Box::new(status.conditions.iter()),
        Status::Gateway(status) => Box::new(status.conditions.iter()),
        Status::ListenerSet(status) => Box::new(status.conditions.iter()),
        Status::Route(status) => {
            Box::new(status.parents.iter().flat_map(|parent| &parent.conditions))
        }
        Status::BackendTlsPolicy(status) => {
            Box::new(status.ancestors.iter().flat_map(|ancestor| &ancestor.conditions))
        }
    }
}

#[cfg(test)]
mod tests {
    use l4way_resources::api::{ObjectKey, ObjectRef};

    use super::*;

    fn ours() -> StatusUpdate {
        let status = Status::GatewayClass(GatewayClassStatus {
            conditions: Vec::new(),
            supported_features: Vec::new(),
        });
        StatusUpdate { object: ObjectRef::new("GatewayClass", ObjectKey::new("", "l4way")), status }
    }

    #[test]
    fn what_the_controller_left_untold_is_a_problem() {
        let current = |observed: i64| {
            json!({
                "metadata": {"generation": 2},
                "status": {"conditions": [{
                    "type": "Accepted", "status": "True", "reason": "Accepted",
                    "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z",
                }]},
            })
        };
        let problems = |current: &Value| {
            let mut untold = Vec::new();
            told(ours(), current, &mut untold);
            untold.len()
        };
        assert_eq!(problems(&current(2)), 0);
        assert_eq!(problems(&current(1)), 1);
        assert_eq!(problems(&Value::Null), 1);
    }

    #[test]
    fn a_status_is_read_as_the_api_server_has_it() {
        let current =
            json!({"conditions": [{"type": "Accepted", "status": "Unknown", "reason": "Pending"}]});
        let Status::GatewayClass(read) = as_told(&ours().status, &current) else { panic!() };
        assert_eq!(read.conditions[0].reason, "Pending");
    }
}
