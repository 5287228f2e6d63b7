use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::ApiResource,
};
use l4way_resources::{
    api::ObjectRef,
    status::{PolicyStatus, RouteStatus, Status, StatusUpdate},
};
use serde_json::Value;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use crate::{
    backoff::Backoff,
    follow::Cause,
    kinds::{Kind, POLICY},
    merge::{has_entries_of, merge, patch},
    object::Object,
    source::Source,
    state::current_of,
};

/// Who the API server records as a field's owner.
const FIELD_MANAGER: &str = "l4way";
/// How many objects are written at once.
const CONCURRENT: usize = 16;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Writes the status of objects. One task; the last word for each object wins.
#[derive(Clone, Debug)]
pub struct StatusWriter {
    desk: Arc<Desk>,
    /// Ends the task with the last clone.
    _task: Arc<JoinSet<()>>,
}

struct Desk {
    client: Client,
    source: Source,
    controller: String,
    work: Mutex<Work>,
    wake: Notify,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("work", &self.work).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Work {
    enabled: bool,
    /// What every object's status should say, once that is known.
    wanted: Option<BTreeMap<ObjectRef, Arc<Status>>>,
    /// Objects to look at.
    pending: BTreeSet<ObjectRef>,
    /// Objects that are being written.
    busy: BTreeSet<ObjectRef>,
    /// Objects as the server answered with them, until the source has them newer.
    answered: BTreeMap<ObjectRef, Answered>,
}

#[derive(Clone, Debug)]
struct Answered {
    object: Arc<Value>,
    /// What had been wanted, if the answer was to a write.
    wanted: Option<Arc<Status>>,
}

/// How one attempt to write ended.
enum Outcome {
    /// As wanted, or the object is gone.
    Done,
    /// Somebody else has changed the object meanwhile.
    Conflict,
    Failed(Cause),
}

impl StatusWriter {
    /// Writes as this controller, in a task on the current tokio runtime, once it is enabled.
    pub fn start(client: Client, source: Source, controller_name: &str) -> Self {
        let desk = Arc::new(Desk {
            client,
            source,
            controller: controller_name.to_owned(),
            work: Mutex::default(),
            wake: Notify::new(),
        });
        let mut task = JoinSet::new();
        task.spawn(run(desk.clone()));
        Self { desk, _task: Arc::new(task) }
    }

    /// What the status of objects should be from now on: all of them. A route or policy with entries
    /// of this controller that isn't among them loses these.
    pub fn write(&self, updates: Vec<StatusUpdate>) {
        let first = self.desk.lock().wanted.is_none();
        let stale = if first { self.desk.objects_with_entries() } else { BTreeSet::new() };
        self.desk.lock().want(updates, stale);
        self.desk.wake.notify_one();
    }

    /// Whether to write; only the leader should.
    pub fn set_enabled(&self, leader: bool) {
        let stale = self.desk.objects_with_entries();
        self.desk.lock().enable(leader, stale);
        self.desk.wake.notify_one();
    }
}

impl Work {
    fn want(&mut self, updates: Vec<StatusUpdate>, stale: BTreeSet<ObjectRef>) {
        let mut old = self.wanted.take().unwrap_or_default();
        let mut wanted = BTreeMap::new();
        self.pending.extend(stale);
        for StatusUpdate { object, status } in updates {
            let status = match old.remove(&object) {
                Some(same) if *same == status => same,
                _ => {
                    self.pending.insert(object.clone());
                    Arc::new(status)
                }
            };
            wanted.insert(object, status);
        }
        self.pending.extend(old.into_keys().filter(has_entries));
        self.wanted = Some(wanted);
    }

    fn enable(&mut self, enabled: bool, stale: BTreeSet<ObjectRef>) {
        if enabled && !self.enabled {
            self.pending.extend(stale);
            self.pending.extend(self.wanted.iter().flat_map(BTreeMap::keys).cloned());
        }
        self.enabled = enabled;
    }

