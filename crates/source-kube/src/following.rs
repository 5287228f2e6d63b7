use std::fmt::Debug;

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;

use crate::{
    connection::Connection,
    follow::{Trouble, WATCH_SECONDS},
};

/// How many objects of a list are read at a time: each may have more than 1 MiB.
pub(crate) const PAGE: u32 = 50;

/// Objects of one kind that are followed, whatever happens to the API server meanwhile.
pub struct Following<K> {
    events: BoxStream<'static, watcher::Result<Event<K>>>,
    trouble: Trouble,
}

impl<K> Following<K> {
    /// Follows what `config` selects. The log calls the objects by their plural, and gives the hint
    /// where they may not be read.
    pub fn new(api: Api<K>, config: watcher::Config, plural: String, hint: &'static str) -> Self
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let config = config.timeout(WATCH_SECONDS).page_size(PAGE);
        Self { events: watcher(api, config).boxed(), trouble: Trouble::new(plural, hint) }
    }

    /// Waits for the next event, however long it takes: failures are retried, and said once.
    pub async fn next(&mut self, connection: &Connection) -> Event<K> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    // The beginning of a list says nothing yet.
                    if !matches!(event, Event::Init | Event::InitApply(_)) {
                        self.trouble.over();
                    }
                    return event;
                }
                Some(Err(error)) => self.trouble.pause(connection, &error).await,
                // A watch that has ended begins anew by itself.
                None => std::future::pending().await,
            }
        }
    }
}
