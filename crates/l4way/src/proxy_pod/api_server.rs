use std::{
    fmt::Debug,
    future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Client, Config, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::time;

use super::retry::Retry;

/// How long the API server has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it has to answer anything but a watch.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is asked whether it is back.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The waits between attempts to watch: permissions may come just after the pod, and an API server
/// that is back should be noticed at once.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// After how many seconds a watch begins anew, so that a connection that died in silence is noticed.
const WATCH_SECONDS: u32 = 120;
/// How many objects of a list are in memory at a time.
const PAGE: u32 = 100;

/// The way to the API server, and whether it answers.
#[derive(Clone)]
pub(super) struct ApiServer {
    client: Client,
    /// Somebody is finding out.
    doubted: Arc<AtomicBool>,
}

impl ApiServer {
    /// Prepares to ask the API server that the pod's service account, or the kubeconfig, names.
    ///
    /// # Errors
    /// If neither is there. That it doesn't answer is none.
    pub(super) async fn connect() -> Result<Self, String> {
        let mut config = Config::infer().await.map_err(|error| {
            format!(
                "no API server to follow: {error}; `l4way proxy` runs in a pod with a service \
                 account, or with KUBECONFIG"
            )
        })?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // What is retried here knows better how long to wait.
        config.default_retry = false;
        let client = Client::try_from(config)
            .map_err(|error| format!("the API server can't be asked: {error}"))?;
        Ok(Self { client, doubted: Arc::default() })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
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
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.doubt(&error);
                Err(sentence(&error))
            }
            Err(_) => Err(format!("the API server hasn't answered within {ANSWER_TIMEOUT:?}")),
        }
    }

    /// Finds out, after a request that failed, whether the API server answers at all. If not, says
    /// so, and says when it is back.
    fn doubt(&self, error: &kube::Error) {
        if !answered(error) && !self.doubted.swap(true, Relaxed) {
            tokio::spawn(self.clone().probe());
        }
    }

    async fn probe(self) {
        let mut told = false;
        loop {
            let failure =
                match time::timeout(CONNECT_TIMEOUT, self.client.apiserver_version()).await {
                    Ok(Err(error)) if !answered(&error) => sentence(&error),
                    Err(_) => "it hasn't answered in time".to_owned(),
                    Ok(_) => break,
                };
            if !told {
                told = true;
                tracing::warn!(
                    "the API server can't be reached, and is retried; what is in force goes on: \
                     {failure}"
                );
            }
            time::sleep(PROBE_INTERVAL).await;
        }
        if told {
            tracing::info!("the API server is back");
        }
        self.doubted.store(false, Relaxed);
    }

    /// Follows objects for as long as the process runs. `what` names them in the log.
    pub(super) fn follow<K>(
        &self,
        what: String,
        api: Api<K>,
        config: watcher::Config,
    ) -> Following<K>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let config = config.timeout(WATCH_SECONDS).page_size(PAGE);
        Following {
            server: self.clone(),
            what,
            events: watcher(api, config).boxed(),
            retry: Retry::new(FIRST_RETRY, LONGEST_RETRY),
            told: false,
        }
    }

    /// Why a watch failed, if the API server itself says so.
    fn watch_failed(&self, error: &watcher::Error) -> Option<String> {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => {
                self.doubt(error);
                answered(error).then(|| sentence(error))
            }
            watcher::Error::WatchError(status) => Some(status.message.clone()),
            watcher::Error::NoResourceVersion => Some(error.to_string()),
        }
    }
}

/// Objects that are followed.
pub(super) struct Following<K> {
    server: ApiServer,
    what: String,
    events: BoxStream<'static, watcher::Result<Event<K>>>,
    retry: Retry,
    /// The log says that it fails.
    told: bool,
}

impl<K> Following<K> {
    /// Waits for the next event, however long it takes.
    pub(super) async fn next(&mut self) -> Event<K> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    // The beginning of a list says nothing yet.
                    if !matches!(event, Event::Init) {
                        self.retry.reset();
                        self.told = false;
                    }
                    return event;
                }
                Some(Err(error)) => {
                    let wait = self.retry.after_failure(Instant::now());
                    let reason = self.server.watch_failed(&error);
                    if let Some(reason) = reason.filter(|_| !self.told && self.retry.is_slow()) {
                        let what = &self.what;
                        tracing::warn!("{what} can't be followed, and are retried: {reason}");
                        self.told = true;
                    }
                    time::sleep(wait).await;
                }
                // A watcher doesn't end.
                None => future::pending().await,
            }
        }
    }
}

/// Whether the error is the API server's own answer, and not that of one that is starting or of
/// something before it.
fn answered(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code < 500)
}

/// The error as a person reads it: kube's own text of a status shows all of its fields.
fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(error) = source {
                let cause = error.to_string();
                if !text.ends_with(&cause) {
                    text = format!("{text}: {cause}");
                }
                source = error.source();
            }
            text
        }
    }
}
