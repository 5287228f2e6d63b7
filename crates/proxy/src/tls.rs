//! What a worker knows of the listeners that share a port by server name.

use std::{sync::Arc, time::Duration};

use l4way_model::{Hostname, ListenerId, RefusedReason};
use l4way_proxy_core::{ClientHello, Hostnames};
use l4way_session::{HandshakeRow, Row};
use l4way_tls::Terminator;

use crate::routes::{ListenerKey, Route};

/// The TLS and HTTPS listeners of a port.
#[derive(Debug)]
pub(crate) struct TlsTable {
    listeners: Hostnames<TlsListener>,
    /// How long a client may take to tell which listener it is for: as long as the most patient of
    /// them lets it.
    pub(crate) patience: Duration,
    /// Whether one of them ends sessions here, so that clients may take the proxy for a TLS server.
    pub(crate) is_server: bool,
    /// What counts clients that no listener is for.
    pub(crate) stray: Counted,
}

/// What counts the clients that get no session.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) row: Arc<Row>,
    /// None once a handshake has been counted.
    pub(crate) handshakes: Option<Arc<HandshakeRow>>,
}

/// A listener of such a port.
#[derive(Debug)]
pub(crate) struct TlsListener {
    pub(crate) key: ListenerKey,
    /// How long a client's handshake may take, from the accepted connection on.
    pub(crate) handshake_timeout: Duration,
    pub(crate) mode: TlsMode,
    /// What counts the clients that no route takes.
    pub(crate) counted: Counted,
}

/// Who ends the sessions of a listener's clients.
#[derive(Debug)]
pub(crate) enum TlsMode {
    /// The endpoint.
    Passthrough(Hostnames<Route>),
    /// This worker.
    Terminate(Terminator, Hostnames<Route>),
    /// The HTTP side.
    Https(ListenerId, Terminator),
    /// Nobody.
    Refused,
}

impl TlsMode {
    fn is_server(&self) -> bool {
        matches!(self, Self::Terminate(..) | Self::Https(..))
    }
}

impl TlsTable {
    pub(crate) fn new(
        listeners: impl IntoIterator<Item = (Option<Hostname>, TlsListener)>,
        stray: Counted,
    ) -> Self {
        let mut listeners = Hostnames::new(listeners);
        let patience = listeners.values_mut().map(|listener| listener.handshake_timeout).max();
        let is_server = listeners.values_mut().any(|listener| listener.mode.is_server());
        Self { listeners, patience: patience.unwrap_or_default(), is_server, stray }
    }

    /// The listener that is for clients that ask for this name, or for none.
    pub(crate) fn listener(&mut self, hello: &ClientHello) -> Option<&mut TlsListener> {
        self.listeners.get_mut(hello.server_name.as_deref())
    }

    /// The route of a client that has got through its handshake with this listener. It may have changed
    /// meanwhile.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn route(
        &mut self,
        listener: ListenerKey,
        server_name: Option<&str>,
    ) -> Result<&mut Route, RefusedReason> {
        match self.listeners.get_mut(server_name) {
            Some(found) if found.key == listener => found.route(server_name),
            _ => Err(RefusedReason::UnrecognizedName),
        }
    }
}

impl TlsListener {
    /// Whether some route is for clients that ask for this name, or for none.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn route(&mut self, server_name: Option<&str>) -> Result<&mut Route, RefusedReason> {
        let (TlsMode::Passthrough(routes) | TlsMode::Terminate(_, routes)) = &mut self.mode else {
            return Err(RefusedReason::UnrecognizedName);
        };
        if routes.is_empty() {
            return Err(RefusedReason::NoRoute);
        }
        routes.get_mut(server_name).ok_or(RefusedReason::UnrecognizedName)
    }
}
