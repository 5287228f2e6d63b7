//! A client's connection, as far as its silence matters.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use l4way_session::CloseReason;
use tokio::sync::Notify;

use crate::{control::Shared, settings::Timeouts};

/// What a client is told that has begun a head and doesn't go on (RFC 9110, section 15.5.9).
pub(crate) const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 57\r\nconnection: close\r\n\r\n\
    408 Request Timeout: the request didn't come within time\n";

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    shared: Arc<Shared>,
    /// Its place among those that are watched.
    place: usize,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    exchanges: usize,
    end: Option<End>,
}

/// What is waited for when there is no exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first byte of the first request.
    New,
    /// The rest of a head.
    Head,
    /// The next request.
    Idle,
    /// Nothing: another protocol is spoken.
    Upgraded,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing has been asked for long.
    Idle,
    /// A head didn't come within time.
    Head,
    /// Who takes nothing was waited for too long.
    Stalled,
    /// Memory is short.
    Memory,
    /// Others need its place.
    Evicted,
}

impl Pulse {
    /// Of a connection that began at `begun`.
    pub(crate) fn new(shared: &Arc<Shared>, begun: Instant) -> Arc<Self> {
        let state = State { phase: Phase::New, since: begun, exchanges: 0, end: None };
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            shared: shared.clone(),
            place: shared.connections.enter(this.clone()),
            state: Mutex::new(state),
            ended: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come. If no request is there, they begin one.
    pub(crate) fn heard(&self) {
        let mut state = self.state();
        match state.phase {
            _ if state.exchanges > 0 => {}
            // The time runs from the connection's begin.
            Phase::New => state.phase = Phase::Head,
            Phase::Head | Phase::Upgraded => {}
            Phase::Idle => {
                state.phase = Phase::Head;
                state.since = Instant::now();
            }
        }
    }

    /// Nothing is to come but whole requests: HTTP/2 has begun.
    pub(crate) fn agreed(&self) {
        let mut state = self.state();
        state.phase = Phase::Idle;
        state.since = Instant::now();
    }

    /// A request is there.
    pub(crate) fn requested(&self) {
        self.agreed();
    }

    /// Another protocol is spoken from now on, which may be silent for as long as it wants.
    pub(crate) fn upgraded(&self) {
        self.state().phase = Phase::Upgraded;
    }

    pub(crate) fn begin_exchange(&self) {
        self.state().exchanges += 1;
    }

    pub(crate) fn end_exchange(&self) {
        let mut state = self.state();
        state.exchanges -= 1;
        state.since = Instant::now();
    }

    /// Why it has to end, if the client has been silent for too long.
    pub(crate) fn overdue(&self, timeouts: &Timeouts, now: Instant) -> Option<End> {
        let state = self.state();
        if state.exchanges > 0 {
            return None;
        }
        let silence = now.saturating_duration_since(state.since);
        match (state.phase, state.end) {
            (Phase::Upgraded, _) => None,
            // It was told, and doesn't even take that.
            (_, Some(_)) => (silence >= 2 * timeouts.keep_alive_idle).then_some(End::Stalled),
            (Phase::New, _) => (silence >= timeouts.head).then_some(End::Idle),
            (Phase::Head, _) => (silence >= timeouts.head).then_some(End::Head),
            (Phase::Idle, _) => (silence >= timeouts.keep_alive_idle).then_some(End::Idle),
        }
    }

    /// Has it end.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state();
        if state.end != Some(end) {
            state.end = Some(end);
            self.ended.notify_one();
        }
    }

    /// Has it end, if there was no request for so long, and it hasn't to end anyway.
    pub(crate) fn evict(&self, silence: Duration) -> bool {
        let is_evicted = {
            let state = self.state();
            let is_idle = state.exchanges == 0 && state.phase != Phase::Upgraded;
            is_idle && state.end.is_none() && state.since.elapsed() >= silence
        };
        if is_evicted {
            self.end(End::Evicted);
        }
        is_evicted
    }

    /// Why it has to end, as soon as it has to.
    pub(crate) async fn ended(&self) -> End {
        loop {
            self.ended.notified().await;
            if let Some(end) = self.end_reason() {
                return end;
            }
        }
    }

    /// Why it has to end, if it has to.
    pub(crate) fn end_reason(&self) -> Option<End> {
        self.state().end
    }
}

impl From<End> for CloseReason {
    fn from(end: End) -> Self {
        match end {
            End::Idle | End::Head | End::Stalled => Self::IdleTimeout,
            End::Memory => Self::MemoryBudget,
            End::Evicted => Self::EvictedIdle,
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.shared.connections.leave(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = str::from_utf8(REQUEST_TIMEOUT).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
