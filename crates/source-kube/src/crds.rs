//! Follows which kinds the cluster serves, and follows their objects in the version chosen.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
};

use futures::{StreamExt, future::join_all};
use kube::{
    Api, Client, Resource,
    api::GetParams,
    core::{ApiResource, Request},
    runtime::watcher::{self, Event, watcher},
};
use serde::Deserialize;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    follow::{Followed, ROLE_HINT, Trouble, WATCH_SECONDS, follow},
    following::PAGE,
    kinds::{Kind, choose, resource},
    object::Outline,
    place::Place,
    source::Shared,
};

/// A CustomResourceDefinition, as far as it is read. Its schemas are large and are passed over.
#[derive(Deserialize)]
struct Crd {
    spec: CrdSpec,
    #[serde(default)]
    status: CrdStatus,
}

#[derive(Deserialize)]
struct CrdSpec {
    versions: Vec<CrdVersion>,
}

#[derive(Deserialize)]
struct CrdVersion {
    name: String,
    served: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CrdStatus {
    /// Null for a moment after the CRD was made.
    conditions: Option<Vec<CrdCondition>>,
}

#[derive(Deserialize)]
struct CrdCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Crd {
    /// The version to follow. None before the server has taken the CRD in.
    fn version(&self) -> Option<&'static str> {
        let mut conditions = self.status.conditions.iter().flatten();
        if !conditions
            .any(|condition| condition.kind == "Established" && condition.status == "True")
        {
            return None;
        }
        let served = self.spec.versions.iter().filter(|version| version.served);
        choose(served.map(|version| version.name.as_str()))
    }
}

/// Follows the CRDs of the Gateway API and of l4way until it is aborted.
///
/// Metadata alone is watched; a CRD of interest is read when it changed.
pub(crate) async fn watch(client: Client, shared: Arc<Shared>) {
    let crds = crds();
    let api: Api<Outline> = Api::all_with(client.clone(), &crds);
    let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    let mut events = pin!(watcher(api, config));
    let mut trouble = Trouble::new(crds.plural.clone(), ROLE_HINT);
    let mut served = Served::new(client, shared.clone());
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    trouble.over();
                    served.see(event);
                }
                Some(Err(error)) => trouble.pause(&shared.connection, &error).await,
                None => return,
            },
            () = sleep_until(served.next_read), if !served.unread.is_empty() => {}
        }
        if !served.listing && Instant::now() >= served.next_read {
            served.read_all().await;
        }
    }
}

fn crds() -> ApiResource {
    resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
}

