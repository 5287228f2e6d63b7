//! Connections that speak something else from some point on (RFC 9110, section 7.8).

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::connection::Connection;

/// Copies between the two sides, as soon as both have switched and until both have ended, or the
/// client's connection has to.
pub(crate) fn join(downstream: OnUpgrade, upstream: OnUpgrade, connection: &Connection) {
    let (mut drained, abort) = (connection.drained.clone(), connection.abort.clone());
    tokio::spawn(async move {
        let (Ok(downstream), Ok(upstream)) = (downstream.await, upstream.await) else { return };
        let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
        let result = tokio::select! {
            result = copy_bidirectional(&mut downstream, &mut upstream) => result.is_ok(),
            () = drained.expired() => false,
        };
        if !result {
            abort.set();
        }
    });
}
