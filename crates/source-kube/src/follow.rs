//! Follows the objects of one kind.

use std::sync::Arc;

use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event},
};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    backoff::Backoff,
    connect::Chain,
    connection::Connection,
    following::Following,
    kinds::Kind,
    source::Shared,
    state::{Slot, key, read},
};

/// Seconds after which the server ends a watch, to be resumed. A connection that has died in silence
/// is noticed soon after.
pub(crate) const WATCH_SECONDS: u32 = 60;

/// What one watch follows.
pub(crate) struct Followed {
    pub(crate) slot: Slot,
    pub(crate) resource: ApiResource,
    /// Only objects with these labels.
    pub(crate) labels: Option<String>,
    /// Only objects with these fields.
    pub(crate) fields: Option<String>,
}

impl Followed {
    /// A kind of the snapshot in this version.
    pub(crate) fn kind(kind: &'static Kind, version: &str) -> Self {
        Self {
            slot: Slot::Kind(kind.name),
            resource: kind.resource(version),
            labels: None,
            fields: kind.fields.map(str::to_owned),
        }
    }
}

/// What to do where the controller may not read a kind.
pub(crate) const CLUSTER_ROLE_HINT: &str = "let the ClusterRole of l4way's service account `get`, \
     `list` and `watch` them; nothing new is applied until then";

/// Follows until it is aborted.
pub(crate) async fn follow(client: Client, shared: Arc<Shared>, followed: Followed) {
    let Followed { slot, resource, labels, fields } = followed;
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let config = watcher::Config {
        label_selector: labels,
        field_selector: fields,
        ..watcher::Config::default()
    };
    let mut events = Following::new(api, config, resource.plural.clone(), CLUSTER_ROLE_HINT);
    let mut list = Vec::new();
    loop {
        match events.next(&shared.connection).await {
            Event::Init => list.clear(),
            Event::InitApply(object) => list.push(read(slot, &resource, object)),
            Event::InitDone => {
                let list = std::mem::take(&mut list);
                shared.update(|state| state.replace(slot, list));
            }
            Event::Apply(object) => {
                let read = read(slot, &resource, object);
                shared.update(|state| state.apply(slot, read));
            }
            Event::Delete(object) => {
                shared.update(|state| state.delete(slot, &key(&object)));
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
const BELIEVED: u32 = 5;

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
