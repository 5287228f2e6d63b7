use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams, core::Status};
use l4way_resources::api::ObjectRef;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tracing::{debug, warn};

use crate::{backoff::Backoff, connect::Chain, gatekeeper::is_fenced, source::Source};

/// The same isn't said again within this time.
const QUIET: Duration = Duration::from_secs(600);
/// How many Events may wait to be written, and how many are remembered.
const WAITING: usize = 256;
const REMEMBERED: usize = 4096;
const ATTEMPTS: u32 = 4;
/// Limits of the API.
const MAX_NOTE: usize = 1024;
const MAX_NAME: usize = 200;
/// What was being done, which the API wants to know.
const ACTION: &str = "Reconcile";

/// Whether an Event is news or a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// News.
    Normal,
    /// Somebody should do something.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Writes Events on objects, the same one at most every 10 minutes. Never blocks: what there is no
/// room for is dropped.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    said: Arc<Mutex<Said>>,
    queue: mpsc::Sender<Note>,
    /// Ends the task with the last clone.
    _task: Arc<JoinSet<()>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Note {
    object: ObjectRef,
    kind: EventType,
    reason: String,
    message: String,
}

impl Note {
    fn new(object: &ObjectRef, kind: EventType, reason: &str, message: &str) -> Self {
        let (object, reason, message) = (object.clone(), reason.to_owned(), message.to_owned());
        Self { object, kind, reason, message }
    }
}

/// What was said, and when.
#[derive(Debug, Default)]
struct Said(HashMap<Note, Instant>);

impl Said {
    /// Whether this is news now.
    fn is_news(&mut self, note: &Note, now: Instant) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < QUIET;
        if self.0.get(note).is_some_and(recent) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, at| recent(at));
        }
        if self.0.len() < REMEMBERED {
            self.0.insert(note.clone(), now);
        }
        true
    }
}

impl EventRecorder {
    /// Reports as this controller and this instance of it (its Pod), in a task on the current tokio
    /// runtime.
    pub fn start(client: Client, source: Source, controller_name: &str, instance: &str) -> Self {
        let (queue, notes) = mpsc::channel(WAITING);
        let mut task = JoinSet::new();
        let reporter =
            Reporter { controller: controller_name.to_owned(), instance: instance.to_owned() };
        task.spawn(run(client, source, reporter, notes));
        Self { said: Arc::default(), queue, _task: Arc::new(task) }
    }

    /// Writes an Event on an object soon, unless the same was said within 10 minutes.
    pub fn event(&self, object: &ObjectRef, kind: EventType, reason: &str, message: &str) {
        let note = Note::new(object, kind, reason, message);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_news(&note, Instant::now()) {
            self.write(note);
        }
    }

    /// Writes an Event on an object soon, also if the same was said just now: of what goes and comes back.
    /// The caller sees to it that there aren't too many.
    pub fn event_again(&self, object: &ObjectRef, kind: EventType, reason: &str, message: &str) {
        self.write(Note::new(object, kind, reason, message));
    }

    fn write(&self, note: Note) {
        if let Err(error) = self.queue.try_send(note) {
            debug!(%error, "an Event is dropped");
        }
    }
}

struct Reporter {
    controller: String,
    instance: String,
}

async fn run(client: Client, source: Source, reporter: Reporter, mut notes: mpsc::Receiver<Note>) {
    let mut refused = false;
    while let Some(note) = notes.recv().await {
        let Some((api_version, uid)) = source.identity(&note.object) else { continue };
        let event = reporter.event(&note, api_version, uid.as_deref());
        match post(&client, &event).await {
            Ok(()) => refused = false,
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    warn!(
                        object = %note.object,
                        error,
                        "an Event can't be written: let the ClusterRole of l4way's service account \
                         `create` events in events.k8s.io"
                    );
                }
            }
        }
    }
}

/// Whether the API server refuses to make something as its namespace is about to end.
pub fn is_namespace_ending(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

async fn post(client: &Client, event: &Event) -> Result<(), String> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut backoff = Backoff::following();
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match api.create(&PostParams::default(), event).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
            // It is for whoever leads now to tell.
            Err(error) if is_fenced(&error) => return Ok(()),
            // Nobody will look there any more.
            Err(kube::Error::Api(status)) if is_namespace_ending(&status) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code < 429 => return Err(status.message),
            Err(error) => last = Chain(&error).to_string(),
        }
        tokio::time::sleep(backoff.delay(Instant::now())).await;
    }
    Err(last)
}

impl Reporter {
    fn event(&self, note: &Note, api_version: String, uid: Option<&str>) -> Event {
        let key = &note.object.key;
        let now = Timestamp::now();
        // Events on cluster-scoped objects are in `default`, as kubectl expects.
        let namespace = if key.namespace.is_empty() { "default" } else { &key.namespace };
        let name = format!("{}.{:x}", shortened(&key.name, MAX_NAME, ""), now.as_nanosecond());
        Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            action: Some(ACTION.to_owned()),
            reason: Some(note.reason.clone()),
            note: Some(shortened(&note.message, MAX_NOTE, "…")),
            type_: Some(note.kind.as_str().to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(api_version),
                kind: Some(note.object.kind.to_string()),
                namespace: Some(key.namespace.to_string())
                    .filter(|namespace| !namespace.is_empty()),
                name: Some(key.name.to_string()),
                uid: uid.map(str::to_owned),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// At most this many bytes.
fn shortened(text: &str, limit: usize, mark: &str) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}

#[cfg(test)]
mod tests {
    use l4way_resources::api::ObjectKey;

    use super::*;

    fn note(message: &str) -> Note {
        Note {
            object: ObjectRef::new("Gateway", ObjectKey::new("apps", "edge")),
            kind: EventType::Warning,
            reason: "AddressPending".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_same_is_said_again_after_ten_minutes() {
        let mut said = Said::default();
        let now = Instant::now();
        assert!(said.is_news(&note("no address"), now));
        assert!(!said.is_news(&note("no address"), now + QUIET / 2));
        assert!(said.is_news(&note("another"), now + QUIET / 2));
        assert!(said.is_news(&note("no address"), now + QUIET));
    }

    #[test]
    fn memory_is_bounded() {
        let mut said = Said::default();
        let now = Instant::now();
        for number in 0..REMEMBERED + 10 {
            assert!(said.is_news(&note(&number.to_string()), now));
        }
        assert_eq!(said.0.len(), REMEMBERED);
        assert!(said.is_news(&note("later"), now + QUIET));
        assert_eq!(said.0.len(), 1);
    }

    #[test]
    fn an_event_fits_the_api() {
        let reporter =
            Reporter { controller: "l4way.dev/gateway-controller".into(), instance: "pod".into() };
        let event = reporter.event(&note(&"ü".repeat(2000)), "v1".into(), Some("1"));
        let text = event.note.unwrap();
        assert!(text.len() <= MAX_NOTE && text.ends_with("ü…"), "{text}");
        assert_eq!(event.metadata.namespace.as_deref(), Some("apps"));
        let mut class = note("");
        class.object = ObjectRef::new("GatewayClass", ObjectKey::new("", "l4way"));
        let event = reporter.event(&class, "v1".into(), None);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.regarding.unwrap().namespace, None);
    }
}
