//! What l4way answers itself.

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{Either, Full};

use crate::{body::Body, counters::ErrorReason, flow::Chunk};

/// The answer to a request that no endpoint answers.
pub(crate) fn answer(reason: ErrorReason) -> Response<Body> {
    let status = reason.status().unwrap_or(StatusCode::BAD_GATEWAY);
    let text = format!("{status}: {}\n", explain(reason));
    let mut response = Response::new(Either::Right(Full::new(Chunk::own(text))));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// A sentence for the person at the client's side. It tells nothing of what is behind the gateway.
fn explain(reason: ErrorReason) -> &'static str {
    match reason {
        ErrorReason::BadHost => "the request has to name one host",
        ErrorReason::BadTarget => "the request's target is none that can be looked up",
        ErrorReason::BadBody => "the request's body can't be read",
        ErrorReason::CodingNotSupported => "the gateway doesn't know the body's transfer coding",
        ErrorReason::MethodNotSupported => "the gateway doesn't know this method",
        ErrorReason::NoListener => "no listener is for this host",
        ErrorReason::Misdirected => "this host needs a connection of its own",
        ErrorReason::NoRoute => "no route matches this request",
        ErrorReason::InvalidBackend | ErrorReason::NoWeight => "the route leads nowhere",
        ErrorReason::NoEndpoint => "nobody is there to answer",
        ErrorReason::OutOfResources => "the gateway has no room for this request now",
        ErrorReason::Loop => "the request has been here before",
        ErrorReason::ConnectFailed => "nobody who should answer can be reached",
        ErrorReason::UpstreamTlsFailed => "nobody who should answer can be trusted",
        ErrorReason::ConnectTimeout => "nobody who should answer does in time",
        ErrorReason::RequestTimeout => "the rest of the request didn't come within time",
        ErrorReason::UpstreamStalled | ErrorReason::AnswerTimeout => {
            "nobody who should answer does in time"
        }
        ErrorReason::MemoryBudget => "the gateway is short of memory",
        ErrorReason::DownstreamGone => "the request broke off",
        ErrorReason::UpstreamFailed
        | ErrorReason::DownstreamStalled
        | ErrorReason::UpstreamAborted => "the answer can't be understood",
    }
}
