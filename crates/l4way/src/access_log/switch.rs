use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use l4way_session::Tap;

use super::{AccessLog, Output};

/// The access log, on or off. There is no thread before it is on for the first time.
#[derive(Debug)]
pub(crate) struct Switch {
    tap: Tap,
    output: Output,
    log: Option<AccessLog>,
    unwritten: Arc<AtomicU64>,
}

impl Switch {
    /// An access log that is on, if there is a path for it, and off otherwise.
    ///
    /// # Errors
    /// If the file can't be opened, or no thread started.
    pub(crate) fn new(path: Option<&Path>) -> io::Result<Self> {
        let (tap, unwritten) = Default::default();
        let output = path.map_or(Output::Stdout, Output::of);
        let mut switch = Self { tap, output, log: None, unwritten };
        if path.is_some() {
            switch.set(true)?;
        }
        Ok(switch)
    }

    /// Tap on sessions, which is everywhere the same.
    pub(crate) fn tap(&self) -> Tap {
        self.tap.clone()
    }

    /// Switches it on or off. Without a path, it goes to standard output.
    ///
    /// # Errors
    /// If no thread can be started. It stays off then.
    pub(crate) fn set(&mut self, on: bool) -> io::Result<()> {
        if !on {
            self.tap.switch_off();
            return Ok(());
        }
        let mut sink = None;
        if self.log.is_none() {
            let (log, records) = AccessLog::start(self.output.clone(), self.unwritten.clone())?;
            (self.log, sink) = (Some(log), Some(records));
        }
        self.tap.switch_on(sink);
        Ok(())
    }

    /// Opens its file again, see [`AccessLog::reopen`].
    ///
    /// # Errors
    /// If the file can't be opened. Then the old one stays in use.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        self.log.as_ref().map_or(Ok(()), AccessLog::reopen)
    }

    /// Counts the records that could not be written, even after the log has ended.
    pub(crate) fn unwritten(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let unwritten = self.unwritten.clone();
        move || unwritten.load(Relaxed)
    }

    /// Waits until the last record is written. All else that has the [`tap`](Self::tap) has to be
    /// gone, or to go meanwhile.
    pub(crate) fn finish(self) {
        drop(self.tap);
        if let Some(log) = self.log {
            log.finish();
        }
    }
}
