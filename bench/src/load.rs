//! Clients at work, and what is read of a gateway meanwhile.

use std::{
    io,
    process::id,
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
        let readings = thread::scope(|scope| {
            for _ in 0..clients {
                self.spawn(scope, &tally, || work(mode, &tally))?;
            }
            let readings = self.watch(mode, &tally, duration);
            tally.stop();
            readings
        });
        let (durations, errors) = tally.into_parts();
        let [before, after] = readings?;
        if after.done == before.done {
            let why = errors.into_keys().next().unwrap_or_default();
            return Err(format!("nothing was done in {} s: {why}", duration.as_secs_f64()));
        }
        let mut values = after.values_since(&before, mode);
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

    /// What counters say at the ends of that time, which begins after the warm-up.
    fn watch(self, mode: Mode, tally: &Tally, duration: Duration) -> Result<[Reading; 2]> {
        interrupt::sleep(WARM_UP)?;
        let before = self.read(mode, tally)?;
        interrupt::sleep(duration)?;
        Ok([before, self.read(mode, tally)?])
    }

    fn read(self, mode: Mode, tally: &Tally) -> Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            done: if mode == Mode::TlsBulkUp { self.backend.uploaded() } else { tally.done() },
            gateway: self.gateway.cpu()?,
            bench: process::cpu_of(&[id()])?,
            clients: process::cpu_of_threads(CLIENT),
            idle: process::idle(),
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
        if sessions.is_empty() {
            return Err("no session could be opened".to_owned());
        }
        let each = (after as f64 - before as f64) / sessions.len() as f64;
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

/// What counters say.
struct Reading {
    at: Instant,
    /// Operations or bytes.
    done: u64,
    /// CPU time of the gateway.
    gateway: Duration,
    /// CPU time of this process, with its clients and its backend.
    bench: Duration,
    /// CPU time of the clients.
    clients: Duration,
    /// CPU time that nobody used.
    idle: Duration,
}

impl Reading {
    /// The values of the mode's first figures, from how much each counter grew.
    fn values_since(&self, before: &Self, mode: Mode) -> Vec<f64> {
        let seconds = |of: fn(&Self) -> Duration| of(self).saturating_sub(of(before)).as_secs_f64();
        let done = (self.done - before.done) as f64;
        let elapsed = (self.at - before.at).as_secs_f64();
        let gateway = seconds(|reading| reading.gateway);
        let idle = seconds(|reading| reading.idle);
        let available = elapsed * thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let others = available - idle - gateway - seconds(|reading| reading.bench);
        let percent = |seconds: f64| 100.0 * seconds / available;
        // In MB and in ms for each GB, or as operations and in µs for each.
        let (unit, cost) = match mode {
            Mode::TlsBulk | Mode::TlsBulkUp => (1e-6, 1e3 * 1e9),
            _ => (1.0, 1e6),
        };
        vec![
            done * unit / elapsed,
            gateway * cost / done,
            percent(seconds(|reading| reading.clients)),
            percent(others.max(0.0)),
            percent(idle),
        ]
    }
}
