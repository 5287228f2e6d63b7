//! Connections to an endpoint.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use l4way_host::is_connected_to_itself;
use l4way_model::EndpointAddress;
use l4way_proxy_core::EndpointFailure;
use l4way_session::Keepalive;
use l4way_tls::Originator;
use rustls::ClientConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    body::Relayed,
    counters::ErrorReason,
    downstream::MAX_UNSENT,
    inlet::{Inlet, Paced},
    room::UpstreamPlace,
};

/// The most connections to an endpoint that wait for requests.
const MAX_IDLE: usize = 256;

/// How long a request waits for a place in an endpoint's full queue before it looks again.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// The most bytes that TLS holds which the socket doesn't take.
pub(crate) const MAX_SEALED: usize = 16 << 10;

/// A connection to an endpoint. It ends when this is dropped and its last answer has been read.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Relayed>,
    /// Says which answer it brings.
    pub(crate) inlet: Inlet,
    /// Ends it at once.
    pub(crate) stop: Arc<Notify>,
}

/// The connections to an endpoint that wait for the next request.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    connection: Connection,
    /// What began the TLS session on it.
    originator: Option<Arc<Originator>>,
    since: Instant,
}

impl Pool {
    /// The connection that has waited least, of those that were begun in this way: of all, it is the
    /// least likely to be closed by the endpoint just now.
    pub(crate) fn take(&self, originator: Option<&Arc<Originator>>) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |idle: &Idle| match (&idle.originator, originator) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        loop {
            let at = idle.iter().rposition(is_same)?;
            let connection = idle.remove(at).connection;
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection that is ready for the next request.
    pub(crate) fn put(&self, connection: Connection, originator: Option<Arc<Originator>>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, originator, since: Instant::now() });
        }
    }

    /// When the one that has waited longest began to.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().map(|idle| idle.since).min()
    }

    /// Closes the connection that has waited longest. False if there is none.
    pub(crate) fn close_oldest(&self) -> bool {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (0..idle.len()).min_by_key(|&at| idle[at].since);
        oldest.map(|at| idle.remove(at)).is_some()
    }

    /// Closes the connections that nobody has needed for this long.
    pub(crate) fn expire(&self, after: Duration) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| !idle.connection.sender.is_closed() && idle.since.elapsed() < after);
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The endpoint refused it.
    Refused,
    /// The endpoint didn't accept it in time.
    Timeout,
    /// Its TLS session could not be begun.
    Tls,
    /// Anything else.
    Failed,
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl ConnectError {
    /// What the request is answered for, if no other endpoint takes it.
    pub(crate) fn reason(&self) -> ErrorReason {
        match self {
            Self::Timeout => ErrorReason::ConnectTimeout,
            Self::Tls => ErrorReason::UpstreamTlsFailed,
            Self::Refused | Self::Failed => ErrorReason::ConnectFailed,
        }
    }

    /// What it says of the endpoint.
    pub(crate) fn failure(&self) -> EndpointFailure {
        match self {
            Self::Refused => EndpointFailure::Refused,
            Self::Timeout => EndpointFailure::Timeout,
            Self::Tls => EndpointFailure::Tls,
            Self::Failed => EndpointFailure::Unreachable,
        }
    }
}

/// A new connection to an endpoint, if it accepts it `within` this time.
pub(crate) async fn connect(
    address: &EndpointAddress,
    originator: Option<&Arc<Originator>>,
    keepalive: Keepalive,
    within: Duration,
    place: UpstreamPlace,
) -> Result<Connection, ConnectError> {
    let connect = async {
        match address {
            EndpointAddress::Ip(address) => {
                let stream = TcpStream::connect(address).await?;
                if is_connected_to_itself(&stream, *address) {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    return Err(ConnectError::Refused);
                }
                stream.set_nodelay(true)?;
                set_keepalive(&stream, keepalive)?;
                SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT)?;
                speak(stream, originator, place).await
            }
            EndpointAddress::Unix(path) => {
                speak(connect_unix(path).await?, originator, place).await
            }
        }
    };
    match timeout(within, connect).await {
        Ok(connected) => connected,
        Err(_) => Err(ConnectError::Timeout),
    }
}

/// Connects to a Unix socket, and waits for a place in its queue if that is full (connect(2), EAGAIN).
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(FULL_QUEUE_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    originator: Option<&Arc<Originator>>,
    place: UpstreamPlace,
) -> Result<Connection, ConnectError> {
    let Some(originator) = originator else { return speak_http(stream, place).await };
    let connector = TlsConnector::from(originator.http.clone());
    let limit = |session: &mut ClientConnection| session.set_buffer_limit(Some(MAX_SEALED));
    let stream = connector.connect_with(originator.server_name.clone(), stream, limit).await;
    speak_http(stream.map_err(|_| ConnectError::Tls)?, place).await
}

async fn speak_http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: UpstreamPlace,
) -> Result<Connection, ConnectError> {
    let inlet = Inlet::default();
    let stream = TokioIo::new(Paced::to_endpoint(stream, inlet.clone(), place));
    let (sender, driver) = http1::handshake(stream).await.map_err(|_| ConnectError::Failed)?;
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            // How it ends is told to whoever waits for an answer.
            _ = driver.with_upgrades() => {}
            () = stopped.notified() => {}
        }
    });
    Ok(Connection { sender, inlet, stop })
}

fn set_keepalive(stream: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    let Keepalive { idle, interval, probes } = keepalive;
    let parameters =
        TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    SockRef::from(stream).set_tcp_keepalive(&parameters)
}
