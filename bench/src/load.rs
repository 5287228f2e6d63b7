//! Clients at work, and what is read of a gateway meanwhile.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    process::id,
    thread::{self, Builder, Scope},
    time::{Duration, Instant},
};

use crate::{
    Result,
    backend::Backend,
    gateway::Gateway,
    interrupt,
    mode::{Mode, Protocol, Unit},
    network::{FIRST_PORT, Network, PORT},
    process,
    reading::Reading,
    request::{Request, SIZE},
    stats::Stats,
    tally::{Errors, Tally},
    tcp,
    tls::{self, Client, ECDSA_PORT, RSA_PORT},
    udp::{self, Stream},
};

/// How many clients of TLS there are, each with a thread, for encryption is theirs to do as well.
const TLS_CLIENTS: usize = 16;
/// How many threads the clients of TCP and UDP share.
const THREADS: usize = 2;
/// How many connections or flows each of those threads has, with one operation each at a time.
const EXCHANGES: usize = 32;
/// How many connections or flows each of those threads begins at a time.
const BEGINNINGS: usize = 16;
/// How many sessions move bulk data.
const BULK_SESSIONS: usize = 4;
/// How many flows of each thread have a window, enough for every worker to have some.
const FLOWS: usize = 4;
/// How many datagrams are in a window: a receive buffer of the default size has room for them.
const WINDOW: usize = 64;
/// The threads of clients, by whose name their CPU time is found.
const CLIENT: &str = "client";

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) network: &'a Network,
    pub(crate) backend: &'a Backend,
    pub(crate) gateway: &'a Gateway,
    /// The address that clients know.
    pub(crate) target: Ipv4Addr,
}

/// One measurement.
pub(crate) struct Sample {
    /// The values of the mode's figures; some peers don't have all.
    pub(crate) values: Vec<Option<f64>>,
    pub(crate) errors: Errors,
}

/// How much of a mode is done for one sample.
#[derive(Clone, Copy)]
pub(crate) struct Amount {
    /// How long clients work before it counts.
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) idle_sessions: usize,
    /// How long a gateway has to tidy up before its memory is read.
    pub(crate) settle: Duration,
}

/// A session that is open: makes one more exchange.
type Session = Box<dyn FnMut() -> io::Result<()> + Send>;

