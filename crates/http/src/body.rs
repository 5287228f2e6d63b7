//! Bodies of answers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};

use crate::{
    counters::{ErrorReason, Row},
    endpoints::UpstreamLease,
};

/// A body from an endpoint, or one of l4way's own.
pub(crate) type Body = Either<Relayed, Full<Bytes>>;

/// A body from an endpoint, passed on as it comes.
#[derive(Debug)]
pub(crate) struct Relayed {
    body: Incoming,
    row: Arc<Row>,
    /// The request is the endpoint's until its answer has been read.
    _lease: UpstreamLease,
}

impl Relayed {
    pub(crate) fn new(body: Incoming, row: Arc<Row>, lease: UpstreamLease) -> Self {
        Self { body, row, _lease: lease }
    }
}

impl hyper::body::Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = polled {
            self.row.error(ErrorReason::UpstreamAborted);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