    /// The next object to write.
    fn next(&mut self) -> Option<ObjectRef> {
        if !self.enabled || self.wanted.is_none() {
            return None;
        }
        let next = self.pending.iter().find(|object| !self.busy.contains(object))?.clone();
        self.pending.remove(&next);
        self.busy.insert(next.clone());
        Some(next)
    }

    /// What an object's status should say; nothing for an object that isn't this controller's. A
    /// route or policy that isn't has no entries.
    fn wanted(&self, object: &ObjectRef) -> Option<Arc<Status>> {
        if !self.enabled {
            return None;
        }
        let wanted = self.wanted.as_ref()?;
        wanted.get(object).cloned().or_else(|| has_entries(object).then(|| nothing(object).into()))
    }
}

fn has_entries(object: &ObjectRef) -> bool {
    Kind::named(&object.kind).is_some_and(Kind::has_entries)
}

/// The status of a route or policy that says nothing.
fn nothing(object: &ObjectRef) -> Status {
    if *object.kind == *POLICY {
        Status::BackendTlsPolicy(PolicyStatus { ancestors: Vec::new() })
    } else {
        Status::Route(RouteStatus { parents: Vec::new() })
    }
}

async fn run(desk: Arc<Desk>) {
    let mut writes = JoinSet::new();
    let mut retries = Retries::default();
    loop {
        while writes.len() < CONCURRENT {
            let Some(object) = desk.lock().next() else { break };
            let desk = desk.clone();
            writes.spawn(async move {
                let outcome = desk.attempt(&object).await;
                (object, outcome)
            });
        }
        tokio::select! {
            () = desk.wake.notified() => {}
            touched = desk.source.touched() => desk.touch(touched, &mut retries),
            Some(Ok((object, outcome))) = writes.join_next() => {
                desk.finish(object, outcome, &mut retries);
            }
            () = retries.due() => desk.lock().pending.extend(retries.take_due()),
        }
    }
}

/// Objects that wait for another attempt.
#[derive(Default)]
struct Retries(BTreeMap<ObjectRef, (Option<Instant>, Backoff)>);

impl Retries {
    async fn due(&self) {
        match self.0.values().filter_map(|(at, _)| *at).min() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn take_due(&mut self) -> Vec<ObjectRef> {
        let now = Instant::now();
        let due = self.0.iter_mut().filter(|(_, (at, _))| at.is_some_and(|at| at <= now));
        due.map(|(object, (at, _))| {
            *at = None;
            object.clone()
        })
        .collect()
    }

    /// Plans another attempt; whether it is the first.
    fn add(&mut self, object: ObjectRef) -> bool {
        let now = Instant::now();
        let first = !self.0.contains_key(&object);
        let new = || (None, Backoff::new(FIRST_RETRY, LAST_RETRY));
        let (at, backoff) = self.0.entry(object).or_insert_with(new);
        *at = Some(now + backoff.delay(now));
        first
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn objects_with_entries(&self) -> BTreeSet<ObjectRef> {
        self.source.find_current(|object, current| {
            has_entries(object) && has_entries_of(&current["status"], &self.controller)
        })
    }

    /// Objects have changed, by somebody else or by what was written.
    fn touch(&self, touched: BTreeSet<ObjectRef>, retries: &mut Retries) {
        let mut ours = Vec::new();
        for object in touched {
            match self.source.current(&object) {
                None => {
                    retries.0.remove(&object);
                    self.lock().answered.remove(&object);
                }
                Some(current) => {
                    let known = |work: &Work| {
                        work.wanted.as_ref().is_some_and(|wanted| wanted.contains_key(&object))
                    };
                    let stale = has_entries(&object)
                        && has_entries_of(&current["status"], &self.controller);
                    if stale || known(&self.lock()) {
                        ours.push(object);
                    }
                }
            }
        }
        self.lock().pending.extend(ours);
    }

    fn finish(&self, object: ObjectRef, outcome: Outcome, retries: &mut Retries) {
        let mut work = self.lock();
        work.busy.remove(&object);
        match outcome {
            Outcome::Done => drop(retries.0.remove(&object)),
            Outcome::Conflict => drop(work.pending.insert(object)),
            Outcome::Failed(cause) => {
                drop(work);
                let first = retries.add(object.clone());
                self.say(&object, &cause, first);
            }
        }
    }

    fn say(&self, object: &ObjectRef, cause: &Cause, first: bool) {
        let (code, error) = match cause {
            Cause::Connection(error) => {
                self.source.connection_lost(error);
                (0, error)
            }
            Cause::Status(code, error) => (*code, error),
            Cause::Other(error) => (0, error),
        };
        if !first || matches!(cause, Cause::Connection(_)) {
            debug!(%object, code, error, "its status can't be written");
        } else if code == 403 {
            warn!(
                %object,
                error,
                "its status may not be written: let the ClusterRole of l4way's service account \
                 `patch` its kind's `status`"
            );
        } else {
            warn!(%object, code, error, "its status can't be written; trying again");
        }
    }

    async fn attempt(&self, object: &ObjectRef) -> Outcome {
        let (wanted, answered) = {
            let work = self.lock();
            (work.wanted(object), work.answered.get(object).cloned())
        };
        let (Some(wanted), Some(resource)) = (wanted, self.source.resource(&object.kind)) else {
            return Outcome::Done;
        };
        let Some(current) = newest(self.source.current(object), answered.as_ref()) else {
            return Outcome::Done;
        };
        let Ok(value) = serde_json::to_value(&*wanted) else { return Outcome::Done };
        let status = merge(&current["status"], &value, &self.controller, &now());
        let is_written = answered.is_some_and(|answered| {
            // The server may have dropped fields that its CRD's version doesn't know.
            answered.wanted.as_deref() == Some(&*wanted)
                && answered.object["status"] == current["status"]
        });
        if status == current["status"] || is_written {
            return Outcome::Done;
        }
        let (api, name) = self.api(object, &resource);
        let patch = Patch::Merge(patch(&current, &status));
        let params = PatchParams::apply(FIELD_MANAGER);
        match api.patch_status(name, &params, &patch).await {
            Ok(answer) => self.answer(object, &resource, answer, Some(wanted)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Outcome::Done,
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                self.read_again(object, &resource).await
            }
            Err(error) => Outcome::Failed(Cause::of(&error)),
        }
    }

    async fn read_again(&self, object: &ObjectRef, resource: &ApiResource) -> Outcome {
        let (api, name) = self.api(object, resource);
        match api.get_opt(name).await {
            Ok(Some(answer)) => {
                debug!(%object, "changed before its status was written; merging again");
                self.answer(object, resource, answer, None);
                Outcome::Conflict
            }
            Ok(None) => Outcome::Done,
            Err(error) => Outcome::Failed(Cause::of(&error)),
        }
    }

    fn answer(
        &self,
        object: &ObjectRef,
        resource: &ApiResource,
        answer: Object,
        wanted: Option<Arc<Status>>,
    ) -> Outcome {
        let answered = Answered { object: Arc::new(current_of(resource, answer)), wanted };
        self.lock().answered.insert(object.clone(), answered);
        Outcome::Done
    }

    fn api<'a>(&self, object: &'a ObjectRef, resource: &ApiResource) -> (Api<Object>, &'a str) {
        let key = &object.key;
        let client = self.client.clone();
        let api = if key.namespace.is_empty() {
            Api::all_with(client, resource)
        } else {
            Api::namespaced_with(client, &key.namespace, resource)
        };
        (api, &key.name)
    }
}

/// The newer of what the source has and what the server has answered. None if the source has none:
/// the object is gone.
fn newest(source: Option<Arc<Value>>, answered: Option<&Answered>) -> Option<Arc<Value>> {
    let source = source?;
    let Some(answered) = answered else { return Some(source) };
    let version = |object: &Value| -> Option<u64> {
        object["metadata"]["resourceVersion"].as_str()?.parse().ok()
    };
    let same = source["metadata"]["uid"] == answered.object["metadata"]["uid"];
    let newer = same && version(&answered.object) > version(&source);
    Some(if newer { answered.object.clone() } else { source })
}

/// The time as conditions have it.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
