use std::sync::Arc;

use kube::{Api, Client, Resource, runtime::watcher};
use l4way_source_kube::{Clients, Connection, Following, connect};
use serde::de::DeserializeOwned;

/// What to do where something may not be read.
const HINT: &str = "the controller permits it by a RoleBinding for this pod's service account, as \
     soon as it runs; what is in force stays until then";

/// The way to the API server.
#[derive(Clone)]
pub(super) struct ApiServer {
    clients: Clients,
    connection: Arc<Connection>,
}

/// Objects that are followed.
pub(super) struct Events<K> {
    following: Following<K>,
    connection: Arc<Connection>,
}

impl<K> Events<K> {
    /// Waits for the next event, however long it takes.
    pub(super) async fn next(&mut self) -> watcher::Event<K> {
        self.following.next(&self.connection).await
    }
}

impl ApiServer {
    /// Prepares to ask the API server that the pod's service account, or the kubeconfig, names.
    ///
    /// # Errors
    /// If neither is there. That it doesn't answer is none.
    pub(super) async fn new() -> Result<Self, String> {
        let clients = connect(None).await.map_err(|error| error.to_string())?;
        let connection = Arc::new(Connection::default());
        let (probing, probe) = (connection.clone(), clients.ordinary.clone());
        tokio::spawn(async move { probing.watch_over(probe).await });
        Ok(Self { clients, connection })
    }

    /// One that isn't there.
    #[cfg(test)]
    pub(super) fn absent() -> Self {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        Self { clients: Clients::new(config).unwrap(), connection: Arc::default() }
    }

    /// For everything but the pod's Lease.
    pub(super) fn client(&self) -> Client {
        self.clients.ordinary.clone()
    }

    /// For the pod's Lease.
    pub(super) fn lease_client(&self) -> Client {
        self.clients.lease.clone()
    }

    /// Follows objects for as long as the process runs. The log calls them by this plural.
    pub(super) fn follow<K>(
        &self,
        plural: String,
        api: Api<K>,
        config: watcher::Config,
    ) -> Events<K>
    where
        K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let following = Following::new(api, config, plural, HINT);
        Events { following, connection: self.connection.clone() }
    }

    /// Whether nobody answers, which the log says.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.is_lost()
    }

    /// A request failed: says so in the log if nobody answers. Returns why, for a person.
    pub(super) fn failed(&self, error: &kube::Error) -> String {
        self.connection.failed(error)
    }
}
