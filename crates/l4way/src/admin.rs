//! What this process says of itself, over HTTP. The admin endpoint, on TCP, tells how it is, and its
//! metrics, to whoever reaches it: probes and Prometheus. The admin socket, for this user only, tells
//! what it serves, too: the names of others' objects.

mod connections;
mod socket;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri, header},
    response::IntoResponse,
    routing::get,
};
use l4way_host::Heart;
use l4way_observe::{EndpointReport, Phase, StatusReport};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime,
    sync::watch,
    task::spawn_blocking,
    time,
};

use self::socket::Maker;
pub(crate) use self::socket::{File, check_path, default_path};

use crate::heartbeat::{Hanging, Heartbeats};

/// Where the admin endpoint is unless the command line says otherwise.
pub(crate) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9902);

/// Where the admin endpoint of a proxy pod is: the kubelet and Prometheus ask it there.
pub(crate) const POD_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 19_902);

/// The query that asks for all endpoints.
pub(crate) const ALL_ENDPOINTS: &str = "endpoints=all";

/// How often the address, or the socket's path, is tried again while it can't be had.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What is said to those who look for `/status` where it was.
const STATUS_HAS_MOVED: &str = "/status is served on a Unix socket only: `l4way status` asks there, in a \
                                pod `kubectl exec POD -- /l4way status`\n";

/// Where to serve.
#[derive(Clone, Debug)]
pub(crate) struct AdminPlaces {
    /// The endpoint.
    pub(crate) address: SocketAddr,
    /// The socket; at its [default path](default_path) if not given.
    pub(crate) socket: Option<PathBuf>,
}

/// What tells how endpoints are.
pub(crate) type Endpoints = Arc<dyn Fn(bool) -> EndpointReport + Send + Sync>;

/// What is answered from.
#[derive(Clone)]
pub(crate) struct Admin {
    /// The latest report.
    pub(crate) report: watch::Receiver<Arc<StatusReport>>,
    /// Tells how endpoints are: all of them, or as many as a person reads. It may take a second.
    pub(crate) endpoints: Option<Endpoints>,
    /// Renders the metrics in Prometheus' text format.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The threads that carry sessions and hang.
    hanging: watch::Receiver<Hanging>,
}

impl Admin {
    /// Answers from these.
    pub(crate) fn new(
        report: watch::Receiver<Arc<StatusReport>>,
        metrics: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        let hanging = watch::Sender::default().subscribe();
        Self { report, endpoints: None, metrics: Arc::new(metrics), hanging }
    }

    /// Tells how endpoints are, too.
    pub(crate) fn with_endpoints(
        self,
        endpoints: impl Fn(bool) -> EndpointReport + Send + Sync + 'static,
    ) -> Self {
        Self { endpoints: Some(Arc::new(endpoints)), ..self }
    }

    /// Starts a thread that serves at `places`, each as soon as it can be had: it answers while the
    /// control side is busy, too. It watches the threads of `hearts`. The socket's file is there until
    /// what is returned is dropped.
    pub(crate) fn start(
        mut self,
        places: AdminPlaces,
        hearts: impl Fn() -> Vec<Heart> + Send + 'static,
    ) -> io::Result<File> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let hanging = watch::Sender::default();
        self.hanging = hanging.subscribe();
        runtime.spawn(Heartbeats::of(hearts).watch(hanging));
        let file = File::default();
        let maker = file.maker();
        let serve = move || {
            runtime.block_on(async {
                let serve_socket = |path| {
                    let app = self.socket();
                    tokio::spawn(async move {
                        connections::serve(listen(&maker, path).await, app).await;
                    });
                };
                let AdminPlaces { address, socket } = places;
                // Without a path of its own, the socket is called after the address.
                if let Some(path) = socket.or((address.port() != 0).then(|| default_path(address)))
                {
                    serve_socket(path);
                    connections::serve(bind(address).await, self.endpoint()).await;
                } else {
                    let listener = bind(address).await;
                    serve_socket(default_path(listener.local_addr().unwrap_or(address)));
                    connections::serve(listener, self.endpoint()).await;
                }
            });
        };
        thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
        Ok(file)
    }

    /// What everybody may know who reaches the endpoint.
    fn public(&self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self.clone())
    }

    fn endpoint(&self) -> Router {
        self.public().route("/status", get(|| async { (StatusCode::NOT_FOUND, STATUS_HAS_MOVED) }))
    }

    fn socket(&self) -> Router {
        self.public().route("/status", get(status).with_state(self.clone()))
    }
}

/// Listens on the address, as soon as it can be had.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !told => {
                tracing::error!(
                    %address, %error,
                    "the admin endpoint can't be bound, and is retried: probes and the metrics need \
                     it; --admin-address chooses another"
                );
                told = true;
            }
            Err(_) => {}
        }
        time::sleep(RETRY_INTERVAL).await;
    };
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "admin endpoint"),
        Err(error) => tracing::warn!(%error, "admin endpoint at an unknown address"),
    }
    listener
}

/// Listens at the path, as soon as it can be had.
async fn listen(maker: &Maker, path: PathBuf) -> UnixListener {
    let mut told = false;
    loop {
        let made = maker.listen(&path);
        let path = path.display();
        match made.and_then(|socket| UnixListener::from_std(socket.into())) {
            Ok(listener) => {
                tracing::info!(%path, "admin socket");
                return listener;
            }
            Err(error) if !told => {
                tracing::warn!(
                    %path, %error,
                    "the admin socket can't be made, and is retried: `l4way status` needs it; \
                     --admin-socket chooses another path"
                );
                told = true;
            }
            Err(_) => {}
        }
        time::sleep(RETRY_INTERVAL).await;
    }
}

/// 200 as long as this process is worth keeping, 503 while a thread that carries sessions hangs.
async fn healthz(State(admin): State<Admin>) -> (StatusCode, String) {
    match &admin.hanging.borrow()[..] {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        hanging => (StatusCode::SERVICE_UNAVAILABLE, format!("hanging: {}\n", hanging.join(", "))),
    }
}

/// 200 once the configuration is in force and new sessions are taken, 503 before and while
/// draining.
async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    let report = admin.report.borrow();
    match report.phase {
        Phase::Serving => (StatusCode::OK, "ok\n".to_owned()),
        phase => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", phase.as_str())),
    }
}

/// The report, with how endpoints are now: with the query `endpoints=all`, all of them.
async fn status(State(admin): State<Admin>, uri: Uri) -> Json<StatusReport> {
    let mut report = StatusReport::clone(&admin.report.borrow());
    if let Some(endpoints) = admin.endpoints {
        let all = uri.query() == Some(ALL_ENDPOINTS);
        // Workers are asked: others don't wait for them.
        report.endpoints = spawn_blocking(move || endpoints(all)).await.ok();
    }
    Json(report)
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let text = (admin.metrics)();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
