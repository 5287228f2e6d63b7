//! Clients of HTTPS listeners: a worker has accepted them and read their ClientHello; from there on
//! they are served here.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use l4way_proxy::{HttpsClient, HttpsSink};
use l4way_session::{CloseReason, TlsRecord};
use l4way_tls::{handshake_failure, handshake_kind};
use rustls::ServerConnection;
use tokio::{net::TcpStream, runtime::Handle, time::timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::{
    connection::{Connection, Security, serve_http},
    control::Shared,
    counters::ActiveConnection,
    downstream::Downstream,
    drain::Drained,
    forwarding::Peer,
    metered::{Meter, Metered},
    pool::MAX_SEALED,
    pulse::Pulse,
    record::Record,
    table::View,
};

const HTTP2: &[u8] = b"h2";

/// A port whose clients come from workers.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) view: Arc<ArcSwap<View>>,
    pub(crate) drained: Drained,
}

/// Takes clients from workers.
#[derive(Debug)]
pub(crate) struct Reception {
    shared: Arc<Shared>,
    runtime: Handle,
    /// By the addresses that they are bound on.
    ports: ArcSwap<BTreeMap<SocketAddr, Port>>,
}

impl Reception {
    pub(crate) fn new(shared: Arc<Shared>, runtime: Handle) -> Self {
        Self { shared, runtime, ports: ArcSwap::default() }
    }

    /// Serves clients of these ports from now on.
    pub(crate) fn open(&self, ports: BTreeMap<SocketAddr, Port>) {
        self.ports.store(Arc::new(ports));
    }
}

impl HttpsSink for Reception {
    fn take(&self, client: HttpsClient) {
        let port = self.ports.load().get(&client.bind).cloned();
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            match port {
                Some(Port { view, drained }) => serve(client, shared, view, drained).await,
                // Its listener has gone meanwhile.
                None => client.handshakes.fail(CloseReason::ListenerRemoved),
            }
        });
    }
}

/// Serves a client to its end.
async fn serve(
    client: HttpsClient,
    shared: Arc<Shared>,
    view: Arc<ArcSwap<View>>,
    drained: Drained,
) {
    let HttpsClient { socket, hello, terminator, begun, deadline, handshakes, .. } = client;
    let tls = TlsRecord { server_name: client.server_name.clone(), ..TlsRecord::default() };
    let meter = Arc::new(Meter::default());
    let mut record = Record {
        shared: shared.clone(),
        labels: client.labels,
        downstream: client.downstream,
        local: client.bind,
        started: SystemTime::now(),
        begun,
        tls,
        meter: meter.clone(),
    };
    let stream = match TcpStream::from_std(socket.into()) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "can't wait for the bytes of an HTTPS client");
            return handshakes.fail(CloseReason::OutOfResources);
        }
    };
    let active = ActiveConnection::new(shared.counters.clone());
    let stream = Downstream::new(stream, hello, active, shared.room.client_with(client.place));
    let abort = stream.abort();
    let limit = |session: &mut ServerConnection| session.set_buffer_limit(Some(MAX_SEALED));
    let acceptor = TlsAcceptor::from(terminator.config(false).clone());
    let handshake = timeout_at(deadline.into(), acceptor.accept_with(stream, limit)).await;
    let handshake = handshake.map_err(|_| CloseReason::HandshakeTimeout);
    let stream = match handshake.and_then(|done| done.map_err(|error| reason(&error))) {
        Ok(stream) => stream,
        Err(reason) => {
            handshakes.fail(reason);
            return record.refuse(reason);
        }
    };
    let (_, session) = stream.get_ref();
    record.describe(session, &terminator);
    record.begin();
    handshakes.succeed(handshake_kind(session), begun.elapsed());
    let http2 = session.alpn_protocol() == Some(HTTP2);
    let security = Security::Tls { server_name: client.server_name };
    let peer = Peer::new(client.downstream.ip());
    let stream = Metered::new(stream, meter);
    let aborted = abort.clone();
    let (inlet, pulse) = (None, Pulse::new(&shared, Instant::now()));
    let ended = pulse.clone();
    let connection = Connection { shared, view, peer, security, drained, abort, inlet, pulse };
    serve_http(stream, connection, http2).await;
    record.end(match ended.end_reason() {
        Some(end) => end.into(),
        None if aborted.is_set() => CloseReason::UpstreamReset,
        None => CloseReason::Closed,
    });
}

/// Why a handshake failed.
fn reason(error: &io::Error) -> CloseReason {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(error) => handshake_failure(error),
        None => CloseReason::HandshakeAborted,
    }
}
