use std::{
    io,
    net::{SocketAddr, UdpSocket as StdUdpSocket},
    time::Duration,
};

use l4way_model::Transport;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time,
};

use super::container::Reply;

/// How many connections may wait to be accepted, as far as `net.core.somaxconn` allows.
const BACKLOG: i32 = 4_096;
/// How long to wait when no connection can be accepted, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most that is read from a connection at once.
const READ_SIZE: usize = 16 * 1024;
/// The most that a datagram holds (RFC 768: 16 bits of length).
const DATAGRAM_SIZE: usize = 65_535;
/// How many datagrams are answered before other sockets get their turn.
const DATAGRAM_BATCH: usize = 32;

/// An echo server. Dropping it closes its socket; connections that it accepted go on until their
/// clients are done, as those of a pod that ends.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    reply: watch::Sender<Reply>,
    task: AbortHandle,
}

impl Server {
    /// Binds `bind` and answers there. Port 0 takes a free one.
    ///
    /// # Errors
    /// If the address can't be bound.
    pub(super) fn start(
        transport: Transport,
        bind: SocketAddr,
        reply: Reply,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let (reply, replies) = watch::channel(reply);
        let _runtime = runtime.enter();
        let (port, task) = match transport {
            Transport::Tcp => {
                let listener = listen(bind)?;
                (listener.local_addr()?.port(), runtime.spawn(serve_tcp(listener, replies)))
            }
            Transport::Udp => {
                let socket = StdUdpSocket::bind(bind)?;
                socket.set_nonblocking(true)?;
                let socket = UdpSocket::from_std(socket)?;
                (socket.local_addr()?.port(), runtime.spawn(serve_udp(socket, replies)))
            }
        };
        Ok(Self { port, reply, task: task.abort_handle() })
    }

    /// Changes what new connections, and datagrams from now on, are answered with.
    pub(super) fn set_reply(&self, reply: Reply) {
        self.reply.send_replace(reply);
    }

    /// The port that it is bound on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens with a longer queue than the standard library's.
fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(bind), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&bind.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn serve_tcp(listener: TcpListener, replies: watch::Receiver<Reply>) {
    loop {
        let Ok((stream, _downstream)) = listener.accept().await else {
            time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let reply = replies.borrow().clone();
        tokio::spawn(async move {
            // A failure is the client's: it has gone.
            let _ = match reply {
                Some(text) => answer(&stream, &text).await,
                None => echo(&stream).await,
            };
        });
    }
}

/// Sends `text` once the first bytes came, then reads until the client is done.
async fn answer(stream: &TcpStream, text: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if read(stream, |_| {}).await? == 0 {
        return Ok(());
    }
    write_all(stream, text).await?;
    while read(stream, |_| {}).await? > 0 {}
    Ok(())
}

/// Sends back what comes until the client is done.
async fn echo(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut unsent = Vec::new();
        let length = read(stream, |bytes| {
            let sent = stream.try_write(bytes).unwrap_or(0);
            unsent.extend_from_slice(&bytes[sent..]);
        });
        if length.await? == 0 {
            return Ok(());
        }
        write_all(stream, &unsent).await?;
    }
}

/// Waits for bytes and shows them to `seen`; returns how many, 0 at the end of the stream. The
/// buffer isn't kept while waiting, so that an idle connection costs next to nothing.
async fn read(stream: &TcpStream, seen: impl FnOnce(&[u8])) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        let mut buffer = [0; READ_SIZE];
        match stream.try_read(&mut buffer) {
            Ok(length) => {
                seen(&buffer[..length]);
                return Ok(length);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn serve_udp(socket: UdpSocket, replies: watch::Receiver<Reply>) {
    while socket.readable().await.is_ok() {
        let reply = replies.borrow().clone();
        answer_datagrams(&socket, reply.as_deref());
        tokio::task::yield_now().await;
    }
}

/// Answers some of the datagrams that have come. As UDP has it, a reply that doesn't fit the
/// socket's buffer is lost; and an error is about an earlier reply, whose client has gone.
fn answer_datagrams(socket: &UdpSocket, reply: Option<&[u8]>) {
    let mut buffer = [0; DATAGRAM_SIZE];
    for _ in 0..DATAGRAM_BATCH {
        match socket.try_recv_from(&mut buffer) {
            Ok((length, downstream)) => {
                let _ = socket.try_send_to(reply.unwrap_or(&buffer[..length]), downstream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(size_of_val(&answer(&stream, b"text")) < 1024);
        assert!(size_of_val(&echo(&stream)) < 1024);
    }
}
