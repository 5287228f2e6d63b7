//! What every request to the API server passes: requests wait while the server is in need, nothing is
//! changed by who leads no longer, and no answer is waited for without end.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::RETRY_AFTER, request::Parts};
use kube::{Client, client::Body};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tower::{BoxError, Service};
use tracing::{info, warn};

use crate::{
    budget::{Admission, Answer, Budget, Change, Lane},
    fence::Fence,
};

/// How long the server has to answer anything but a list or a watch, from when the request goes out.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

type Reply = Response<Body>;

/// One way through, of the requests of a lane. All ways of a client have one budget.
#[derive(Clone)]
pub(crate) struct Gatekeeper {
    gate: Arc<Gate>,
    lane: Lane,
}

struct Gate {
    /// What sends requests to the server.
    sender: Client,
    budget: Mutex<Budget>,
    /// Tells those who wait that they may look again before their time.
    changed: Notify,
    fence: Fence,
}

/// This replica leads no longer, so it changes nothing.
#[derive(Debug)]
struct Fenced;

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this replica doesn't lead any more, as its Lease has run out")
    }
}

impl std::error::Error for Fenced {}

/// Whether a request wasn't made because another process may lead.
pub fn is_fenced(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(error) if error.is::<Fenced>())
}

/// The server has taken a request, and hasn't answered.
#[derive(Debug)]
struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", ANSWER_TIMEOUT.as_secs())
    }
}

impl std::error::Error for NoAnswer {}

impl Gatekeeper {
    /// Ways for ordinary requests, and for those about Leases.
    pub(crate) fn ways(sender: Client, fence: Fence) -> [Self; 2] {
        let gate = Arc::new(Gate {
            sender,
            budget: Mutex::new(Budget::new()),
            changed: Notify::new(),
            fence,
        });
        [Lane::Ordinary, Lane::Lease].map(|lane| Self { gate: gate.clone(), lane })
    }
}

impl Service<Request<Body>> for Gatekeeper {
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { gate, lane } = self.clone();
        Box::pin(async move { gate.pass(lane, request).await })
    }
}

impl Gate {
    async fn pass(&self, lane: Lane, request: Request<Body>) -> Result<Reply, BoxError> {
        let (parts, mut body) = request.into_parts();
        let target = Target::of(parts.uri.path());
        loop {
            if lane == Lane::Ordinary {
                self.admitted().await;
                // The last thing before the request is begun, however long that has taken.
                if !is_read(&parts) && !self.fence.is_open() {
                    return Err(Fenced.into());
                }
            }
            let spare = body.try_clone();
            let request = Request::from_parts(parts.clone(), body);
            let reply = self.ask(request, is_short(&parts, &target)).await;
            let answer = answer_of(&reply, target.plural);
            self.answered(lane, answer);
            match spare {
                // The server has done nothing, and wants to be asked again. A Lease's request is its
                // sender's to repeat, or it would be late.
                Some(spare) if matches!(answer, Answer::Later(_)) && lane == Lane::Ordinary => {
                    body = spare;
                }
                _ => return reply,
            }
        }
    }

    /// Waits until an ordinary request may go out.
    async fn admitted(&self) {
        loop {
            let changed = self.changed.notified();
            let admission = self.budget().admit(Instant::now());
            match admission {
                Admission::Now => return,
                Admission::At(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = changed => {}
                },
            }
        }
    }

    async fn ask(&self, request: Request<Body>, is_short: bool) -> Result<Reply, BoxError> {
        if !is_short {
            return Ok(self.sender.send(request).await?);
        }
        let whole = async {
            let (parts, body) = self.sender.send(request).await?.into_parts();
            Ok::<_, kube::Error>(Response::from_parts(parts, body.collect_bytes().await?.into()))
        };
        match timeout(ANSWER_TIMEOUT, whole).await {
            Ok(reply) => Ok(reply?),
            Err(_) => Err(NoAnswer.into()),
        }
    }

    fn answered(&self, lane: Lane, answer: Answer<'_>) {
        let change = self.budget().answered(lane, answer, Instant::now());
        match change {
            Change::Nothing => return,
            Change::InNeed(pause) => {
                let pause = format!("{:.1} s", pause.as_secs_f64());
                let why = match answer {
                    Answer::Later(_) => "it asks for that",
                    _ => "its answers have been errors for a while",
                };
                warn!(
                    why,
                    pause, "the API server is in need; all but Leases waits until it is well"
                );
            }
            Change::MayTry => {}
            Change::Well => info!("the API server is asked again"),
        }
        self.changed.notify_waiters();
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_read(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
}

/// Whether the answer is one object at most: neither a list nor a watch.
fn is_short(parts: &Parts, target: &Target<'_>) -> bool {
    target.is_one || !is_read(parts)
}

fn answer_of<'a>(reply: &Result<Reply, BoxError>, plural: &'a str) -> Answer<'a> {
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) if error.is::<NoAnswer>() => return Answer::Failed(plural),
        Err(_) => return Answer::None,
    };
    let after = retry_after(reply.headers());
    match reply.status() {
        StatusCode::TOO_MANY_REQUESTS => Answer::Later(after),
        StatusCode::SERVICE_UNAVAILABLE if after.is_some() => Answer::Later(after),
        status if status.is_server_error() => Answer::Failed(plural),
        _ => Answer::Well,
    }
}

/// What Retry-After says. An API server says it in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    /// The kind of object, as in URLs; empty if it is none.
    plural: &'a str,
    /// Whether it is one object, or something else that isn't a list.
    is_one: bool,
}

impl<'a> Target<'a> {
    /// As API paths have it: `/api/VERSION` or `/apis/GROUP/VERSION`, a namespace, a plural, a name.
    fn of(path: &'a str) -> Self {
        let mut parts = path.trim_matches('/').split('/');
        let none = Self { plural: "", is_one: true };
        let of_group = match parts.next() {
            Some("api") => 1,
            Some("apis") => 2,
            _ => return none,
        };
        let rest: Vec<_> = parts.skip(of_group).collect();
        match *rest {
            ["namespaces", _, plural] => Self { plural, is_one: false },
            ["namespaces", _, plural, ..] => Self { plural, is_one: true },
            [plural] => Self { plural, is_one: false },
            [plural, ..] => Self { plural, is_one: true },
            [] => none,
        }
    }
}

#[cfg(test)]
mod tests;
