//! The admin endpoint: what this process serves, how it is, and its metrics, over HTTP on a
//! loopback address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::report::{Phase, StatusReport};

/// Where the admin endpoint is unless the command line says otherwise.
pub(crate) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9902);

/// What the endpoint answers from.
#[derive(Clone)]
pub(crate) struct Admin {
    /// The latest report.
    pub(crate) report: watch::Receiver<Arc<StatusReport>>,
    /// Renders the metrics in Prometheus' text format.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Admin {
    /// Serves on `listener` until the process ends.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let app = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .with_state(self);
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the admin endpoint has ended");
        }
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

async fn status(State(admin): State<Admin>) -> Json<Arc<StatusReport>> {
    Json(admin.report.borrow().clone())
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let text = (admin.metrics)();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
