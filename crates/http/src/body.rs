//! Bodies of requests and answers.

use std::{
    error::Error as _,
    io,
    iter::successors,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body_util::{Either, Full};
use hyper::body::{Frame, Incoming, SizeHint};

use crate::{
    counters::{ErrorReason, Row},
    endpoints::UpstreamLease,
    flow::Chunk,
    forwarding,
    ongoing::{Exchange, Way},
};

/// The body of an answer: an endpoint's, or one of l4way's own.
pub(crate) type Body = Either<Relayed, Full<Chunk>>;

/// A body that is passed on as it comes.
#[derive(Debug)]
pub(crate) struct Relayed {
    body: Incoming,
    exchange: Arc<Exchange>,
    way: Way,
    /// Whose answer it is; none if it is a request's.
    from: Option<From>,
}

/// Where an answer comes from.
#[derive(Debug)]
struct From {
    row: Arc<Row>,
    /// The request is the endpoint's until its answer has been read.
    _lease: UpstreamLease,
}

impl Relayed {
    /// A request's body.
    pub(crate) fn request(body: Incoming, exchange: Arc<Exchange>) -> Self {
        Self { body, exchange, way: Way::Upstream, from: None }
    }

    /// An answer's body.
    pub(crate) fn answer(
        body: Incoming,
        exchange: Arc<Exchange>,
        row: Arc<Row>,
        lease: UpstreamLease,
    ) -> Self {
        Self { body, exchange, way: Way::Downstream, from: Some(From { row, _lease: lease }) }
    }
}

impl hyper::body::Body for Relayed {
    type Data = Chunk;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, hyper::Error>>> {
        self.exchange.flow(self.way).open();
        let mut polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(polled, Some(Ok(_))) || self.body.is_end_stream() {
            self.exchange.flow(self.way).close();
        }
        if self.way == Way::Upstream {
            look_at_request(&mut polled, &self.exchange);
        }
        if let (Some(Err(_)), Some(from)) = (&polled, &self.from) {
            from.row.error(ErrorReason::UpstreamAborted);
        }
        let chunk = |bytes| Chunk::new(bytes, self.exchange.clone(), self.way);
        Poll::Ready(polled.map(|frame| frame.map(|frame| frame.map_data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Looks at what comes of a request's body.
fn look_at_request<B>(polled: &mut Option<Result<Frame<B>, hyper::Error>>, exchange: &Exchange) {
    match polled {
        Some(Err(error)) => exchange.broken(why_broken(error)),
        // What an endpoint may take for a header is as little to be believed behind the body.
        Some(Ok(frame)) => {
            if let Some(trailers) = frame.trailers_mut() {
                forwarding::forget(trailers);
            }
        }
        None => {}
    }
}

/// Why a request's body doesn't go on: what came isn't HTTP, or nothing comes any more.
fn why_broken(error: &hyper::Error) -> ErrorReason {
    let mut causes = successors(error.source(), |&cause| cause.source());
    match causes.find_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind())) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => ErrorReason::BadBody,
        _ => ErrorReason::DownstreamGone,
    }
}
