//! The admin endpoint: what this process serves, how it is, and its metrics, over HTTP.

mod connections;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
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
use tokio::{net::TcpListener, runtime, sync::watch, task::spawn_blocking, time};

use crate::{
    endpoint_report::EndpointReport,
    report::{Phase, StatusReport},
};

/// Where the admin endpoint is unless the command line says otherwise.
pub(crate) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9902);

/// Where the admin endpoint of a proxy pod is: the kubelet and Prometheus ask it there.
pub(crate) const POD_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 19_902);

/// The query that asks for all endpoints.
pub(crate) const ALL_ENDPOINTS: &str = "endpoints=all";

/// How often the address is tried again while it can't be had.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What tells how endpoints are.
pub(crate) type Endpoints = Arc<dyn Fn(bool) -> EndpointReport + Send + Sync>;

/// What the endpoint answers from.
#[derive(Clone)]
pub(crate) struct Admin {
    /// The latest report.
    pub(crate) report: watch::Receiver<Arc<StatusReport>>,
    /// Tells how endpoints are: all of them, or as many as a person reads. It may take a second.
    pub(crate) endpoints: Option<Endpoints>,
    /// Renders the metrics in Prometheus' text format.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Admin {
    /// Starts a thread that serves on `address`, as soon as it can be had: it answers while the
    /// control side is busy, too.
    pub(crate) fn start(self, address: SocketAddr) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || {
            runtime.block_on(async {
                let listener = bind(address).await;
                connections::serve(listener, self.app()).await;
            });
        };
        thread::Builder::new().name("admin".to_owned()).spawn(serve).map(drop)
    }

    fn app(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .with_state(self)
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
                    "the admin endpoint can't be bound, and is retried: `l4way status` and the \
                     metrics need it; --admin-address chooses another"
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
