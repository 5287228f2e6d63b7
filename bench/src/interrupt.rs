//! The end that a person asks for: what was made is removed before the process ends.

use std::{
    io,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    select,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::Result;

static ASKED: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();

/// From now on SIGINT, SIGTERM and SIGHUP end the next [`sleep`], rather than the process at once.
pub(crate) fn listen() -> Result<()> {
    let (runtime, signals) = signals().map_err(|error| format!("signals: {error}"))?;
    thread::spawn(move || {
        runtime.block_on(any_of(signals));
        *ASKED.lock().unwrap_or_else(PoisonError::into_inner) = true;
        CHANGED.notify_all();
    });
    Ok(())
}

/// Waits that long.
///
/// # Errors
/// If a signal asks to end.
pub(crate) fn sleep(duration: Duration) -> Result<()> {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = CHANGED.wait_timeout_while(asked, duration, |asked| !*asked);
    let (asked, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if *asked { Err("interrupted".to_owned()) } else { Ok(()) }
}

/// # Errors
/// If a signal has asked to end.
pub(crate) fn check() -> Result<()> {
    sleep(Duration::ZERO)
}

fn signals() -> io::Result<(Runtime, [Signal; 3])> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    drop(inside);
    Ok((runtime, signals))
}

async fn any_of([mut interrupt, mut terminate, mut hangup]: [Signal; 3]) {
    select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
