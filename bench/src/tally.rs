//! What the clients of a sample count together.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often each thing went wrong, by what it was.
pub(crate) type Errors = BTreeMap<String, u64>;

/// Counts of clients that work until they are told to stop.
#[derive(Default)]
pub(crate) struct Tally {
    timed: AtomicBool,
    stop: AtomicBool,
    done: AtomicU64,
    durations: Mutex<Vec<Duration>>,
    errors: Mutex<Errors>,
}

impl Tally {
    /// From now on it counts how long operations take: clients are warm.
    pub(crate) fn start(&self) {
        self.timed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Operations or bytes that are done.
    pub(crate) fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Counts an error, and lets what it comes from recover.
    pub(crate) fn fail(&self, error: impl fmt::Display) {
        self.lose(error);
        thread::sleep(Duration::from_millis(10));
    }

    /// Counts an error.
    pub(crate) fn lose(&self, error: impl fmt::Display) {
        *lock(&self.errors).entry(error.to_string()).or_default() += 1;
    }

    /// How long operations took, and what went wrong.
    pub(crate) fn into_parts(self) -> (Vec<Duration>, Errors) {
        let durations = self.durations.into_inner().unwrap_or_else(PoisonError::into_inner);
        (durations, self.errors.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One client's part, kept by itself so that clients don't wait for each other. Dropped, it is added.
pub(crate) struct Record<'a> {
    tally: &'a Tally,
    done: u64,
    durations: Vec<Duration>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(tally: &'a Tally) -> Self {
        Self { tally, done: 0, durations: Vec::new() }
    }

    /// An operation is done.
    pub(crate) fn took(&mut self, began: Instant, now: Instant) {
        self.done += 1;
        if self.tally.timed.load(Ordering::Relaxed) && self.tally.goes_on() {
            self.durations.push(now - began);
        }
    }

    /// Tells how many operations are done.
    pub(crate) fn tell(&mut self) {
        self.tally.add(std::mem::take(&mut self.done));
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.tell();
        lock(&self.tally.durations).append(&mut self.durations);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_timed_once_clients_are_warm() {
        let tally = Tally::default();
        let mut record = Record::new(&tally);
        let now = Instant::now();
        record.took(now, now + Duration::from_secs(9));
        tally.start();
        record.took(now, now + Duration::from_secs(1));
        record.tell();
        assert_eq!(tally.done(), 2);
        drop(record);
        tally.lose("a reset");
        let (durations, errors) = tally.into_parts();
        assert_eq!(durations, [Duration::from_secs(1)]);
        assert_eq!(errors.get("a reset"), Some(&1));
    }
}
