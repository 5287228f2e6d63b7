use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{Client, core::ApiResource};
use l4way_resources::{
    Snapshot,
    api::{ObjectKey, ObjectRef},
};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    connection::Connection,
    crds,
    follow::{Followed, follow},
    kinds::{self, Kind},
    state::{Slot, State},
};

/// What is followed beside the kinds of the Gateway API, l4way's own, and the core kinds.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Whether EndpointSlices are in the snapshot.
    pub endpoint_slices: bool,
    /// Kinds whose objects are kept as they are.
    pub raw: Vec<RawKind>,
}

/// A kind whose objects are kept as they are, and which every cluster has.
#[derive(Clone, Debug, Default)]
pub struct RawKind {
    /// The API group; empty for core.
    pub group: String,
    /// The version, such as `v1`.
    pub version: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
    /// The kind's name in URLs, such as `deployments`.
    pub plural: String,
    /// Only objects with these labels.
    pub label_selector: Option<String>,
}

/// The objects of a cluster, kept up to date for as long as a clone of this lives.
#[derive(Clone, Debug)]
pub struct Source {
    shared: Arc<Shared>,
    seen: watch::Receiver<u64>,
    /// Ends the watches with the last clone.
    _tasks: Arc<JoinSet<()>>,
}

/// What the tasks and the handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    touched: Notify,
    pub(crate) connection: Connection,
}

impl Source {
    /// Follows everything that l4way reads, and what is wanted beside it, in tasks on the current
    /// tokio runtime.
    pub fn start(client: Client, wants: Wants) -> Self {
        let (changes, seen) = watch::channel(0);
        let raw_names = wants.raw.iter().map(|raw| raw.kind.clone());
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(raw_names)),
            changes,
            touched: Notify::new(),
            connection: Connection::default(),
        });
        let mut tasks = JoinSet::new();
        let watching_over = shared.clone();
        let probing = client.clone();
        tasks.spawn(async move { watching_over.connection.watch_over(probing).await });
        for followed in built_in(wants.endpoint_slices).chain(raw(wants.raw)) {
            match followed.slot {
                Slot::Kind(kind) => shared.lock().serve(kind, "v1"),
                raw => shared.lock().expect(raw),
            }
            tasks.spawn(follow(client.clone(), shared.clone(), followed));
        }
        tasks.spawn(crds::watch(client, shared.clone()));
        Self { shared, seen, _tasks: Arc::new(tasks) }
    }

    /// Waits until anything changed since this was called before; changes of a status alone don't
    /// count. Nothing is lost if the future is dropped.
    pub async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            // The sender is in `shared`, so it lives.
            std::future::pending::<()>().await;
        }
    }

    /// All objects, once the first list of each kind that there is is complete.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.shared.lock().snapshot()
    }

    /// The kinds whose CRDs aren't installed, once that is known.
    pub fn missing(&self) -> Vec<String> {
        self.shared.lock().missing()
    }

    /// The objects of a raw kind, such as `Deployment`.
    pub fn raw(&self, kind: &str) -> BTreeMap<ObjectKey, Arc<Value>> {
        self.shared.lock().raw(kind)
    }

    /// One object of a raw kind.
    pub fn raw_object(&self, kind: &str, key: &ObjectKey) -> Option<Arc<Value>> {
        self.shared.lock().raw_object(kind, key)
    }

    /// An object of a kind with a status that l4way writes, as the API server has it: `apiVersion`,
    /// `kind`, `metadata` (name, namespace, uid, resourceVersion, generation) and `status`.
    pub fn current(&self, object: &ObjectRef) -> Option<Arc<Value>> {
        self.shared.lock().current(object)
    }

    /// An object's apiVersion and UID, for objects in the snapshot and of raw kinds.
    pub(crate) fn identity(&self, object: &ObjectRef) -> Option<(String, Option<Arc<str>>)> {
        self.shared.lock().identity(object)
    }

    /// A request had no answer.
    pub(crate) fn connection_lost(&self, error: &str) {
        self.shared.connection.lost(error);
    }

    /// What the API server calls a kind that is in the snapshot, in the version that it serves.
    pub(crate) fn resource(&self, kind: &str) -> Option<ApiResource> {
        let version = self.shared.lock().version(kind)?;
        Some(Kind::named(kind)?.resource(version))
    }

    /// All objects of kinds with a status for which this holds.
    pub(crate) fn find_current(
        &self,
        mut holds: impl FnMut(&ObjectRef, &Value) -> bool,
    ) -> BTreeSet<ObjectRef> {
        let state = self.shared.lock();
        let found = state.all_current().filter(|(object, current)| holds(object, current));
        found.map(|(object, _)| object.clone()).collect()
    }

    /// Waits for objects whose status may have changed since this was asked before.
    pub(crate) async fn touched(&self) -> BTreeSet<ObjectRef> {
        loop {
            let touched = self.shared.lock().take_touched();
            if !touched.is_empty() {
                return touched;
            }
            self.shared.touched.notified().await;
        }
    }
}

fn built_in(endpoint_slices: bool) -> impl Iterator<Item = Followed> {
    Kind::built_in(endpoint_slices).map(|kind| Followed::kind(kind, "v1"))
}

fn raw(kinds: Vec<RawKind>) -> impl Iterator<Item = Followed> {
    kinds.into_iter().enumerate().map(|(number, raw)| Followed {
        slot: Slot::Raw(number),
        resource: kinds::resource(&raw.group, &raw.version, &raw.kind, &raw.plural),
        labels: raw.label_selector,
        fields: None,
    })
}

impl Shared {
    /// Changes the state, and tells who waits.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State) -> bool) {
        let ready = {
            let mut state = self.lock();
            let changed = change(&mut state);
            changed && state.ready()
        };
        if ready {
            self.changes.send_modify(|number| *number = number.wrapping_add(1));
        }
        self.touched.notify_one();
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
