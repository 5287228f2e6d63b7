//! `make bench`: what sessions cost through l4way and through its peers, on the same work.
//!
//! Clients, a gateway and backends are in network namespaces of their own, joined by veth, on one
//! machine. Every peer runs in each round, so that what else the machine does falls on all of them.

mod backend;
mod certificates;
mod client;
mod gateway;
mod interrupt;
mod load;
mod mode;
mod network;
mod peer;
mod process;
mod report;
mod request;
mod stats;
mod tally;

use std::{
    io::{self, Write},
    num::NonZeroUsize,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    backend::Backend,
    certificates::Certificates,
    gateway::Gateway,
    load::{Amount, Sample, Stage},
    mode::Mode,
    network::Network,
    peer::{Peer, Programs},
    report::{Entrant, Measured, Report},
};

/// What went wrong, for a person.
type Result<T> = std::result::Result<T, String>;

/// How long a sample takes.
const USUAL: Duration = Duration::from_secs(1);
/// The same with `--quick`.
const QUICK: Duration = Duration::from_millis(600);

/// Measures l4way and its peers on the same work. Needs root, for network namespaces.
#[derive(Debug, Parser)]
struct Args {
    /// What is done
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Mode::value_variants().to_vec())]
    modes: Vec<Mode>,
    /// Who does it; the first runs twice, to show how much of a difference is noise
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::value_variants().to_vec())]
    peers: Vec<Peer>,
    /// How many rounds [default: 31, with --quick 5; of tls-idle at most 3]
    #[arg(long)]
    rounds: Option<NonZeroUsize>,
    /// How many seconds each peer has in a round [default: 1, with --quick 0.6]
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// How many idle sessions
    #[arg(long, default_value = "2000")]
    idle_sessions: NonZeroUsize,
    /// Ends within 3 minutes
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    programs: Programs,
    /// How to print the figures
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match measure(&args) {
        Ok(report) => {
            let text = match args.output {
                Output::Table => report.table(),
                Output::Json => report.json(),
            };
            let _ = io::stdout().lock().write_all(text.as_bytes());
            if report.is_lossless() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(&format!("can't measure: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever waits.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("not a time that can be waited".to_owned()),
    }
}

impl Args {
    fn rounds(&self, mode: Mode) -> usize {
        let rounds = self.rounds.map_or(if self.quick { 5 } else { 31 }, NonZeroUsize::get);
        // What a fresh process takes hardly varies, and takes long to find out.
        let most = if self.quick { 1 } else { 3 };
        if mode == Mode::TlsIdle { rounds.min(most) } else { rounds }
    }

    fn amount(&self) -> Amount {
        let duration = self.seconds.unwrap_or(if self.quick { QUICK } else { USUAL });
        Amount { duration, idle_sessions: self.idle_sessions.get() }
    }
}

fn measure(args: &Args) -> Result<Report> {
    raise_descriptor_limit();
    interrupt::listen()?;
    let before = process::load();
    let certificates = Certificates::new()?;
    let lanes = Lane::of(&args.peers)?;
    // What can't be run is told now, and not after the first mode.
    for lane in &lanes {
        drop(lane.start(args, &certificates)?);
    }
    let mut modes = Vec::new();
    for mode in args.modes.iter().copied() {
        say(&format!("{mode}"));
        let entrants = measure_mode(mode, args, &lanes, &certificates);
        interrupt::check()?;
        modes.push(Measured { mode, entrants });
    }
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    Ok(Report { load: [before, process::load()], cpus, modes })
}

/// Where a peer is measured.
struct Lane {
    name: String,
    peer: Peer,
    rival: bool,
    backend: Backend,
    network: Network,
}

impl Lane {
    /// One for each peer, and a second one for the first.
    fn of(peers: &[Peer]) -> Result<Vec<Self>> {
        let again = peers.iter().take(1).map(|peer| (*peer, true));
        let entrants = peers.iter().map(|peer| (*peer, false)).chain(again);
        entrants.map(|(peer, again)| Self::new(peer, again)).collect()
    }

    fn new(peer: Peer, again: bool) -> Result<Self> {
        let name = if again { format!("{peer} again") } else { peer.to_string() };
        let network = Network::new()?;
        let rival = peer != Peer::L4way && !again;
        Ok(Self { name, peer, rival, backend: Backend::start(&network)?, network })
    }

    fn start(&self, args: &Args, certificates: &Certificates) -> Result<Gateway> {
        Gateway::start(self.peer, &args.programs, certificates, &self.network)
    }

    fn sample(&self, gateway: &Gateway, mode: Mode, amount: Amount) -> Result<Sample> {
        let stage = Stage { network: &self.network, backend: &self.backend, gateway };
        stage.sample(mode, amount).map_err(|error| format!("{}: {error}", self.name))
    }
}

/// Has every peer do the same, round by round, each round in another order.
fn measure_mode(
    mode: Mode,
    args: &Args,
    lanes: &[Lane],
    certificates: &Certificates,
) -> Result<Vec<Entrant>> {
    let start = |lane: &Lane| lane.start(args, certificates);
    let entrant =
        |lane: &Lane| Entrant { name: lane.name.clone(), rival: lane.rival, samples: vec![] };
    let mut entrants: Vec<Entrant> = lanes.iter().map(entrant).collect();
    // Memory that was used once may stay: for idle sessions each process is a new one, and alone.
    let lasting: Option<Vec<Gateway>> = match mode {
        Mode::TlsIdle => None,
        _ => Some(lanes.iter().map(start).collect::<Result<_>>()?),
    };
    for round in 0..args.rounds(mode) {
        for turn in 0..lanes.len() {
            let index = (round + turn) % lanes.len();
            let lane = &lanes[index];
            let sample = match &lasting {
                Some(gateways) => lane.sample(&gateways[index], mode, args.amount()),
                None => lane.sample(&start(lane)?, mode, args.amount()),
            };
            entrants[index].samples.push(sample?);
        }
    }
    Ok(entrants)
}

/// A client and a backend are here for each session, and gateways inherit the limit.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::try_parse_from(text.split(' ')).unwrap()
    }

    #[test]
    fn everything_is_measured_unless_less_is_asked_for() {
        let usual = args("bench");
        assert_eq!(usual.modes, Mode::value_variants());
        assert_eq!(usual.peers, Peer::value_variants());
        assert_eq!((usual.rounds(Mode::TlsBulk), usual.rounds(Mode::TlsIdle)), (31, 3));
        let quick = args("bench --quick");
        assert_eq!((quick.rounds(Mode::TlsBulk), quick.rounds(Mode::TlsIdle)), (5, 1));
        assert!(quick.amount().duration < usual.amount().duration);
    }

    #[test]
    fn what_is_asked_for_comes_before_what_is_quick() {
        let few =
            args("bench --quick --modes tls-idle,tls-bulk --peers nginx --rounds 2 --seconds 9");
        assert_eq!(few.modes, [Mode::TlsIdle, Mode::TlsBulk]);
        assert_eq!(few.peers, [Peer::Nginx]);
        assert_eq!((few.rounds(Mode::TlsBulk), few.rounds(Mode::TlsIdle)), (2, 1));
        assert_eq!(few.amount().duration, Duration::from_secs(9));
    }

    #[test]
    fn only_times_that_can_be_waited_are_taken() {
        for bad in ["0", "-1", "NaN", "1e30", "a"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
