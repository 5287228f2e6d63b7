//! The signals that a service is told with (signal(7)).

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// The signals that are waited for.
pub(crate) struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP: to read everything again.
    Reload,
    /// SIGTERM: to end when the sessions have ended.
    Drain,
    /// SIGINT, a person at the terminal: to end at once.
    End,
}

impl Signals {
    /// Takes the signals over from their default actions.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one. None is lost if the wait is given up.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::Drain,
            _ = self.interrupt.recv() => Signal::End,
        }
    }
}
