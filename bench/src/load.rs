//! Clients at work, and what is read of a gateway meanwhile.

use std::{
    io,
    thread::{self, Builder, Scope},
    time::{Duration, Instant},
};

use crate::{
    Result,
    backend::Backend,
    client::{Client, ECDSA_PORT, RSA_PORT, Session},
    gateway::Gateway,
    interrupt,
    mode::Mode,
    network::Network,
    process,
    stats::Stats,
    tally::{Errors, Tally},
};

/// How many clients begin sessions at a time.
const SESSIONS_AT_A_TIME: usize = 16;
/// How many sessions move bulk data.
const BULK_SESSIONS: usize = 4;
/// How long clients work before it counts.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long a gateway has to tidy up before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// The threads of clients, by whose name their CPU time is found.
const CLIENT: &str = "client";

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) network: &'a Network,
    pub(crate) backend: &'a Backend,
    pub(crate) gateway: &'a Gateway,
}

/// One measurement.
pub(crate) struct Sample {
    /// The values of the mode's figures.
    pub(crate) values: Vec<f64>,
    pub(crate) errors: Errors,
}

/// How much of a mode is done for one sample.
#[derive(Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) duration: Duration,
    pub(crate) idle_sessions: usize,
}

impl Stage<'_> {
    /// Takes one sample.
    ///
    /// # Errors
    /// If nothing could be measured: the gateway is gone, or nothing was done.
    pub(crate) fn sample(self, mode: Mode, amount: Amount) -> Result<Sample> {
        match mode {
            Mode::TlsIdle => self.idle(amount.idle_sessions),
            _ => self.busy(mode, amount.duration),
        }
    }

    fn busy(self, mode: Mode, duration: Duration) -> Result<Sample> {
        let tally = Tally::default();
        let clients = match mode {
            Mode::TlsBulk | Mode::TlsBulkUp => BULK_SESSIONS,
            _ => SESSIONS_AT_A_TIME,
        };
        let change = thread::scope(|scope| {
            for _ in 0..clients {
                self.spawn(scope, &tally, || work(mode, &tally))?;
            }
            let change = self.watch(mode, &tally, duration);
            tally.stop();
            change
        });
        let (durations, errors) = tally.into_parts();
        let change = change?;
        if change.done == 0 {
            let why = errors.into_keys().next().unwrap_or_default();
            return Err(format!("nothing was done in {} s: {why}", duration.as_secs_f64()));
        }
        let mut values = change.values(mode);
        if !durations.is_empty() {
            let milliseconds = durations.iter().map(|duration| duration.as_secs_f64() * 1e3);
            let latency = Stats::new(milliseconds.collect());
            values.extend([latency.median(), latency.quantile(0.99)]);
        }
        Ok(Sample { values, errors })
    }

    /// Runs a client in a thread of its own, among the network's clients.
    fn spawn<'scope, 'env>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        tally: &'scope Tally,
        work: impl FnOnce() -> Result<()> + Send + 'scope,
    ) -> Result<()>
    where
        Self: 'scope,
    {
        let client = move || {
            if let Err(error) = self.network.clients.enter().and_then(|()| work()) {
                tally.fail(error);
            }
        };
        let spawned = Builder::new().name(CLIENT.to_owned()).spawn_scoped(scope, client);
        spawned.map(|_| ()).map_err(|error| {
            tally.stop();
            format!("a client's thread: {error}")
        })
    }

    /// What happens in that time, after the warm-up.
    fn watch(self, mode: Mode, tally: &Tally, duration: Duration) -> Result<Reading> {
        let read = || -> Result<Reading> {
            Ok(Reading {
                duration: Duration::ZERO,
                done: if mode == Mode::TlsBulkUp { self.backend.uploaded() } else { tally.done() },
                gateway: self.gateway.cpu()?,
                clients: process::cpu_of_threads(CLIENT),
                idle: process::idle(),
            })
        };
        interrupt::sleep(WARM_UP)?;
        let (began, before) = (Instant::now(), read()?);
        interrupt::sleep(duration)?;
        let after = read()?;
        Ok(Reading {
            duration: began.elapsed(),
            done: after.done - before.done,
            gateway: after.gateway.saturating_sub(before.gateway),
            clients: after.clients.saturating_sub(before.clients),
            idle: after.idle.saturating_sub(before.idle),
        })
    }

    fn idle(self, count: usize) -> Result<Sample> {
        let tally = Tally::default();
        // What the gateway makes once and keeps isn't the sessions'.
        drop(self.open(SESSIONS_AT_A_TIME, &tally)?);
        interrupt::sleep(SETTLE)?;
        let before = self.gateway.memory()?;
        let mut sessions = self.open(count, &tally)?;
        interrupt::sleep(SETTLE)?;
        let after = self.gateway.memory()?;
        for error in sessions.iter_mut().filter_map(|session| session.exchange().err()) {
            tally.fail(format!("an idle session was lost: {error}"));
        }
        let (_, errors) = tally.into_parts();
        let each = (after as f64 - before as f64) / count as f64;
        Ok(Sample { values: vec![each / 1024.0], errors })
    }

    fn open(self, count: usize, tally: &Tally) -> Result<Vec<Session>> {
        let client = Client::hasty(ECDSA_PORT).map_err(|error| error.to_string())?;
        let open = || (0..count).filter_map(|_| counted(client.open(), tally)).collect();
        self.network.clients.run(open)
    }
}

