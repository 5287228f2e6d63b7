//! Demo backends: l4way itself answers in place of Deployments whose containers listen as an echo,
//! so that a tutorial's manifests work on a machine without a cluster.
//!
//! Each replica gets a loopback address of its own, which it keeps for as long as it exists, and
//! EndpointSlices as a cluster would write them lead the Services' selectors there. The echo
//! servers have a thread of their own.

mod container;
mod pod;
mod server;
mod slices;

use std::{collections::BTreeMap, fmt, io, thread};

use l4way_resources::{
    Snapshot,
    api::{Deployment, ObjectKey},
};
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};

use self::{container::Echo, pod::Pod};

/// The most replicas that one Deployment is answered for.
const MAX_REPLICAS: u32 = 256;

/// The running echo servers, and what it takes to fit them to the next snapshot.
#[derive(Debug)]
pub(crate) struct Demo {
    pods: BTreeMap<(ObjectKey, u32), Pod>,
    servers: Handle,
    _until_dropped: oneshot::Sender<()>,
}

/// What a person should know about a Deployment, because it isn't answered as it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Note {
    /// The Deployment.
    pub(crate) deployment: ObjectKey,
    /// What is different, and why.
    pub(crate) message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deployment {}: {}", self.deployment, self.message)
    }
}

impl Demo {
    /// Starts the thread for the echo servers. It ends, and they with it, when this is dropped.
    ///
    /// # Errors
    /// If there is no descriptor left for its event loop, or no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let servers = runtime.handle().clone();
        let (until_dropped, dropped) = oneshot::channel();
        thread::Builder::new().name("demo-backends".into()).spawn(move || {
            // Nothing is ever sent: it ends when the sender is gone.
            let _ = runtime.block_on(dropped);
        })?;
        Ok(Self { pods: BTreeMap::new(), servers, _until_dropped: until_dropped })
    }

    /// Fits the echo servers to the snapshot's Deployments, and adds the EndpointSlices by which
    /// its Services find them, but for Services that have some already.
    ///
    /// A replica that was there before keeps its address and its connections. Returns, each time,
    /// what is to be said about the Deployments that can't be answered, in order.
    pub(crate) fn apply(&mut self, snapshot: &mut Snapshot) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut wanted = BTreeMap::new();
        for (key, deployment) in &snapshot.deployments {
            let echoes = echoes(key, deployment, &mut notes);
            if !echoes.is_empty() {
                let replicas = replicas(key, deployment, &mut notes);
                wanted
                    .extend((0..replicas).map(|replica| ((key.clone(), replica), echoes.clone())));
            }
        }
        self.pods.retain(|id, _| wanted.contains_key(id));
        let mut failed = BTreeMap::new();
        for (id, echoes) in wanted {
            // What fails for one replica fails for the next, after as many attempts.
            if self.pods.contains_key(&id) || !failed.contains_key(&id.0) {
                let deployment = id.0.clone();
                if let Err(message) = self.run(id, &echoes) {
                    failed.insert(deployment, message);
                }
            }
        }
        notes.extend(failed.into_iter().map(|(deployment, message)| Note { deployment, message }));
        slices::add(snapshot, &self.pods);
        notes.sort();
        notes
    }

    /// Has the replica answer as `echoes` say: the one that runs if it can, else a new one.
    fn run(&mut self, id: (ObjectKey, u32), echoes: &[Echo]) -> Result<(), String> {
        let running = self.pods.remove(&id);
        let fitted =
            running.and_then(|mut pod| pod.update(echoes, &self.servers).ok().map(|()| pod));
        let pod = match fitted {
            Some(pod) => pod,
            None => {
                let taken = self.pods.values().map(Pod::address).collect();
                Pod::start(echoes, &taken, &self.servers)?
            }
        };
        self.pods.insert(id, pod);
        Ok(())
    }
}

/// The ports that one replica of the Deployment answers on.
fn echoes(key: &ObjectKey, deployment: &Deployment, notes: &mut Vec<Note>) -> Vec<Echo> {
    let mut echoes: Vec<Echo> = Vec::new();
    let mut note = |message| notes.push(Note { deployment: key.clone(), message });
    for container in &deployment.spec.template.spec.containers {
        let echo = match Echo::of(container) {
            Ok(echo) => echo,
            Err(error) => {
                note(format!("container {} has no demo backend: {error}", container.name));
                continue;
            }
        };
        if echoes.iter().any(|other| other.socket() == echo.socket()) {
            note(format!(
                "container {} has no demo backend: another container of the pod listens on {} port \
                 {} already",
                container.name, echo.transport, echo.port
            ));
        } else {
            echoes.push(echo);
        }
    }
    echoes
}

/// How many replicas are answered.
fn replicas(key: &ObjectKey, deployment: &Deployment, notes: &mut Vec<Note>) -> u32 {
    let replicas = deployment.spec.replicas.unwrap_or(1);
    if replicas > MAX_REPLICAS {
        notes.push(Note {
            deployment: key.clone(),
            message: format!("only {MAX_REPLICAS} of its {replicas} replicas have demo backends"),
        });
    }
    replicas.min(MAX_REPLICAS)
}

#[cfg(test)]
mod tests;