impl Stage<'_> {
    /// Takes one sample.
    ///
    /// # Errors
    /// If nothing could be measured: the gateway is gone, or nothing was done.
    pub(crate) fn sample(self, mode: Mode, amount: Amount) -> Result<Sample> {
        match mode.unit() {
            Some(unit) => self.busy(mode, unit, amount),
            None => self.idle(mode, amount),
        }
    }

    fn busy(self, mode: Mode, unit: Unit, amount: Amount) -> Result<Sample> {
        let tally = Tally::default();
        let threads = match mode {
            Mode::TlsBulk | Mode::TlsBulkUp => BULK_SESSIONS,
            _ if mode.protocol() == Protocol::Tls => TLS_CLIENTS,
            _ => THREADS,
        };
        let readings = thread::scope(|scope| {
            for _ in 0..threads {
                self.spawn(scope, &tally, || self.work(mode, &tally))?;
            }
            let readings = self.watch(&tally, amount);
            tally.stop();
            readings
        });
        interrupt::sleep(mode.afterlife())?;
        let (durations, errors) = tally.into_parts();
        let [before, after] = readings?;
        if after.done == before.done {
            let why = errors.into_keys().next().unwrap_or_default();
            return Err(format!("nothing was done in {} s: {why}", amount.duration.as_secs_f64()));
        }
        let mut values = after.values_since(&before, unit);
        if unit == Unit::Operations && !durations.is_empty() {
            let milliseconds = durations.iter().map(|duration| duration.as_secs_f64() * 1e3);
            let latency = Stats::new(milliseconds.collect());
            values.extend([0.5, 0.99, 0.999].map(|share| Some(latency.quantile(share))));
        }
        Ok(Sample { values, errors })
    }

    /// Runs clients in a thread of their own, in the network's namespace of clients.
    fn spawn<'scope, 'env>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        tally: &'scope Tally,
        work: impl FnOnce() -> io::Result<()> + Send + 'scope,
    ) -> Result<()>
    where
        Self: 'scope,
    {
        let client = move || {
            let entered = self.network.clients.enter();
            if let Err(error) = entered.and_then(|()| work().map_err(|error| error.to_string())) {
                tally.fail(error);
            }
        };
        let spawned = Builder::new().name(CLIENT.to_owned()).spawn_scoped(scope, client);
        spawned.map(|_| ()).map_err(|error| {
            tally.stop();
            format!("a client's thread: {error}")
        })
    }

    /// What a thread of clients does until the end.
    fn work(self, mode: Mode, tally: &Tally) -> io::Result<()> {
        let target = SocketAddr::from((self.target, PORT));
        let first_target = SocketAddr::from((self.target, FIRST_PORT));
        let bulk = |request| tcp::move_bulk(target, request, BULK_SESSIONS / THREADS, tally);
        let window =
            |size| udp::stream(target, Stream { flows: FLOWS, window: WINDOW, size }, tally);
        match mode {
            Mode::TcpRr => tcp::exchange(target, EXCHANGES, tally),
            Mode::TcpCrr => tcp::visit(target, tcp::First::Client, BEGINNINGS, tally),
            Mode::TcpFirstByte => tcp::visit(first_target, tcp::First::Backend, BEGINNINGS, tally),
            Mode::TcpBulk => bulk(Request::Download),
            Mode::TcpBulkBoth => bulk(Request::Both),
            Mode::UdpRr => {
                udp::stream(target, Stream { flows: EXCHANGES, window: 1, size: SIZE }, tally)
            }
            Mode::UdpWindow64 => window(64),
            Mode::UdpWindow512 => window(512),
            Mode::UdpWindow1400 => window(1400),
            Mode::UdpFlows => udp::flows(first_target, BEGINNINGS, tally),
            _ => work_with_tls(mode, tally),
        }
    }

    /// What counters say at the ends of that time, which begins after the warm-up.
    fn watch(self, tally: &Tally, amount: Amount) -> Result<[Reading; 2]> {
        interrupt::sleep(amount.warm_up)?;
        tally.start();
        let before = self.read(tally)?;
        interrupt::sleep(amount.duration)?;
        Ok([before, self.read(tally)?])
    }

    fn read(self, tally: &Tally) -> Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            done: tally.done() + self.backend.uploaded(),
            gateway: self.gateway.cpu()?,
            bench: process::cpu_of(&[id()])?,
            clients: process::cpu_of_threads(CLIENT),
            idle: process::idle(),
        })
    }

    fn idle(self, mode: Mode, amount: Amount) -> Result<Sample> {
        let tally = Tally::default();
        // What the gateway makes once and keeps isn't the sessions'.
        drop(self.open(mode, TLS_CLIENTS, &tally)?);
        interrupt::sleep(amount.settle)?;
        let before = self.gateway.memory()?;
        let mut sessions = self.open(mode, amount.idle_sessions, &tally)?;
        interrupt::sleep(amount.settle)?;
        let after = self.gateway.memory()?;
        for error in sessions.iter_mut().filter_map(|exchange| exchange().err()) {
            tally.lose(format!("an idle session was lost: {error}"));
        }
        let (_, errors) = tally.into_parts();
        if sessions.is_empty() {
            return Err("no session could be opened".to_owned());
        }
        let each = (after as f64 - before as f64) / sessions.len() as f64;
        Ok(Sample { values: vec![Some(each / 1024.0)], errors })
    }

    fn open(self, mode: Mode, count: usize, tally: &Tally) -> Result<Vec<Session>> {
        let client = Client::hasty(ECDSA_PORT).map_err(|error| error.to_string())?;
        let target = SocketAddr::from((self.target, PORT));
        let open = || -> io::Result<Session> {
            Ok(match mode {
                Mode::TcpIdle => {
                    let mut session = tcp::Session::open(target)?;
                    Box::new(move || session.exchange())
                }
                Mode::UdpIdle => {
                    let mut session = udp::Session::patient(target)?;
                    Box::new(move || session.exchange())
                }
                _ => {
                    let mut session = client.open()?;
                    Box::new(move || session.exchange())
                }
            })
        };
        let counted = |_| open().map_err(|error| tally.fail(error)).ok();
        self.network.clients.run(|| (0..count).filter_map(counted).collect())
    }
}

fn work_with_tls(mode: Mode, tally: &Tally) -> io::Result<()> {
    let client = match mode {
        Mode::TlsHandshakeFullRsa => Client::hasty(RSA_PORT),
        Mode::TlsHandshakeResumed => Client::resuming(ECDSA_PORT),
        _ => Client::hasty(ECDSA_PORT),
    };
    let client = client.map_err(io::Error::other)?;
    match mode {
        Mode::TlsBulk => tls::download(&client, tally),
        Mode::TlsBulkUp => tls::upload(&client, tally),
        Mode::TlsHandshakeResumed => {
            // The first session gets the ticket.
            client.open().and_then(tls::Session::close)?;
            tls::begin_sessions(&client, true, tally);
        }
        _ => tls::begin_sessions(&client, false, tally),
    }
    Ok(())
}
