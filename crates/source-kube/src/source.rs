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
    fetch::read_wanted,
    follow::{Asked, Followed, follow},
    kinds::{self, Kind},
    place::{Place, Scope},
    progress::Seen,
    state::{Slot, State},
};

/// What is followed beside the kinds of the Gateway API, l4way's own, and the core kinds.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Whether EndpointSlices are in the snapshot.
    pub endpoint_slices: bool,
    /// Kinds whose objects are kept as they are.
    pub raw: Vec<RawKind>,
    /// The namespaces in which objects are followed; all if there are none. Of kinds without namespaces all
    /// objects are followed, of namespaces these.
    pub namespaces: BTreeSet<String>,
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
    /// Whether only the objects' metadata is asked for and kept.
    pub metadata_only: bool,
    /// Whether its objects are in no namespace.
    pub cluster_scoped: bool,
    /// Which objects are kept; all if there is none. Others may make objects with the same labels, large ones and
    /// many.
    pub is_kept: Option<fn(&Value) -> bool>,
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
    wanted: Notify,
    /// Empty for all.
    namespaces: Vec<Arc<str>>,
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
            wanted: Notify::new(),
            namespaces: wants.namespaces.iter().map(|name| name.as_str().into()).collect(),
            connection: Connection::default(),
        });
        let mut tasks = JoinSet::new();
        let watching_over = shared.clone();
        let probing = client.clone();
        tasks.spawn(async move { watching_over.connection.watch_over(probing).await });
        let built_in = built_in(wants.endpoint_slices, &shared.namespaces);
        for followed in built_in.chain(raw(wants.raw, &shared.namespaces)) {
            let place = followed.place.clone();
            match followed.slot {
                Slot::Kind(kind) => shared.lock().serve(kind, "v1", &[place]),
                raw => shared.lock().expect(raw, place),
            }
            tasks.spawn(follow(client.clone(), shared.clone(), followed));
        }
        tasks.spawn(read_wanted(client.clone(), shared.clone()));
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

    /// All objects, once the first list of each kind that there is is complete. It has Secrets and
    /// ConfigMaps as far as they are [wanted](Self::want) and have been read.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.shared.lock().snapshot()
    }

    /// Has what these Secrets and ConfigMaps hold read, and kept up to date, from now on; what others hold
    /// is dropped. Whether all of them have been read, as far as they are there and can be. Until it has,
    /// the snapshot says nothing of them; [`changed`](Self::changed) tells when it has.
    pub fn want(&self, contents: &BTreeSet<ObjectRef>) -> bool {
        let complete = self.shared.lock().want(contents.clone());
        self.shared.wanted.notify_one();
        complete
    }

    /// Whether all that is wanted has been read, as far as it is there and can be.
    pub fn has_wanted(&self) -> bool {
        self.shared.lock().has_wanted()
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

    /// How far the watch of a raw kind has come in a namespace. What is asked for afterwards is at least
    /// as late.
    pub fn seen(&self, kind: &str, namespace: &str) -> Seen {
        self.shared.lock().seen(kind, namespace)
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

fn built_in(endpoint_slices: bool, namespaces: &[Arc<str>]) -> impl Iterator<Item = Followed> + '_ {
    Kind::built_in(endpoint_slices).flat_map(|kind| {
        let places = Place::of(kind.scope, namespaces).into_iter();
        places.map(move |place| Followed::kind(kind, "v1", place))
    })
}

fn raw(kinds: Vec<RawKind>, namespaces: &[Arc<str>]) -> impl Iterator<Item = Followed> + '_ {
    kinds.into_iter().enumerate().flat_map(|(number, raw)| {
        let scope = if raw.cluster_scoped { Scope::Cluster } else { Scope::Namespaced };
        let places = Place::of(scope, namespaces).into_iter();
        places.map(move |place| Followed {
            slot: Slot::Raw(number),
            place,
            resource: kinds::resource(&raw.group, &raw.version, &raw.kind, &raw.plural),
            labels: raw.label_selector.clone(),
            fields: None,
            content: if raw.metadata_only { Asked::Metadata } else { Asked::Whole },
            is_kept: raw.is_kept,
        })
    })
}

impl Shared {
    /// Changes the state, and tells who waits.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State) -> bool) {
        let ready = {
            let mut state = self.lock();
            let waited = !state.has_wanted();
            let changed = change(&mut state) | (waited && state.has_wanted());
            changed && state.ready()
        };
        if ready {
            self.changes.send_modify(|number| *number = number.wrapping_add(1));
        }
        self.touched.notify_one();
        self.wanted.notify_one();
    }

    /// The namespaces in which objects are followed; all if there are none.
    pub(crate) fn namespaces(&self) -> &[Arc<str>] {
        &self.namespaces
    }

    /// Waits until there may be something else to read.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
