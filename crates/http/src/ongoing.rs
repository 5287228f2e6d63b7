//! A request and its answer, as far as their silence matters.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    connection::STREAM_WINDOW,
    control::Shared,
    counters::{ErrorReason, Row},
    flow::Flow,
    pulse::{End, Pulse},
    settings::Timeouts,
};

/// A direction of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The request's.
    Upstream,
    /// The answer's.
    Downstream,
}

/// A request and its answer. It lasts until nothing of either is left here.
#[derive(Debug)]
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    /// Its place among those that are watched.
    place: usize,
    row: Arc<Row>,
    upward: Flow,
    downward: Flow,
    /// The client's connection.
    pulse: Arc<Pulse>,
    /// Ends its stream of HTTP/2; none if it has the connection to itself.
    stream: Option<Arc<Notify>>,
    /// Ends the connection to the endpoint.
    upstream: Mutex<Option<Arc<Notify>>>,
    /// It has no timeouts.
    patient: bool,
    /// The endpoint has begun to answer.
    answered: AtomicBool,
    /// It has waited for too long, or has to go.
    ended: Mutex<Option<ErrorReason>>,
    given_up: Notify,
}

impl Exchange {
    /// One that begins now. One that is `patient` may be silent for as long as it wants.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        row: Arc<Row>,
        pulse: Arc<Pulse>,
        stream: Option<Arc<Notify>>,
        patient: bool,
    ) -> Arc<Self> {
        let begun = Instant::now();
        let flow = || Flow::new(shared.settings.process.memory.clone(), begun);
        pulse.begin_exchange();
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            shared: shared.clone(),
            place: shared.exchanges.enter(this.clone()),
            row,
            upward: flow(),
            downward: flow(),
            pulse,
            stream,
            upstream: Mutex::default(),
            patient,
            answered: AtomicBool::new(false),
            ended: Mutex::default(),
            given_up: Notify::new(),
        })
    }

    pub(crate) fn flow(&self, way: Way) -> &Flow {
        match way {
            Way::Upstream => &self.upward,
            Way::Downstream => &self.downward,
        }
    }

    /// Waits until nothing is held of a body; how much may be read of it at once then.
    pub(crate) fn poll_read_size(&self, way: Way, waker: &Waker) -> Poll<usize> {
        self.flow(way).poll_read_size(self.shared.exchanges.count(), waker)
    }

    /// What may have come of a body, beside the chunk that is held: HTTP/2 takes in as much as its window
    /// allows.
    pub(crate) fn unread(&self, way: Way) -> usize {
        match way {
            Way::Upstream if self.stream.is_some() => STREAM_WINDOW as usize,
            _ => 0,
        }
    }

    /// It goes by the connection to an endpoint that this ends.
    pub(crate) fn goes_by(&self, upstream: Arc<Notify>) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(upstream);
    }

    /// The endpoint has sent all of its answer, and its connection may be another exchange's from now on.
    pub(crate) fn let_go(&self) {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Ends the connection to the endpoint.
    pub(crate) fn hang_up(&self) {
        let upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(upstream) = upstream {
            upstream.notify_one();
        }
    }

    /// The endpoint has begun to answer.
    pub(crate) fn answered(&self) {
        // It may have come at the last moment.
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.answered.store(true, Relaxed);
        self.downward.open();
    }

    /// The request broke off, for which the endpoint isn't to blame.
    pub(crate) fn broken(&self, reason: ErrorReason) {
        if !self.answered.load(Relaxed) {
            self.end(reason);
        }
    }

    /// Why it ended before it was answered, if it isn't the endpoint that is to blame.
    pub(crate) fn ended(&self) -> Option<ErrorReason> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is given up before it is answered.
    pub(crate) async fn given_up(&self) -> ErrorReason {
        loop {
            self.given_up.notified().await;
            if let Some(reason) = self.ended() {
                return reason;
            }
        }
    }

    /// Why it has to end, if somebody has been silent for too long.
    pub(crate) fn overdue(&self, timeouts: &Timeouts, now: Instant) -> Option<ErrorReason> {
        if self.patient {
            return None;
        }
        let (upward, downward) = (self.upward.silence(now), self.downward.silence(now));
        let answered = self.answered.load(Relaxed);
        if self.downward.is_held() {
            (downward >= timeouts.body_idle).then_some(ErrorReason::DownstreamStalled)
        } else if self.upward.is_held() {
            (upward >= timeouts.body_idle).then_some(ErrorReason::UpstreamStalled)
        } else if !answered && self.upward.is_open() && upward >= timeouts.body_idle {
            Some(ErrorReason::RequestTimeout)
        } else {
            (upward.min(downward) >= timeouts.stream_idle).then_some(ErrorReason::AnswerTimeout)
        }
    }

    /// How long the side has been silent that doesn't take what is held for it, and what that costs.
    pub(crate) fn stalled(&self, now: Instant) -> Option<(Duration, usize)> {
        let flows = [&self.upward, &self.downward].into_iter().filter(|flow| flow.is_held());
        flows.map(|flow| (flow.silence(now), flow.held())).max()
    }

    /// Ends it. If there is no answer yet, the client may be told.
    pub(crate) fn end(&self, reason: ErrorReason) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.replace(reason).is_some() {
            return;
        }
        drop(ended);
        if !self.answered.load(Relaxed) {
            return self.given_up.notify_one();
        }
        self.row.error(reason);
        self.hang_up();
        if !self.downward.is_open() && !self.downward.is_held() {
            // The client has its answer: only the endpoint has still to read.
            return;
        }
        match &self.stream {
            Some(stream) => stream.notify_one(),
            None if reason == ErrorReason::MemoryBudget => self.pulse.end(End::Memory),
            None => self.pulse.end(End::Stalled),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.shared.exchanges.leave(self.place);
        self.pulse.end_exchange();
    }
}
