//! What the clients of a sample count together.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// How often each thing went wrong, by what it was.
pub(crate) type Errors = BTreeMap<String, u64>;

/// Counts of clients that work until they are told to stop.
#[derive(Default)]
pub(crate) struct Tally {
    stop: AtomicBool,
    done: AtomicU64,
    durations: Mutex<Vec<Duration>>,
    errors: Mutex<Errors>,
}

impl Tally {
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

    /// How long a client's operations took.
    pub(crate) fn took(&self, durations: Vec<Duration>) {
        lock(&self.durations).extend(durations);
    }

    /// Counts an error, and lets what it comes from recover.
    pub(crate) fn fail(&self, error: impl fmt::Display) {
        *lock(&self.errors).entry(error.to_string()).or_default() += 1;
        thread::sleep(Duration::from_millis(10));
    }

    /// How long operations took, and what went wrong.
    pub(crate) fn into_parts(self) -> (Vec<Duration>, Errors) {
        let durations = self.durations.into_inner().unwrap_or_else(PoisonError::into_inner);
        (durations, self.errors.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
