//! Names to addresses: those of ExternalName Services and of `fqdn` endpoints, followed for as long
//! as the configuration has them.
//!
//! Each name has a task of its own, which looks it up again when the answer's TTL is over. While
//! it can't be looked up, the last good addresses stay.

mod known;
mod lookup;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use l4way_endpoints::Addresses;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{AbortHandle, JoinHandle},
    time,
};

pub(crate) use self::lookup::Sources;
use self::{known::Known, lookup::Lookups};

/// Follows names, on the runtime that it was started on.
#[derive(Debug)]
pub(crate) struct Resolver {
    lookups: Arc<Lookups>,
    runtime: Handle,
    following: BTreeMap<Arc<str>, Following>,
    addresses: watch::Sender<Addresses>,
}

impl Resolver {
    /// A resolver that follows no names yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn start(sources: Sources) -> Self {
        Self {
            lookups: Arc::new(Lookups::new(sources)),
            runtime: Handle::current(),
            following: BTreeMap::new(),
            addresses: watch::Sender::default(),
        }
    }

    /// Follows these names and no others. Those that were followed before keep their addresses.
    pub(crate) fn set_names(&mut self, names: BTreeSet<Arc<str>>) {
        self.following.retain(|name, _| names.contains(name));
        self.addresses.send_if_modified(|Addresses(known)| {
            let before = known.len();
            known.retain(|name, _| names.contains(name));
            known.len() != before
        });
        for name in names {
            if !self.following.contains_key(&name) {
                // No change that anybody has to hear of: it has no addresses.
                self.addresses.send_if_modified(|Addresses(known)| {
                    known.insert(name.clone(), None);
                    false
                });
                let task = follow(name.clone(), self.lookups.clone(), self.addresses.clone());
                self.following.insert(name, self.runtime.spawn(task).into());
            }
        }
    }

    /// The addresses, and a notice whenever they change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Addresses> {
        self.addresses.subscribe()
    }
}

/// A name's task; it ends when this is dropped.
#[derive(Debug)]
struct Following(AbortHandle);

impl From<JoinHandle<()>> for Following {
    fn from(task: JoinHandle<()>) -> Self {
        Self(task.abort_handle())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks `name` up again and again, and tells of each change.
async fn follow(name: Arc<str>, lookups: Arc<Lookups>, addresses: watch::Sender<Addresses>) {
    let mut known = Known::new(name.clone());
    loop {
        let answer = lookups.resolve(&name, known.addresses()).await;
        let wait = known.learn(answer, Instant::now());
        addresses.send_if_modified(|Addresses(table)| match table.get_mut(&name) {
            Some(entry) if entry.as_ref() != known.addresses() => {
                *entry = known.addresses().cloned();
                true
            }
            _ => false,
        });
        time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests;
