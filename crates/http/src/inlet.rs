//! Where a connection is read, as fast as the other side of its exchange takes what it brings.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

use crate::{
    flow::READ,
    ongoing::{Exchange, Way},
    pulse::{End, Pulse, REQUEST_TIMEOUT},
    room::UpstreamPlace,
};

/// Says which body a connection's bytes belong to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inlet(Arc<Mutex<Option<Followed>>>);

/// One direction of an exchange, as long as it lasts.
type Followed = (Weak<Exchange>, Way);

impl Inlet {
    /// From now on they belong to this one: the next exchange has begun.
    pub(crate) fn follow(&self, exchange: &Arc<Exchange>, way: Way) {
        let followed = (Arc::downgrade(exchange), way);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(followed);
    }

    fn poll_read_size(&self, cx: &Context<'_>) -> Poll<usize> {
        let followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let exchange =
            followed.as_ref().and_then(|(exchange, way)| Some((exchange.upgrade()?, *way)));
        // The exchange may end here, and takes no lock of ours then.
        drop(followed);
        exchange
            .map_or(Poll::Ready(READ), |(exchange, way)| exchange.poll_read_size(way, cx.waker()))
    }
}

/// A connection that is read as its [`Inlet`] says.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    stream: Take<S>,
    inlet: Inlet,
    /// Hears what comes, if it is a client's.
    pulse: Option<Arc<Pulse>>,
    /// Its descriptor, if it is to an endpoint.
    _place: Option<UpstreamPlace>,
}

impl<S: AsyncRead> Paced<S> {
    /// A client's connection.
    pub(crate) fn of_client(stream: S, inlet: Inlet, pulse: Option<Arc<Pulse>>) -> Self {
        Self { stream: stream.take(0), inlet, pulse, _place: None }
    }

    /// A connection to an endpoint, also after it was upgraded.
    pub(crate) fn to_endpoint(stream: S, inlet: Inlet, place: UpstreamPlace) -> Self {
        Self { stream: stream.take(0), inlet, pulse: None, _place: Some(place) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, inlet, pulse, .. } = &mut *self;
        if pulse.as_ref().is_some_and(|pulse| pulse.end_reason() == Some(End::Head)) {
            // hyper has no answer to a head that doesn't come, and takes this for the client's end. A client
            // that doesn't take so little is told nothing.
            let _ = Pin::new(stream.get_mut()).poll_write(cx, REQUEST_TIMEOUT);
            *pulse = None;
            return Poll::Ready(Ok(()));
        }
        let size = ready!(inlet.poll_read_size(cx));
        stream.set_limit(size as u64);
        let before = buffer.filled().len();
        let polled = Pin::new(stream).poll_read(cx, buffer);
        if let Some(pulse) = pulse
            && buffer.filled().len() > before
        {
            pulse.heard();
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }
}
