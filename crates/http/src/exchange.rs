//! One request and its answer.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use hyper::{Request, Response, body::Incoming};
use l4way_proxy_core::EndpointOf;
use l4way_tls::Originator;

use crate::{
    body::Relayed,
    control::Shared,
    counters::ErrorReason,
    endpoints::UpstreamLease,
    ongoing::{Exchange, Way},
    pool::{self, Connection},
    table::{Picked, View},
};

/// Sends a request to one of the backend's endpoints. Another one is tried as long as nothing of
/// the request has been sent.
pub(crate) async fn exchange(
    shared: &Shared,
    view: &View,
    picked: &Picked,
    mut request: Request<Relayed>,
    ongoing: &Arc<Exchange>,
) -> Result<(Response<Incoming>, UpstreamLease), ErrorReason> {
    let mut tried = Vec::new();
    let health = shared.settings.process.endpoints.view();
    let mut failure = ErrorReason::NoEndpoint;
    for _ in 0..shared.settings.connect_attempts.get() {
        let Some(lease) =
            view.endpoints.choose(&picked.backend, &mut shared.rng(), &health, &mut tried)
        else {
            break;
        };
        let endpoint = EndpointOf { backend: &picked.backend, address: &lease.upstream().address };
        let originator = picked.originator.as_ref();
        request = match send_by_idle(&lease, originator, request, ongoing).await? {
            Sent::Answered(response) => return Ok((response, lease)),
            Sent::Not(request) => request,
        };
        let keepalive = shared.settings.keepalive;
        let within = view.terms.connect_timeout;
        let close_idle = || shared.close_idle_upstream();
        let Some(place) = shared.room.upstream(within, close_idle).await else {
            return Err(ErrorReason::OutOfResources);
        };
        // Boxed, as it is large and seldom.
        let connecting = pool::connect(endpoint.address, originator, keepalive, within, place);
        let connected = Box::pin(connecting).await;
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
        request = match send(&lease, originator, connection, request, ongoing).await? {
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
    Not(Request<Relayed>),
}

/// Sends the request by a connection that there is already.
async fn send_by_idle(
    lease: &UpstreamLease,
    originator: Option<&Arc<Originator>>,
    mut request: Request<Relayed>,
    ongoing: &Arc<Exchange>,
) -> Result<Sent, ErrorReason> {
    while let Some(connection) = lease.upstream().pool.take(originator) {
        match send(lease, originator, connection, request, ongoing).await? {
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
    request: Request<Relayed>,
    ongoing: &Arc<Exchange>,
) -> Result<Sent, ErrorReason> {
    connection.inlet.follow(ongoing, Way::Downstream);
    ongoing.goes_by(connection.stop.clone());
    match connection.sender.try_send_request(request).await {
        Ok(response) => {
            keep(lease, originator.cloned(), connection, Arc::downgrade(ongoing));
            Ok(Sent::Answered(response))
        }
        Err(mut error) => error.take_message().map(Sent::Not).ok_or(ErrorReason::UpstreamFailed),
    }
}

/// Keeps the connection for another request, once the answer has been read to its end.
fn keep(
    lease: &UpstreamLease,
    originator: Option<Arc<Originator>>,
    mut connection: Connection,
    ongoing: Weak<Exchange>,
) {
    let upstream = lease.upstream().clone();
    tokio::spawn(async move {
        if connection.sender.ready().await.is_ok() {
            if let Some(ongoing) = ongoing.upgrade() {
                ongoing.let_go();
            }
            upstream.pool.put(connection, originator);
        }
    });
}
