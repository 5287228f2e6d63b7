//! The way of HTTPS clients to who serves them.

use std::{fmt, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Instant};

use l4way_model::ListenerId;
use l4way_proxy_core::Descriptors;
use l4way_session::{HandshakeRow, Labels};
use l4way_tls::Terminator;

/// A client that asks for the name of an HTTPS listener, before its handshake.
#[derive(Debug)]
pub struct HttpsClient {
    /// Its connection, which doesn't block.
    pub socket: OwnedFd,
    /// What has been read of it: the ClientHello, and perhaps what follows it.
    pub hello: Vec<u8>,
    /// The listener.
    pub listener: ListenerId,
    /// What ends its TLS session.
    pub terminator: Terminator,
    /// The server name that it asks for, in lower case.
    pub server_name: Option<Box<str>>,
    /// Its address.
    pub downstream: SocketAddr,
    /// The address of the socket that it was accepted from.
    pub bind: SocketAddr,
    /// When it was accepted.
    pub begun: Instant,
    /// When its handshake has to be over.
    pub deadline: Instant,
    /// What its record is about.
    pub labels: Arc<Labels>,
    /// What counts its handshake. It has one writer: who serves HTTPS.
    pub handshakes: Arc<HandshakeRow>,
    /// What it takes of the descriptors that sessions may use, until this is dropped.
    pub place: Descriptors,
}

/// Who serves the clients of HTTPS listeners.
pub trait HttpsSink: fmt::Debug + Send + Sync {
    /// Takes a client. Called by workers: it doesn't block.
    fn take(&self, client: HttpsClient);
}
