//! What is spoken on a client's connection.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use l4way_proxy_core::MemoryLoad;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::{
    control::Shared,
    downstream::{Abort, Downstream},
    drain::Drained,
    forward::respond,
    forwarding::Peer,
    inlet::{Inlet, Paced},
    pulse::{End, Pulse},
    streams::Streams,
    table::View,
};

/// The most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
/// How often an HTTP/2 client is asked whether it is still there, and how long it has to say so.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// What an HTTP/2 client may send before it is read: of a body, and of all (RFC 9113, section 5.2).
const WINDOWS: (u32, u32) = (STREAM_WINDOW, 512 << 10);
pub(crate) const STREAM_WINDOW: u32 = 256 << 10;
/// The same when memory is short; the protocol has no less for a connection.
const WINDOWS_LEAST: (u32, u32) = (16 << 10, (64 << 10) - 1);

/// What a connection's requests have in common.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) view: Arc<ArcSwap<View>>,
    pub(crate) peer: Peer,
    pub(crate) security: Security,
    pub(crate) drained: Drained,
    pub(crate) abort: Abort,
    /// Says which request it brings; none of several at a time.
    pub(crate) inlet: Option<Inlet>,
    pub(crate) pulse: Arc<Pulse>,
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
    let within = connection.shared.settings.timeouts.head;
    // Else the client is gone, or might as well be.
    if let Ok(Ok(http2)) = timeout(within, stream.begins_as_http2()).await {
        serve_http(stream, connection, http2).await;
    }
}

/// Serves what is spoken in a connection to its end.
pub(crate) async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut connection: Connection,
    http2: bool,
) {
    let inlet = Inlet::default();
    connection.inlet = (!http2).then(|| inlet.clone());
    // What comes of HTTP/2 need not be a request.
    let pulse = (!http2).then(|| connection.pulse.clone());
    let connection = Arc::new(connection);
    // Boxed, so that a connection has no room for it while there is no request.
    let service = service_fn(|request| Box::pin(respond(connection.clone(), request)));
    let stream = TokioIo::new(Paced::of_client(stream, inlet, pulse));
    if http2 {
        connection.pulse.agreed();
        let mut protocol = http2::Builder::new(Streams);
        let (interval, patience) = PING;
        protocol.timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32);
        protocol.keep_alive_interval(interval).keep_alive_timeout(patience);
        let heavy = connection.shared.settings.process.memory.load() >= MemoryLoad::Heavy;
        let (of_stream, of_connection) = if heavy { WINDOWS_LEAST } else { WINDOWS };
        protocol.initial_stream_window_size(of_stream);
        protocol.initial_connection_window_size(of_connection);
        let serving = pin!(protocol.serve_connection(stream, service));
        run(serving, http2::Connection::graceful_shutdown, &connection).await;
    } else {
        let mut protocol = http1::Builder::new();
        protocol.timer(TokioTimer::new()).max_buf_size(MAX_HEAD);
        // The pulse knows when a head has begun, and what to say.
        protocol.header_read_timeout(None);
        let serving = pin!(protocol.serve_connection(stream, service).with_upgrades());
        run(serving, http1::UpgradeableConnection::graceful_shutdown, &connection).await;
    }
}

/// Serves until the end. When the drain begins, nothing is asked for any more, or others need its place,
/// `shut_down` makes the end come after the requests that there are; at the drain's deadline what is left is
/// reset.
async fn run<C: Future<Output = hyper::Result<()>>>(
    mut serving: Pin<&mut C>,
    shut_down: fn(Pin<&mut C>),
    connection: &Connection,
) {
    let Connection { pulse, abort, .. } = connection;
    let (mut drained, mut deadline) = (connection.drained.clone(), connection.drained.clone());
    let mut draining = false;
    let result = loop {
        tokio::select! {
            // First, so that bytes that have come are seen: hyper ends a connection without any at once.
            biased;
            result = &mut serving => break result,
            end = pulse.ended() => match end {
                End::Idle | End::Evicted => shut_down(serving.as_mut()),
                // It is read once more, for an answer.
                End::Head => {}
                End::Stalled | End::Memory => return abort.set(),
            },
            () = drained.begun(), if !draining => {
                draining = true;
                shut_down(serving.as_mut());
            }
            () = deadline.expired(), if draining => return abort.set(),
        }
    };
    // An answer that broke off at the endpoint has to break off here.
    if result.is_err_and(|error| error.is_user()) {
        abort.set();
    }
}
