//! One request and its answer.

use std::{sync::Arc, time::Instant};

use hyper::{Request, Response, body::Incoming};
use l4way_proxy_core::EndpointOf;
use l4way_tls::Originator;

use crate::{
    control::Shared,
    counters::ErrorReason,
    endpoints::UpstreamLease,
    pool::{self, Connection},
    table::{Picked, View},
};

/// Sends a request to one of the backend's endpoints. Another one is tried as long as nothing of
/// the request has been sent.
pub(crate) async fn exchange(
    shared: &Shared,
    view: &View,
    picked: &Picked,
    mut request: Request<Incoming>,
) -> Result<(Response<Incoming>, UpstreamLease), ErrorReason> {
    let mut tried = Vec::new();
    let health = shared.settings.endpoints.view();
    let mut failure = ErrorReason::NoEndpoint;
    for _ in 0..shared.settings.connect_attempts.get() {
        let Some(lease) =
            view.endpoints.choose(&picked.backend, &mut shared.rng(), &health, &mut tried)
        else {
            break;
        };
        let endpoint = EndpointOf { backend: &picked.backend, address: &lease.upstream().address };
        let originator = picked.originator.as_ref();
        request = match send_by_idle(&lease, originator, request).await? {
            Sent::Answered(response) => return Ok((response, lease)),
            Sent::Not(request) => request,
        };
        let keepalive = shared.settings.keepalive;
        let within = view.terms.connect_timeout;
        let connected = pool::connect(endpoint.address, originator, keepalive, within).await;
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                failure = error.reason();
                health.failed(endpoint, error.failure(), Instant::now());
                continue;
            }
        };
        health.connected(endpoint);
        if originator.is_some() {
            health.agreed(endpoint);
        }
        request = match send(&lease, originator, connection, request).await? {
            Sent::Answered(response) => {
                health.answered(endpoint);
                return Ok((response, lease));
            }
            Sent::Not(request) => request,
        };
        failure = ErrorReason::UpstreamFailed;
    }
    Err(failure)
}

/// What became of a request.
enum Sent {
    /// It was answered.
    Answered(Response<Incoming>),
    /// Nothing of it has been sent.
    Not(Request<Incoming>),
}

/// Sends the request by a connection that there is already.
async fn send_by_idle(
    lease: &UpstreamLease,
    originator: Option<&Arc<Originator>>,
    mut request: Request<Incoming>,
) -> Result<Sent, ErrorReason> {
    while let Some(connection) = lease.upstream().pool.take(originator) {
        match send(lease, originator, connection, request).await? {
            Sent::Not(unsent) => request = unsent,
            answered @ Sent::Answered(_) => return Ok(answered),
        }
    }
    Ok(Sent::Not(request))
}

async fn send(
    lease: &UpstreamLease,
    originator: Option<&Arc<Originator>>,
    mut connection: Connection,
    request: Request<Incoming>,
) -> Result<Sent, ErrorReason> {
    match connection.try_send_request(request).await {
        Ok(response) => {
            keep(lease, originator.cloned(), connection);
            Ok(Sent::Answered(response))
        }
        Err(mut error) => error.take_message().map(Sent::Not).ok_or(ErrorReason::UpstreamFailed),
    }
}

/// Keeps the connection for another request, once the answer has been read to its end.
fn keep(lease: &UpstreamLease, originator: Option<Arc<Originator>>, mut connection: Connection) {
    let upstream = lease.upstream().clone();
    tokio::spawn(async move {
        if connection.ready().await.is_ok() {
            upstream.pool.put(connection, originator);
        }
    });
}
