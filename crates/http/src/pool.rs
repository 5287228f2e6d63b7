//! Connections to an endpoint.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use l4way_model::EndpointAddress;
use l4way_proxy::Keepalive;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::Settings;

/// The most connections to an endpoint that wait for requests.
const MAX_IDLE: usize = 256;

/// A connection to an endpoint. It ends when this is dropped and its last answer has been read.
pub(crate) type Connection = SendRequest<Incoming>;

/// The connections to an endpoint that wait for the next request.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection that has waited least: of all, it is the least likely to be closed by the
    /// endpoint just now.
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop())
            .map(|idle| idle.connection)
            .find(|connection| !connection.is_closed())
    }

    /// Keeps a connection that is ready for the next request.
    pub(crate) fn put(&self, connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes the connections that nobody has needed for this long.
    pub(crate) fn expire(&self, after: Duration) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| !idle.connection.is_closed() && idle.since.elapsed() < after);
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The endpoint didn't accept it in time.
    Timeout,
    /// Anything else.
    Failed,
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Failed,
        }
    }
}

/// A new connection to an endpoint.
pub(crate) async fn connect(
    address: &EndpointAddress,
    settings: &Settings,
) -> Result<Connection, ConnectError> {
    let connect = async {
        match address {
            EndpointAddress::Ip(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                set_keepalive(&stream, settings.keepalive)?;
                speak_http(stream).await
            }
            EndpointAddress::Unix(path) => speak_http(UnixStream::connect(&**path).await?).await,
        }
    };
    match timeout(settings.connect_timeout, connect).await {
        Ok(connected) => connected,
        Err(_) => Err(ConnectError::Timeout),
    }
}

async fn speak_http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Connection, ConnectError> {
    let (connection, driver) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| ConnectError::Failed)?;
    // How it ends is told to whoever waits for an answer.
    tokio::spawn(async { driver.with_upgrades().await.ok() });
    Ok(connection)
}

fn set_keepalive(stream: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    let Keepalive { idle, interval, probes } = keepalive;
    let parameters =
        TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    SockRef::from(stream).set_tcp_keepalive(&parameters)
}
