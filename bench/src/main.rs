//! `make bench`: what traffic costs through l4way and through its peers, on the same work.
//!
//! Clients, a gateway and backends are in network namespaces of their own, joined by veth, on one
//! machine. Every peer runs in each round, so that what else the machine does falls on all of them.

mod backend;
mod certificates;
mod gateway;
mod interrupt;
mod lane;
mod load;
mod mode;
mod network;
mod patience;
mod peer;
mod poll;
mod process;
mod reading;
mod report;
mod request;
mod routes;
mod stats;
mod tally;
mod tcp;
mod tls;
mod udp;

use std::{
    fs,
    io::{self, Write},
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    certificates::Certificates,
    lane::Lanes,
    load::Amount,
    mode::{Mode, Protocol},
    peer::{Peer, Programs},
    report::{Measured, Report},
};

/// What went wrong, for a person.
type Result<T> = std::result::Result<T, String>;

/// Measures l4way and its peers on the same work. Needs root, for network namespaces.
///
/// Each peer is between clients and backends in three network namespaces of its own, and all do the
/// same in turn, round by round.
#[derive(Debug, Parser)]
struct Args {
    /// What is done
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Mode::value_variants().to_vec())]
    modes: Vec<Mode>,
    /// Who does it, as far as each can; the first proxy but l4way runs twice, to show how much of a
    /// difference is noise
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::usual())]
    peers: Vec<Peer>,
    /// How many rounds [default: 31, with --quick 3; with idle sessions at most 3, with --quick 1]
    #[arg(long)]
    rounds: Option<NonZeroUsize>,
    /// How many seconds each peer has in a round [default: 1, with --quick 0.2]
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// How many idle sessions [default: 5000, over TLS 2000; with --quick 1000]
    #[arg(long)]
    idle_sessions: Option<NonZeroUsize>,
    /// Ends within 3 minutes: fewer and shorter rounds, fewer idle sessions
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    programs: Programs,
    /// How to print the figures
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Write the figures as JSON to a file too, after each mode
    #[arg(long, value_name = "FILE")]
    json_to: Option<PathBuf>,
    /// Draw the ratios to a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
    Markdown,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match measure(&args).and_then(|report| tell(&args, &report).map(|()| report)) {
        Ok(report) if report.is_lossless() && report.modes.len() == args.modes.len() => {
            if report.is_as_fast_as_before() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("can't measure: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints and draws the figures.
fn tell(args: &Args, report: &Report) -> Result<()> {
    let text = match args.output {
        Output::Table => report.table(),
        Output::Json => report.json(),
        Output::Markdown => report.markdown(),
    };
    let _ = io::stdout().lock().write_all(text.as_bytes());
    args.svg.as_ref().map_or(Ok(()), |path| write(path, &report.svg()))
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
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
        let rounds = self.rounds.map_or(if self.quick { 3 } else { 31 }, NonZeroUsize::get);
        // What a fresh process takes hardly varies, and takes long to find out.
        let most = if self.quick { 1 } else { 3 };
        if mode.is_idle() { rounds.min(most) } else { rounds }
    }

    fn amount(&self, mode: Mode) -> Amount {
        let (warm_up, duration, settle, idle) = match self.quick {
            true => (50, 200, 300, 1000),
            false => (200, 1000, 1000, if mode.protocol() == Protocol::Tls { 2000 } else { 5000 }),
        };
        Amount {
            warm_up: Duration::from_millis(warm_up).max(mode.afterlife()),
            duration: self.seconds.unwrap_or(Duration::from_millis(duration)),
            idle_sessions: self.idle_sessions.map_or(idle, NonZeroUsize::get),
            settle: Duration::from_millis(settle),
        }
    }
}

fn measure(args: &Args) -> Result<Report> {
    raise_descriptor_limit();
    interrupt::listen()?;
    let certificates = Certificates::new()?;
    let lanes = Lanes::new(&args.programs.complete(&args.peers)?, &args.modes)?;
    lanes.try_out(args, &certificates)?;
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let before = process::load();
    let mut report = Report { load: [before.clone(), before], cpus, modes: Vec::new() };
    for mode in args.modes.iter().copied() {
        match lanes.measure(mode, args, &certificates) {
            Ok(entrants) => report.modes.push(Measured { mode, entrants }),
            // What was measured before is worth telling.
            Err(error) if report.modes.is_empty() => return Err(error),
            Err(error) => {
                say(&format!("{mode} and what follows isn't measured: {error}"));
                break;
            }
        }
        report.load[1] = process::load();
        if let Some(path) = &args.json_to {
            write(path, &report.json())?;
        }
    }
    Ok(report)
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
        assert_eq!(usual.peers, Peer::usual());
        assert_eq!((usual.rounds(Mode::TlsBulk), usual.rounds(Mode::TlsIdle)), (31, 3));
        assert_eq!(usual.amount(Mode::UdpIdle).idle_sessions, 5000);
        let quick = args("bench --quick");
        assert_eq!((quick.rounds(Mode::TlsBulk), quick.rounds(Mode::TlsIdle)), (3, 1));
        let mode = Mode::TcpRr;
        assert!(quick.amount(mode).duration < usual.amount(mode).duration);
    }

    #[test]
    fn what_is_asked_for_comes_before_what_is_quick() {
        let few =
            args("bench --quick --modes tls-idle,tls-bulk --peers nginx --rounds 2 --seconds 9");
        assert_eq!(few.modes, [Mode::TlsIdle, Mode::TlsBulk]);
        assert_eq!(few.peers, [Peer::Nginx]);
        assert_eq!((few.rounds(Mode::TlsBulk), few.rounds(Mode::TlsIdle)), (2, 1));
        assert_eq!(few.amount(Mode::TcpRr).duration, Duration::from_secs(9));
    }

    #[test]
    fn only_times_that_can_be_waited_are_taken() {
        for bad in ["0", "-1", "NaN", "1e30", "a"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
