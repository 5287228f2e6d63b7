//! A client's connection, below HTTP and TLS.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{counters::ActiveConnection, room::ClientPlace};

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many bytes the kernel takes for a peer before it has sent what it has (tcp(7),
/// `TCP_NOTSENT_LOWAT`). Else it takes megabytes for one that doesn't read, and it can't be seen of one
/// that reads slowly that it reads at all.
pub(crate) const MAX_UNSENT: u32 = 256 << 10;

/// A client's connection. However it is wrapped, it counts as long as it is there.
#[derive(Debug)]
pub(crate) struct Downstream {
    stream: TcpStream,
    /// Bytes that were read to find out what they are, and have to be read again.
    again: Vec<u8>,
    abort: Abort,
    _active: ActiveConnection,
    _place: ClientPlace,
}

/// Has a connection end with a reset, so that the client doesn't take what it got for all there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Abort(Arc<AtomicBool>);

impl Abort {
    pub(crate) fn set(&self) {
        self.0.store(true, Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Downstream {
    /// A connection of which `again` has been read already.
    pub(crate) fn new(
        stream: TcpStream,
        again: Vec<u8>,
        active: ActiveConnection,
        place: ClientPlace,
    ) -> Self {
        // If that fails, the kernel holds more.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT);
        Self { stream, again, abort: Abort::default(), _active: active, _place: place }
    }

    /// What resets this connection.
    pub(crate) fn abort(&self) -> Abort {
        self.abort.clone()
    }

    /// Whether the client begins as one that knows that HTTP/2 is spoken here.
    pub(crate) async fn begins_as_http2(&mut self) -> io::Result<bool> {
        let mut buffer = [0; PREFACE.len()];
        let mut filled = 0;
        let mut ended = false;
        while !ended && filled < PREFACE.len() && buffer[..filled] == PREFACE[..filled] {
            let read = self.stream.read(&mut buffer[filled..]).await?;
            ended = read == 0;
            filled += read;
        }
        self.again = buffer[..filled].to_vec();
        Ok(buffer == *PREFACE)
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        if self.abort.is_set() {
            // If that fails, it ends without a reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Downstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.again.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.again.len().min(buffer.remaining());
        buffer.put_slice(&self.again[..count]);
        self.again.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
