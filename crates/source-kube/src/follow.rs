//! Follows the objects of one kind.

use std::{fmt::Debug, sync::Arc};

use kube::{
    Client, Resource,
    core::{ApiResource, DynamicResourceScope, PartialObjectMeta},
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    backoff::Backoff,
    connect::Chain,
    connection::Connection,
    following::Following,
    gatekeeper::is_fenced,
    kinds::Kind,
    object::{Object, Outline},
    place::Place,
    source::Shared,
    state::{Read, Slot, key, read, read_outline},
};

/// Seconds after which the server ends a watch, to be resumed. A connection that has died in silence
/// is noticed soon after.
pub(crate) const WATCH_SECONDS: u32 = 60;

/// What of objects the API server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Whole,
    /// Their metadata.
    Metadata,
    /// Their metadata, of which only the identity is kept: what they hold is read as it is wanted.
    Outline,
}

/// What one watch follows.
pub(crate) struct Followed {
    pub(crate) slot: Slot,
    pub(crate) place: Place,
    pub(crate) resource: ApiResource,
    /// Only objects with these labels.
    pub(crate) labels: Option<String>,
    /// Only objects with these fields.
    pub(crate) fields: Option<String>,
    pub(crate) content: Asked,
    /// Only raw objects that this is true of are kept.
    pub(crate) is_kept: Option<fn(&Value) -> bool>,
}

impl Followed {
    /// A kind of the snapshot in this version, at this place.
    pub(crate) fn kind(kind: &'static Kind, version: &str, place: Place) -> Self {
        Self {
            slot: Slot::Kind(kind.name),
            place,
            resource: kind.resource(version),
            labels: None,
            fields: kind.fields.map(str::to_owned),
            content: if kind.outlines { Asked::Outline } else { Asked::Whole },
            is_kept: None,
        }
    }
}

/// What to do where the controller may not read a kind.
pub(crate) const ROLE_HINT: &str = "let the ClusterRole or Role of l4way's service account `get`, `list` \
     and `watch` them; nothing new is applied until then";

/// Follows until it is aborted.
pub(crate) async fn follow(client: Client, shared: Arc<Shared>, followed: Followed) {
    let (slot, resource, is_kept) = (followed.slot, followed.resource.clone(), followed.is_kept);
    let read = move |object| {
        let read = read(slot, &resource, object);
        if let Some(is_kept) = is_kept { read.kept_if(is_kept) } else { read }
    };
    match followed.content {
        Asked::Outline => {
            fill::<Outline>(client, shared, followed, |outline| read_outline(&outline)).await;
        }
        Asked::Metadata => {
            fill::<PartialObjectMeta>(client, shared, followed, |object| read(object.into())).await;
        }
        Asked::Whole => {
            fill::<Object>(client, shared, followed, read).await;
        }
    }
}

/// Fills a slot with what is made of objects in the form of `K`, which the API server is asked for.
async fn fill<K>(client: Client, shared: Arc<Shared>, followed: Followed, read: impl Fn(K) -> Read)
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let Followed { slot, place, resource, labels, fields, .. } = followed;
    let fields: Vec<_> = place.field_selector().into_iter().chain(fields).collect();
    let config = watcher::Config {
        label_selector: labels,
        field_selector: (!fields.is_empty()).then(|| fields.join(",")),
        ..watcher::Config::default()
    };
    let api = place.api::<K>(client, &resource);
    let mut events = Following::new(api, config, place.name(&resource.plural), ROLE_HINT);
    let mut list = Vec::new();
    loop {
        match events.next(&shared.connection).await {
            Event::Init => list.clear(),
            Event::InitApply(object) => list.push(read(object)),
            Event::InitDone => {
                let list = std::mem::take(&mut list);
                shared.update(|state| {
                    state.listed(slot, &place);
                    state.replace(slot, &place, list)
                });
            }
            Event::Apply(object) => {
                let metadata = object.meta().clone();
                let read = read(object);
                shared.update(|state| {
                    state.told(slot, &metadata);
                    state.apply(slot, read)
                });
            }
            Event::Delete(object) => {
                shared.update(|state| {
                    state.told(slot, object.meta());
                    state.delete(slot, &key(object.meta()))
                });
            }
        }
    }
}

/// What goes wrong with one watch: each kind of trouble is said once until it is over.
pub(crate) struct Trouble {
    plural: String,
    hint: &'static str,
    backoff: Backoff,
    failures: u32,
    said: bool,
}

/// A server that starts may refuse anything for a moment: only the failures from this one on are
/// believed.
pub(crate) const BELIEVED: u32 = 5;

impl Trouble {
    /// `hint` says what to do if they may not be read.
    pub(crate) fn new(plural: String, hint: &'static str) -> Self {
        Self { plural, hint, backoff: Backoff::following(), failures: 0, said: false }
    }

    pub(crate) fn over(&mut self) {
        self.backoff.reset();
        self.failures = 0;
        self.said = false;
    }

    /// Says what went wrong, and waits before the next try.
    pub(crate) async fn pause(&mut self, connection: &Connection, error: &watcher::Error) {
        self.say(connection, error);
        tokio::time::sleep(self.backoff.delay(Instant::now())).await;
    }

    fn say(&mut self, connection: &Connection, error: &watcher::Error) {
        let kind = &self.plural;
        let (code, text) = match cause(error) {
            Cause::Status(code, message) => (code, message),
            Cause::Connection(text) => return connection.lost(&text),
            Cause::Other(text) => (0, text),
        };
        if code == 410 {
            // The server is well: what follows is a new list, without delay.
            self.backoff.reset();
        }
        self.failures += 1;
        // The watch is too old, or its CRD is about to come or go: the next try finds out.
        if matches!(code, 404 | 410) || self.said || self.failures < BELIEVED {
            debug!(kind, code, error = text, "watch interrupted");
            return;
        }
        self.said = true;
        match code {
            403 => warn!(kind, error = text, "may not be read: {}", self.hint),
            401 => warn!(kind, error = text, "the API server refuses l4way's credentials"),
            _ => warn!(kind, error = text, "can't be followed; trying again"),
        }
    }
}

/// What is wrong with a request.
pub(crate) enum Cause {
    /// The server's own answer.
    Status(u16, String),
    /// No answer.
    Connection(String),
    /// An answer that can't be read, and the like.
    Other(String),
}

impl Cause {
    /// Why a request failed.
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status(status.code, status.message.clone()),
            // The server wasn't even asked.
            error if is_fenced(error) => Self::Other(error.to_string()),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                Self::Connection(Chain(error).to_string())
            }
            error => Self::Other(Chain(error).to_string()),
        }
    }
}

fn cause(error: &watcher::Error) -> Cause {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Cause::of(error),
        watcher::Error::WatchError(status) => Cause::Status(status.code, status.message.clone()),
        watcher::Error::NoResourceVersion => Cause::Other(error.to_string()),
    }
}
