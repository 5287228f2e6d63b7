use std::{sync::Arc, time::Duration};

use kube::{Api, Client, Resource, runtime::watcher};
use l4way_source_kube::{Connection, Following, connect};
use serde::de::DeserializeOwned;
use tokio::time;

/// How long the API server has to answer anything but a watch.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How many objects of a list are in memory at a time.
const PAGE: u32 = 100;

/// What to do where something may not be read.
const HINT: &str = "the controller permits it by a RoleBinding for this pod's service account, as \
     soon as it runs; what is in force stays until then";

/// The way to the API server.
#[derive(Clone)]
pub(super) struct ApiServer {
    client: Client,
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
        let client = connect(None).await.map_err(|error| error.to_string())?;
        let connection = Arc::new(Connection::default());
        let (probing, probe) = (connection.clone(), client.clone());
        tokio::spawn(async move { probing.watch_over(probe).await });
        Ok(Self { client, connection })
    }

    /// One that isn't there.
    #[cfg(test)]
    pub(super) fn absent() -> Self {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        Self { client: Client::try_from(config).unwrap(), connection: Arc::default() }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
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
        let following = Following::new(api, config.page_size(PAGE), plural, HINT);
        Events { following, connection: self.connection.clone() }
    }

    /// Whether nobody answers, which the log says.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.is_lost()
    }

    /// Waits for an answer, but not for ever.
    ///
    /// # Errors
    /// A sentence that says what failed.
    pub(super) async fn answer<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, String> {
        match time::timeout(ANSWER_TIMEOUT, request).await {
            Ok(answer) => answer.map_err(|error| self.connection.failed(&error)),
            Err(_) => Err(format!("the API server hasn't answered within {ANSWER_TIMEOUT:?}")),
        }
    }
}
