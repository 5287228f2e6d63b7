//! `make bench-cluster`: how long changes take from the Kubernetes API to the first byte, and what
//! they cost those who are connected.
//!
//! It runs inside the network namespace of the project's cluster (e2e/cluster), with l4way installed
//! there: it reaches pods and Services by their addresses, and reads in `/proc` how much memory the
//! proxies and controllers have. Everything it makes is in a namespace of its own, which it removes.

mod baseline;
mod changes;
mod cluster;
mod first_byte;
mod held;
mod memory;
mod objects;
mod probe;
mod report;
mod stage;
mod stats;
mod strangers;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};

use crate::{cluster::Cluster, report::Report, stage::Stage};

/// What went wrong, for a person.
type Result<T> = std::result::Result<T, String>;

/// Measures a cluster in which l4way is installed.
#[derive(Debug, Parser)]
struct Args {
    /// How many changes of each kind.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// How many Gateways are made to see how long it takes until they serve.
    #[arg(long, default_value_t = 5)]
    gateways: usize,
    /// How many TCP connections and how many UDP flows are held open.
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    /// How many seconds they are used on after the last change.
    #[arg(long, default_value_t = 75)]
    hold_seconds: u64,
    /// How many Secrets, and as many ConfigMaps, of 50 KiB are made to see what they cost the controller.
    #[arg(long, default_value_t = 5000)]
    strangers: usize,
    /// The GatewayClass of the Gateways.
    #[arg(long, default_value = "l4way")]
    class: String,
    /// The namespace that is made, and removed.
    #[arg(long, default_value = "l4way-bench")]
    namespace: String,
    /// How to print the figures.
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

fn measure(args: &Args) -> Result<Report> {
    let cluster = Cluster::connect(&args.namespace)?;
    let stage = Stage::set(&cluster, &args.class)?;
    let load_before = memory::load();
    say("an API write until a watch sees it");
    let baseline = baseline::measure(&cluster, args.changes)?;
    say("from Gateway to first byte");
    let first_byte = first_byte::measure(&stage, args.gateways)?;
    say("changes of a route");
    let route = changes::route(&stage, args.changes)?;
    say("changes of an EndpointSlice");
    let endpoint = changes::endpoint(&stage, args.changes)?;
    say("listeners that are added");
    let listener = changes::listeners(&stage, args.changes)?;
    say("sessions under harmless changes");
    let hold = Duration::from_secs(args.hold_seconds);
    let lost = held::measure(&stage, args.sessions, hold)?;
    let resident = memory::resident(&stage)?;
    say("Secrets and ConfigMaps of others");
    let strangers = strangers::measure(&cluster, args.strangers)?;
    Ok(Report {
        load: (load_before, memory::load()),
        baseline,
        first_byte,
        route,
        endpoint,
        listener,
        sessions: args.sessions,
        hold,
        lost,
        resident,
        strangers,
    })
}
