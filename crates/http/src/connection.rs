//! What is spoken on a client's connection.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::{
    control::Shared,
    downstream::{Abort, Downstream},
    drain::Drained,
    forward::respond,
    table::View,
};

/// The most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
/// How often an HTTP/2 client is asked whether it is still there, and how long it has to say so.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// What a connection's requests have in common.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) view: Arc<ArcSwap<View>>,
    pub(crate) client: SocketAddr,
    pub(crate) security: Security,
    pub(crate) drained: Drained,
    pub(crate) abort: Abort,
}

/// How a connection's bytes are protected.
#[derive(Debug)]
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// By TLS.
    Tls {
        /// The host that the client asked for, in lower case.
        server_name: Option<Box<str>>,
    },
}

/// Serves a connection without TLS to its end.
pub(crate) async fn serve(mut stream: Downstream, connection: Connection) {
    let within = connection.shared.settings.header_timeout;
    // Else the client is gone, or might as well be.
    if let Ok(Ok(http2)) = timeout(within, stream.begins_as_http2()).await {
        serve_http(stream, connection, http2).await;
    }
}

/// Serves what is spoken in a connection to its end.
pub(crate) async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Connection,
    http2: bool,
) {
    let connection = Arc::new(connection);
    let service = service_fn(|request| respond(connection.clone(), request));
    let stream = TokioIo::new(stream);
    if http2 {
        let mut protocol = http2::Builder::new(TokioExecutor::new());
        let (interval, patience) = PING;
        protocol.timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32);
        protocol.keep_alive_interval(interval).keep_alive_timeout(patience);
        let serving = pin!(protocol.serve_connection(stream, service));
        run(serving, http2::Connection::graceful_shutdown, &connection).await;
    } else {
        let mut protocol = http1::Builder::new();
        protocol.timer(TokioTimer::new()).max_buf_size(MAX_HEAD);
        protocol.header_read_timeout(connection.shared.settings.header_timeout);
        let serving = pin!(protocol.serve_connection(stream, service).with_upgrades());
        run(serving, http1::UpgradeableConnection::graceful_shutdown, &connection).await;
    }
}

/// Serves until the end. When the drain begins, `shut_down` makes the end come after the requests
/// that there are; at its deadline what is left is reset.
async fn run<C: Future<Output = hyper::Result<()>>>(
    mut serving: Pin<&mut C>,
    shut_down: fn(Pin<&mut C>),
    connection: &Connection,
) {
    let mut drained = connection.drained.clone();
    let result = tokio::select! {
        // First, so that bytes that have come are seen: hyper ends a connection without any at once.
        biased;
        result = &mut serving => result,
        () = drained.begun() => {
            shut_down(serving.as_mut());
            tokio::select! {
                result = serving => result,
                () = drained.expired() => return connection.abort.set(),
            }
        }
    };
    // An answer that broke off at the endpoint has to break off here.
    if result.is_err_and(|error| error.is_user()) {
        connection.abort.set();
    }
}
