//! The EndpointSlices of the namespaces that the configuration names, one watch each.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::discovery::v1 as discovery;
use kube::{
    Api,
    runtime::watcher::{Config, Event},
};
use l4way_endpoints::{Service, Slices};
use l4way_resources::api::{
    EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForZone, ObjectMeta,
    SliceEndpoint,
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::api_server::ApiServer;

/// How many changes are taken in at once.
pub(super) const BATCH: usize = 256;

/// A change of the EndpointSlices of a namespace.
pub(super) struct Change {
    namespace: Arc<str>,
    what: What,
}

enum What {
    /// These are all that there are.
    All(Vec<EndpointSlice>),
    /// This one is new, or different.
    Slice(Box<EndpointSlice>),
    /// The one of this name is gone.
    Gone(Arc<str>),
}

#[cfg(test)]
impl Change {
    /// These are all EndpointSlices of the namespace.
    pub(super) fn all(namespace: &str, slices: Vec<EndpointSlice>) -> Self {
        Self { namespace: namespace.into(), what: What::All(slices) }
    }

    /// This one of the namespace is new, or different.
    pub(super) fn one(namespace: &str, slice: EndpointSlice) -> Self {
        Self { namespace: namespace.into(), what: What::Slice(Box::new(slice)) }
    }
}

/// The watches.
pub(super) struct Watches {
    server: ApiServer,
    changes: mpsc::Sender<Change>,
    tasks: Vec<(Arc<str>, Watch)>,
    known: Slices,
}

/// A watch's task; it ends when this is dropped.
struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watches {
    /// No watch yet, and where their changes come from, for [`take`](Self::take).
    pub(super) fn new(server: ApiServer) -> (Self, mpsc::Receiver<Change>) {
        let (changes, receiver) = mpsc::channel(BATCH);
        (Self { server, changes, tasks: Vec::new(), known: Slices::default() }, receiver)
    }

    /// What is known.
    pub(super) fn known(&self) -> &Slices {
        &self.known
    }

    /// Follows these namespaces and no others.
    pub(super) fn follow(&mut self, namespaces: &BTreeSet<Arc<str>>) {
        self.tasks.retain(|(namespace, _)| namespaces.contains(namespace));
        self.known.retain(namespaces);
        for namespace in namespaces {
            if !self.tasks.iter().any(|(followed, _)| followed == namespace) {
                let task = watch(self.server.clone(), namespace.clone(), self.changes.clone());
                let watch = Watch(tokio::spawn(task).abort_handle());
                self.tasks.push((namespace.clone(), watch));
            }
        }
    }

    /// Takes a change in. Returns the Services that it concerns.
    pub(super) fn take(&mut self, change: Change) -> Vec<Service> {
        let Change { namespace, what } = change;
        if !self.tasks.iter().any(|(followed, _)| *followed == namespace) {
            // It was on its way when the namespace was given up.
            return Vec::new();
        }
        match what {
            What::All(slices) => self.known.replace(&namespace, slices),
            What::Slice(slice) => self.known.set(&namespace, *slice),
            What::Gone(name) => self.known.remove(&namespace, &name),
        }
    }
}

async fn watch(server: ApiServer, namespace: Arc<str>, changes: mpsc::Sender<Change>) {
    let api: Api<discovery::EndpointSlice> = Api::namespaced(server.client(), &namespace);
    let plural = format!("EndpointSlices of namespace {namespace}");
    let mut events = server.follow(plural, api, Config::default());
    let mut listed = Vec::new();
    loop {
        let what = match events.next().await {
            Event::Init => {
                listed = Vec::new();
                continue;
            }
            Event::InitApply(slice) => {
                listed.push(slim(slice));
                continue;
            }
            Event::InitDone => What::All(std::mem::take(&mut listed)),
            Event::Apply(slice) => What::Slice(Box::new(slim(slice))),
            Event::Delete(slice) => What::Gone(slice.metadata.name.unwrap_or_default().into()),
        };
        if changes.send(Change { namespace: namespace.clone(), what }).await.is_err() {
            return;
        }
    }
}

/// What is read of an EndpointSlice, and no more: there may be many.
fn slim(slice: discovery::EndpointSlice) -> EndpointSlice {
    let label = EndpointSlice::SERVICE_NAME_LABEL;
    let service = slice.metadata.labels.unwrap_or_default().remove(label);
    EndpointSlice {
        metadata: ObjectMeta {
            name: slice.metadata.name.unwrap_or_default().into(),
            labels: service.map(|service| (label.to_owned(), service)).into_iter().collect(),
            ..ObjectMeta::default()
        },
        address_type: slice.address_type.into(),
        endpoints: slice.endpoints.into_iter().map(slim_endpoint).collect(),
        ports: slice.ports.unwrap_or_default().into_iter().map(slim_port).collect(),
    }
}

fn slim_endpoint(endpoint: discovery::Endpoint) -> SliceEndpoint {
    let conditions = endpoint.conditions.unwrap_or_default();
    let for_zones = endpoint.hints.and_then(|hints| hints.for_zones);
    SliceEndpoint {
        // The first is used; the others mean the same.
        addresses: endpoint.addresses.into_iter().take(1).map(Into::into).collect(),
        conditions: EndpointConditions {
            ready: conditions.ready,
            serving: conditions.serving,
            terminating: conditions.terminating,
        },
        zone: endpoint.zone.map(Into::into),
        hints: for_zones.map(|zones| EndpointHints {
            for_zones: zones.into_iter().map(|zone| ForZone { name: zone.name.into() }).collect(),
        }),
    }
}

fn slim_port(port: discovery::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: port.name.map(Into::into),
        protocol: port.protocol.map(Into::into),
        // A number that is no port is none that can be connected to.
        port: port.port.and_then(|number| number.try_into().ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_what_is_read() {
        let wire: discovery::EndpointSlice = serde_json::from_value(json!({
            "metadata": {
                "name": "a", "namespace": "default",
                "labels": { "kubernetes.io/service-name": "db", "other": "x" },
            },
            "addressType": "IPv4",
            "endpoints": [{
                "addresses": ["10.0.0.1"],
                "conditions": { "ready": true },
                "hints": { "forZones": [{ "name": "z" }] },
            }],
            "ports": [{ "name": "db", "port": 5432 }],
        }))
        .unwrap();
        let mut read: EndpointSlice =
            serde_json::from_value(serde_json::to_value(&wire).unwrap()).unwrap();
        read.metadata.namespace = "".into();
        read.metadata.labels.remove("other");
        assert_eq!(slim(wire), read);
    }
}