/// What a client does until the end.
fn work(mode: Mode, tally: &Tally) -> Result<()> {
    let client = match mode {
        Mode::TlsHandshakeFullRsa => Client::hasty(RSA_PORT),
        Mode::TlsHandshakeResumed => Client::resuming(ECDSA_PORT),
        _ => Client::hasty(ECDSA_PORT),
    };
    let client = client.map_err(|error| error.to_string())?;
    match mode {
        Mode::TlsBulk => repeat(tally, || {
            client.open()?.download(|length| {
                tally.add(length as u64);
                tally.goes_on()
            })
        }),
        Mode::TlsBulkUp => repeat(tally, || client.open()?.upload(|| tally.goes_on())),
        Mode::TlsHandshakeResumed => {
            // The first session gets the ticket.
            client.open().and_then(Session::close).map_err(|error| error.to_string())?;
            begin_sessions(&client, true, tally);
        }
        _ => begin_sessions(&client, false, tally),
    }
    Ok(())
}

/// Begins one session after the other.
fn begin_sessions(client: &Client, resumed: bool, tally: &Tally) {
    let mut durations = Vec::new();
    repeat(tally, || {
        let began = Instant::now();
        let session = client.open()?;
        if session.was_resumed() != resumed {
            return Err(io::Error::other("the handshake was of the wrong kind"));
        }
        session.close()?;
        durations.push(began.elapsed());
        tally.add(1);
        Ok(())
    });
    tally.took(durations);
}

fn repeat(tally: &Tally, mut operation: impl FnMut() -> io::Result<()>) {
    while tally.goes_on() {
        counted(operation(), tally);
    }
}

/// The result, the error being counted.
fn counted<T>(result: io::Result<T>, tally: &Tally) -> Option<T> {
    result.map_err(|error| tally.fail(error)).ok()
}

/// What counters say, or by how much they grew.
struct Reading {
    duration: Duration,
    /// Operations or bytes.
    done: u64,
    /// CPU time of the gateway.
    gateway: Duration,
    /// CPU time of the clients.
    clients: Duration,
    /// CPU time that nobody used.
    idle: Duration,
}

impl Reading {
    fn values(&self, mode: Mode) -> Vec<f64> {
        let seconds = self.duration.as_secs_f64();
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let percent = |time: Duration| 100.0 * time.as_secs_f64() / (seconds * cpus as f64);
        // Millions of operations in µs for each, or GB and ms for each.
        let (rate, cost) = match mode {
            Mode::TlsBulk | Mode::TlsBulkUp => (1e-6, 1e3 * 1e9),
            _ => (1.0, 1e6),
        };
        let done = self.done as f64;
        vec![
            done * rate / seconds,
            self.gateway.as_secs_f64() * cost / done,
            percent(self.clients),
            percent(self.idle),
        ]
    }
}
