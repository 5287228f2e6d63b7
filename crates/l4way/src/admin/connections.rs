//! The connections of the admin endpoint and of the admin socket: few at a time, each of the two for
//! itself, and none that says nothing for long. Whoever reaches the endpoint could keep descriptors from
//! sessions otherwise, and probes from answers.

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::{AbortHandle, yield_now},
    time::{Instant, sleep, sleep_until},
};

/// The most connections of the endpoint at a time.
const MOST: usize = 64;
/// What part of the process's descriptors they may take: half of what sessions leave.
const PART: usize = 20;
/// The most connections of the socket, as a part of those of the endpoint.
const PART_OF_SOCKET: usize = 4;
/// How long a request's head may take, from the connection or the last answer on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long no byte may go either way, of an answer that isn't taken above all.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting pauses when the system has no descriptor or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub(super) trait Listener {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The most connections at a time.
    fn most(&self) -> usize;
    /// What it is called in the log.
    fn name(&self) -> &'static str;
    async fn accept(&self) -> io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn most(&self) -> usize {
        most()
    }

    fn name(&self) -> &'static str {
        "endpoint"
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    fn most(&self) -> usize {
        most().div_ceil(PART_OF_SOCKET)
    }

    fn name(&self) -> &'static str {
        "socket"
    }

    async fn accept(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves `app` on `listener` until the process ends.
pub(super) async fn serve(listener: impl Listener, app: Router) {
    let mut connections = Connections { all: Vec::new(), most: listener.most() };
    let mut short = false;
    loop {
        match listener.accept().await {
            Ok(stream) => {
                short = false;
                connections.begin(stream, app.clone());
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if !short {
                    let name = listener.name();
                    tracing::warn!(%error, "the admin {name} can't accept connections: they wait");
                }
                short = true;
                connections.close_idlest();
                sleep(PAUSE).await;
            }
        }
        // Those there are have their turn, however many come.
        yield_now().await;
    }
}

/// The most connections of the endpoint, with the descriptors that the process may have.
fn most() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current;
    let descriptors = descriptors.and_then(|most| most.try_into().ok()).unwrap_or(usize::MAX);
    (descriptors / PART).clamp(1, MOST)
}

/// The connections that there are, and some that have ended.
struct Connections {
    all: Vec<Connection>,
    most: usize,
}

struct Connection {
    task: AbortHandle,
    activity: Activity,
}

impl Connections {
    /// Serves one more connection, in place of the one that has been idle longest if need be.
    fn begin<S>(&mut self, stream: S, app: Router)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.all.retain(|connection| !connection.task.is_finished());
        if self.all.len() >= self.most {
            self.close_idlest();
        }
        let activity = Activity::now();
        let task = tokio::spawn(answer(stream, activity.clone(), app)).abort_handle();
        self.all.push(Connection { task, activity });
    }

    /// Closes the connection on which nothing has come or gone for the longest time.
    fn close_idlest(&mut self) {
        self.all.retain(|connection| !connection.task.is_finished());
        let all = self.all.iter().enumerate();
        let idlest = all.min_by_key(|(_, connection)| connection.activity.last());
        if let Some((index, _)) = idlest {
            self.all.remove(index).task.abort();
        }
    }
}

/// Answers the requests of a connection, until it ends or is idle for too long.
async fn answer<S>(stream: S, activity: Activity, app: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Watched { stream, activity: activity.clone() });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let answers = pin!(protocol.serve_connection(stream, TowerToHyperService::new(app)));
    tokio::select! {
        // What goes wrong is the client's: it sees that the connection ends.
        _ = answers => {}
        () = activity.has_ceased() => {}
    }
}

/// When a byte came or went last.
#[derive(Clone)]
struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a byte has come or gone, if so.
    fn note<T>(&self, moved: &Poll<io::Result<T>>) {
        if let Poll::Ready(Ok(_)) = moved {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Waits until the last one is [`IDLE_TIMEOUT`] ago.
    async fn has_ceased(&self) {
        let mut end = self.last() + IDLE_TIMEOUT;
        while Instant::now() < end {
            sleep_until(end).await;
            end = self.last() + IDLE_TIMEOUT;
        }
    }
}

/// A connection whose activity is noted.
struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.activity.note(&read);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.activity.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether accept(2) failed for the connection that it would have returned, and not for want of
/// something that the next one needs too.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied)
}
