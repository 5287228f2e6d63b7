//! Sockets that listen.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, mpsc},
    time::Duration,
};

use arc_swap::ArcSwap;
use l4way_host::listen_tcp;
use l4way_model::{BindFailure, BindFailureKind};
use l4way_proxy_core::{Allowance, Seldom};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    time::{Instant, sleep},
};

use crate::{
    connection::{Connection, Security, serve},
    control::Shared,
    counters::ActiveConnection,
    downstream::Downstream,
    drain::{Drain, Drained},
    forwarding::Peer,
    pulse::Pulse,
    room::ClientPlace,
    table::View,
};

/// How long accepting pauses when the system has no descriptor or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, with its connections.
#[derive(Debug)]
pub(crate) struct Socket {
    view: Arc<ArcSwap<View>>,
    drain: Drain,
    /// Disconnected when it is closed.
    closed: mpsc::Receiver<()>,
}

impl Socket {
    /// Listens, and shows its connections this view. They end by `drain`, which is asked for once the
    /// socket is bound.
    pub(crate) fn open(
        runtime: &Handle,
        shared: Arc<Shared>,
        bind: SocketAddr,
        view: Arc<View>,
        drain: impl FnOnce() -> Drain,
    ) -> Result<Self, BindFailure> {
        let settings = &shared.settings;
        let socket = listen_tcp(bind, settings.keepalive, settings.backlog)?;
        let _runtime = runtime.enter();
        let listener =
            TcpListener::from_std(StdListener::from(socket)).map_err(|error| BindFailure {
                bind,
                kind: BindFailureKind::Other,
                message: format!("can't wait for connections to TCP {bind}: {error}"),
            })?;
        let view = Arc::new(ArcSwap::new(view));
        let drain = drain();
        let drained = drain.drained();
        let (open, closed) = mpsc::channel();
        let allowance = shared.room.allow();
        let accept = Accept { shared, bind, view: view.clone(), drained, allowance };
        runtime.spawn(async {
            accept.run(listener).await;
            drop(open);
        });
        Ok(Self { view, drain, closed })
    }

    /// Shows requests this view from now on.
    pub(crate) fn show(&self, view: Arc<View>) {
        self.view.store(view);
    }

    /// Stops listening, and has the connections end until `deadline`. The port is free on return.
    pub(crate) fn close(self, deadline: Instant) -> Drain {
        self.drain.begin(deadline);
        // Nothing is ever sent: it ends when the sender is dropped.
        let _ = self.closed.recv();
        self.drain
    }
}

/// Accepts connections of one socket.
struct Accept {
    shared: Arc<Shared>,
    bind: SocketAddr,
    view: Arc<ArcSwap<View>>,
    drained: Drained,
    allowance: Allowance,
}

impl Accept {
    /// Accepts until the drain begins.
    async fn run(mut self, listener: TcpListener) {
        let mut draining = self.drained.clone();
        let mut short = false;
        let (mut told, mut limit_told) = (Seldom::default(), Seldom::default());
        loop {
            let accepted = tokio::select! {
                () = draining.begun() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => {
                    short = false;
                    let place = tokio::select! {
                        biased;
                        place = self.place(&mut limit_told) => place,
                        () = draining.begun() => return,
                    };
                    self.begin(stream, client, place);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    if !short && let Some(times) = told.note(Instant::now().into_std()) {
                        let bind = self.bind;
                        tracing::warn!(%bind, times, %error, "can't accept connections: they wait");
                    }
                    short = true;
                    self.shared.counters.accept_pauses.increment();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Descriptors for a connection, once there are some. It is accepted before it has them: so it is known
    /// that somebody waits.
    async fn place(&self, told: &mut Seldom) -> ClientPlace {
        let mut waits = false;
        loop {
            if let Some(place) = self.shared.room.client(&self.allowance) {
                return place;
            }
            if !waits {
                waits = true;
                self.shared.counters.limit_pauses.increment();
                if let Some(times) = told.note(Instant::now().into_std()) {
                    let bind = self.bind;
                    tracing::warn!(
                        %bind,
                        times,
                        "the session limit is reached: connections wait for sessions to end"
                    );
                }
            }
            self.shared.room.look().await;
        }
    }

    fn begin(&mut self, stream: TcpStream, client: SocketAddr, place: ClientPlace) {
        let active = ActiveConnection::new(self.shared.counters.clone());
        let stream = Downstream::new(stream, Vec::new(), active, place);
        let pulse = Pulse::new(&self.shared, Instant::now().into_std());
        let connection = Connection {
            shared: self.shared.clone(),
            view: self.view.clone(),
            peer: Peer::new(client.ip()),
            security: Security::Plain,
            drained: self.drained.clone(),
            abort: stream.abort(),
            inlet: None,
            pulse,
        };
        tokio::spawn(serve(stream, connection));
    }
}

/// Whether accept(2) failed for the connection that it would have returned, and not for want of
/// something that the next one needs too.
fn concerns_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
    )
}
