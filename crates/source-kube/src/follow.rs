//! Follows the objects of one kind.

use std::{pin::pin, sync::Arc};

use futures::StreamExt;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    backoff::Backoff,
    connection::{Cause, Connection},
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
    /// Only objects of this namespace.
    pub(crate) namespace: Option<String>,
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
            namespace: None,
            labels: None,
            fields: kind.fields.map(str::to_owned),
        }
    }
}

/// Follows until it is aborted.
pub(crate) async fn follow(client: Client, shared: Arc<Shared>, followed: Followed) {
    let Followed { slot, resource, namespace, labels, fields } = followed;
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, &namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let config = watcher::Config {
        label_selector: labels,
        field_selector: fields,
        timeout: Some(WATCH_SECONDS),
        ..watcher::Config::default()
    };
    let mut events = pin!(watcher(api, config));
    let mut trouble = Trouble::new(resource.plural.clone());
    let mut list = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => list.clear(),
            Ok(Event::InitApply(object)) => list.push(read(slot, &resource, object)),
            Ok(Event::InitDone) => {
                trouble.over();
                let list = std::mem::take(&mut list);
                shared.update(|state| state.replace(slot, list));
            }
            Ok(Event::Apply(object)) => {
                trouble.over();
                let read = read(slot, &resource, object);
                shared.update(|state| state.apply(slot, read));
            }
            Ok(Event::Delete(object)) => {
                trouble.over();
                shared.update(|state| state.delete(slot, &key(&object)));
            }
            Err(error) => trouble.pause(&shared.connection, &error).await,
        }
    }
}

/// What goes wrong with one watch: each kind of trouble is said once until it is over.
pub(crate) struct Trouble {
    plural: String,
    backoff: Backoff,
    failures: u32,
    said: bool,
}

/// A server that starts may refuse anything for a moment: only the failures from this one on are
/// believed.
const BELIEVED: u32 = 5;

impl Trouble {
    pub(crate) fn new(plural: String) -> Self {
        Self { plural, backoff: Backoff::following(), failures: 0, said: false }
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
            403 => warn!(
                kind,
                error = text,
                "may not be read: let the ClusterRole of l4way's service account `get`, `list` \
                 and `watch` them; nothing new is applied until then"
            ),
            401 => warn!(kind, error = text, "the API server refuses l4way's credentials"),
            _ => warn!(kind, error = text, "can't be followed; trying again"),
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
