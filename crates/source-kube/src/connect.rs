use std::{fmt, time::Duration};

use kube::{
    Client, Config,
    config::{InferConfigError, KubeConfigOptions, KubeconfigError},
};

use crate::{fence::Fence, gatekeeper::Gatekeeper};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client, and what to do.
#[derive(Debug)]
pub enum ConnectError {
    /// There is neither a kubeconfig nor a Pod's service account.
    NoConfig(Box<InferConfigError>),
    /// The kubeconfig can't be used, or has no such context.
    Context(String, Box<KubeconfigError>),
    /// The configuration can't be used.
    Client(Box<kube::Error>),
    /// The API server doesn't answer, or not as it should.
    Server(String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConfig(error) => write!(
                f,
                "found no cluster: {}\n\
                 set KUBECONFIG to a kubeconfig, or run in a Pod with its service account mounted",
                Chain(&**error)
            ),
            Self::Context(context, error) => write!(
                f,
                "can't use context `{context}` of the kubeconfig: {}\n\
                 `kubectl config get-contexts` lists those that there are; KUBECONFIG names the file",
                Chain(&**error)
            ),
            Self::Client(error) => write!(
                f,
                "can't use the cluster's configuration: {}\n\
                 check the server's address and the credentials in the kubeconfig",
                Chain(&**error)
            ),
            Self::Server(error) => write!(
                f,
                "the API server can't be reached: {error}\n\
                 `kubectl version` with the same kubeconfig tells whether the cluster answers"
            ),
        }
    }
}

impl std::error::Error for ConnectError {}

/// An error with its causes.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut error = self.0;
        while let Some(cause) = error.source() {
            // Many errors have their cause in their text already.
            let text = cause.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            error = cause;
        }
        Ok(())
    }
}

/// The ways to one API server. They have one budget: while the server is in need (429, 503 with
/// Retry-After, 5xx for a while), requests wait until it is well, but for those about Leases.
#[derive(Clone)]
pub struct Clients {
    /// For everything but this process' own Lease. What changes something fails while another leads
    /// ([`Leader`](crate::Leader)). An answer that isn't a list or a watch comes within 10 s, not counting
    /// the time for which the request waits, or not at all.
    pub ordinary: Client,
    /// For the Lease by which this process leads, or says that it lives.
    pub lease: Client,
    pub(crate) fence: Fence,
}

impl Clients {
    /// To the API server of this configuration.
    ///
    /// # Errors
    /// If it can't be used, such as for what its certificates are.
    pub fn new(mut config: Config) -> kube::Result<Self> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Who asks tries again by itself, and the gatekeeper repeats what the server wants repeated.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let sender = Client::try_from(config)?;
        let fence = Fence::default();
        let [ordinary, lease] =
            Gatekeeper::ways(sender, fence.clone()).map(|way| Client::new(way, namespace.clone()));
        Ok(Self { ordinary, lease, fence })
    }
}

/// Clients for the cluster that `KUBECONFIG` or `~/.kube/config` names, or that this Pod runs in; with a
/// context, for that of the kubeconfig. They connect when they are used: [`server_version`] tells whether
/// somebody answers.
///
/// # Errors
/// If there is no usable configuration.
pub async fn connect(context: Option<&str>) -> Result<Clients, ConnectError> {
    let config = match context {
        None => Config::infer().await.map_err(|error| ConnectError::NoConfig(Box::new(error)))?,
        Some(context) => {
            let options =
                KubeConfigOptions { context: Some(context.to_owned()), ..Default::default() };
            Config::from_kubeconfig(&options)
                .await
                .map_err(|error| ConnectError::Context(context.to_owned(), Box::new(error)))?
        }
    };
    Clients::new(config).map_err(|error| ConnectError::Client(Box::new(error)))
}

/// The version of the API server, such as `v1.35.4`.
///
/// # Errors
/// If it doesn't answer within 5 s, or refuses to.
pub async fn server_version(client: &Client) -> Result<String, ConnectError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, client.apiserver_version()).await {
        Ok(Ok(version)) => Ok(version.git_version),
        Ok(Err(error)) => Err(ConnectError::Server(Chain(&error).to_string())),
        Err(_) => {
            Err(ConnectError::Server(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())))
        }
    }
}
