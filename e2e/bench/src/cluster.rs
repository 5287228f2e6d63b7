//! Requests to the API server.

use std::{cell::Cell, fmt::Display, future::Future, time::Duration};

use futures::{StreamExt, TryStreamExt, future};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use crate::{Result, say};

/// How long anything may take before it is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The field manager of all that is written.
const MANAGER: &str = "l4way-bench";

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    group: &'static str,
    version: &'static str,
    name: &'static str,
}

impl Kind {
    pub(crate) const NAMESPACE: Self = Self::new("", "v1", "Namespace");
    pub(crate) const CONFIG_MAP: Self = Self::new("", "v1", "ConfigMap");
    pub(crate) const SECRET: Self = Self::new("", "v1", "Secret");
    pub(crate) const POD: Self = Self::new("", "v1", "Pod");
    pub(crate) const SERVICE: Self = Self::new("", "v1", "Service");
    pub(crate) const DEPLOYMENT: Self = Self::new("apps", "v1", "Deployment");
    pub(crate) const SLICE: Self = Self::new("discovery.k8s.io", "v1", "EndpointSlice");
    pub(crate) const GATEWAY: Self = Self::new("gateway.networking.k8s.io", "v1", "Gateway");
    pub(crate) const TCP_ROUTE: Self = Self::new("gateway.networking.k8s.io", "v1", "TCPRoute");
    pub(crate) const UDP_ROUTE: Self = Self::new("gateway.networking.k8s.io", "v1", "UDPRoute");

    const fn new(group: &'static str, version: &'static str, name: &'static str) -> Self {
        Self { group, version, name }
    }

    fn resource(self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(self.group, self.version, self.name))
    }

    /// An object without a namespace.
    pub(crate) fn object(self, name: &str, mut parts: Value) -> Value {
        let resource = self.resource();
        parts["apiVersion"] = resource.api_version.into();
        parts["kind"] = resource.kind.into();
        parts["metadata"]["name"] = name.into();
        parts
    }
}

/// The cluster, and in it the namespace of this run.
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
    namespace: String,
    is_made: Cell<bool>,
}

impl Cluster {
    /// Connects to the cluster of `KUBECONFIG`, and makes the namespace anew.
    pub(crate) fn connect(namespace: &str) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let client = runtime
            .block_on(Client::try_default())
            .map_err(|error| format!("found no cluster: {error}; set KUBECONFIG"))?;
        let namespace = namespace.to_owned();
        let cluster = Self { runtime, client, namespace, is_made: Cell::new(false) };
        cluster.delete(Kind::NAMESPACE, &cluster.namespace)?;
        cluster.wait(Kind::NAMESPACE, &cluster.namespace, |object| object.is_none())?;
        cluster.apply(&Kind::NAMESPACE.object(&cluster.namespace, json!({})), Kind::NAMESPACE)?;
        cluster.is_made.set(true);
        Ok(cluster)
    }

    /// Objects of a kind, in the namespace if they have one.
    pub(crate) fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = kind.resource();
        match kind {
            Kind::NAMESPACE => Api::all_with(self.client.clone(), &resource),
            _ => self.api_in(kind, &self.namespace),
        }
    }

    /// Objects of a kind in some other namespace.
    pub(crate) fn api_in(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// Waits for requests.
    pub(crate) fn run<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// Makes or changes an object.
    pub(crate) fn apply(&self, object: &Value, kind: Kind) -> Result<()> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply(MANAGER).force();
        let answer = self.run(self.api(kind).patch(name, &params, &Patch::Apply(object)));
        answer.map(drop).map_err(|error| failed("apply", kind, name, error))
    }

    /// Changes fields of an object.
    pub(crate) fn merge(&self, kind: Kind, name: &str, patch: &Value) -> Result<()> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let answer = self.run(self.api(kind).patch(name, &params, &Patch::Merge(patch)));
        answer.map(drop).map_err(|error| failed("patch", kind, name, error))
    }

    /// Deletes an object, if there is one.
    pub(crate) fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        match self.run(self.api(kind).delete(name, &DeleteParams::background())) {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            answer => answer.map(drop).map_err(|error| failed("delete", kind, name, error)),
        }
    }

    /// The objects with these labels.
    pub(crate) fn list(&self, kind: Kind, labels: &str) -> Result<Vec<Value>> {
        let list = self
            .run(self.api(kind).list(&ListParams::default().labels(labels)))
            .map_err(|error| failed("list", kind, labels, error))?;
        Ok(list.items.iter().map(value).collect())
    }

    /// Waits until an object, or that there is none, fits.
    pub(crate) fn wait(
        &self,
        kind: Kind,
        name: &str,
        fits: impl Fn(Option<&Value>) -> bool,
    ) -> Result<Option<Value>> {
        let objects = watcher::watch_object(self.api(kind), name).default_backoff();
        let values = objects.map_ok(|object| object.as_ref().map(value));
        let mut fitting = Box::pin(
            values.filter(|value| future::ready(value.as_ref().is_ok_and(|v| fits(v.as_ref())))),
        );
        match self.run(async { tokio::time::timeout(PATIENCE, fitting.next()).await }) {
            Ok(Some(Ok(value))) => Ok(value),
            _ => Err(failed("wait for", kind, name, "it isn't as it should be in time")),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_made.get()
            && let Err(error) = self.delete(Kind::NAMESPACE, &self.namespace)
        {
            say(&error);
        }
    }
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn failed(what: &str, kind: Kind, name: &str, error: impl Display) -> String {
    format!("can't {what} {} {name}: {error}", kind.name)
}