/// The version that a kind is followed in, and the tasks that do so.
type Followers = (&'static str, Vec<AbortOnDrop>);

/// The kinds that are served, each with the tasks that follow it.
struct Served {
    client: Client,
    shared: Arc<Shared>,
    tasks: BTreeMap<&'static str, Followers>,
    /// Whether a list of CRDs is coming in.
    listing: bool,
    /// Kinds whose CRD the list had.
    listed: BTreeSet<&'static str>,
    /// Kinds whose CRD has to be read.
    unread: BTreeSet<&'static str>,
    next_read: Instant,
    backoff: Backoff,
    /// Kinds that are said to be missing.
    said_missing: BTreeSet<&'static str>,
    discovered: bool,
}

/// A task that ends when this is dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Served {
    fn new(client: Client, shared: Arc<Shared>) -> Self {
        Self {
            client,
            shared,
            tasks: BTreeMap::new(),
            listing: true,
            listed: BTreeSet::new(),
            unread: BTreeSet::new(),
            next_read: Instant::now(),
            backoff: Backoff::following(),
            said_missing: BTreeSet::new(),
            discovered: false,
        }
    }

    fn see(&mut self, event: Event<Outline>) {
        let defined = |crd: &Outline| {
            let name = crd.meta().name.as_deref();
            name.and_then(Kind::defined_by).map(|kind| kind.name)
        };
        match event {
            Event::Init => {
                self.listing = true;
                self.listed.clear();
            }
            Event::InitApply(crd) => self.listed.extend(defined(&crd)),
            Event::InitDone => {
                self.listing = false;
                // Those that the list lacks are read too: they are found missing.
                self.unread.extend(Kind::defined().iter().map(|kind| kind.name));
            }
            Event::Apply(crd) | Event::Delete(crd) => self.unread.extend(defined(&crd)),
        }
    }

    /// Reads the CRDs that may have changed.
    async fn read_all(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let kinds = unread.iter().filter_map(|name| Kind::named(name));
        let client = &self.client;
        let answers = join_all(kinds.map(async |kind| (kind, read(client, kind).await))).await;
        for (kind, answer) in answers {
            match answer {
                Ok(version) => self.set(kind, version).await,
                Err(error) => {
                    debug!(kind = kind.name, error, "its CRD can't be read");
                    self.unread.insert(kind.name);
                }
            }
        }
        self.say_missing();
        if !self.unread.is_empty() {
            self.next_read = Instant::now() + self.backoff.delay(Instant::now());
        } else {
            self.backoff.reset();
            if !self.discovered {
                self.discovered = true;
                self.shared.update(crate::state::State::set_discovered);
            }
        }
    }

    fn say_missing(&mut self) {
        let kinds = Kind::defined().iter().map(|kind| kind.name);
        let missing: Vec<_> = kinds
            .filter(|kind| !self.tasks.contains_key(kind) && !self.unread.contains(kind))
            .filter(|kind| self.said_missing.insert(kind))
            .collect();
        if !missing.is_empty() {
            let kinds = missing.join(", ");
            warn!(
                kinds,
                "the cluster does not serve these kinds; they are used once their CRDs are installed"
            );
        }
    }

    /// Follows a kind in this version from now on, or no longer.
    async fn set(&mut self, kind: &'static Kind, version: Option<&'static str>) {
        if self.tasks.get(kind.name).map(|(version, _)| *version) == version {
            return;
        }
        if let Some((_, tasks)) = self.tasks.remove(kind.name) {
            tasks.iter().for_each(|task| task.0.abort());
            // Their last updates must not come after what follows.
            for mut task in tasks {
                let _ended = (&mut task.0).await;
            }
        }
        let Some(version) = version else {
            self.shared.update(|state| state.withdraw(kind.name));
            return;
        };
        if self.said_missing.remove(kind.name) {
            info!(kind = kind.name, version, "its CRD is installed now");
        }
        let places = Place::of(kind.scope, self.shared.namespaces());
        self.shared.update(|state| {
            state.serve(kind.name, version, &places);
            true
        });
        let tasks = places.into_iter().map(|place| {
            let followed = Followed::kind(kind, version, place);
            AbortOnDrop(tokio::spawn(follow(self.client.clone(), self.shared.clone(), followed)))
        });
        self.tasks.insert(kind.name, (version, tasks.collect()));
    }
}

/// The version of a kind to follow; none if its CRD is missing.
async fn read(client: &Client, kind: &Kind) -> Result<Option<&'static str>, String> {
    let path = Outline::url_path(&crds(), None);
    let request = Request::new(path)
        .get(&kind.crd(), &GetParams::default())
        .map_err(|error| error.to_string())?;
    match client.request::<Crd>(request).await {
        Ok(crd) => Ok(crd.version()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(crd: serde_json::Value) -> Option<&'static str> {
        serde_json::from_value::<Crd>(crd).unwrap().version()
    }

    #[test]
    fn only_served_versions_of_an_established_crd_are_followed() {
        let spec = json!({"versions": [
            {"name": "v1", "served": false, "schema": {"openAPIV3Schema": {}}},
            {"name": "v1alpha2", "served": true},
        ]});
        let established = json!({"conditions": [
            {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"},
        ]});
        assert_eq!(version(json!({"spec": spec, "status": established})), Some("v1alpha2"));
        let pending = json!({"conditions": [{"type": "Established", "status": "False"}]});
        assert_eq!(version(json!({"spec": spec, "status": pending})), None);
        assert_eq!(version(json!({"spec": spec, "status": {"conditions": null}})), None);
        assert_eq!(version(json!({"spec": spec})), None);
    }
}
