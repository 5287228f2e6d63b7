//! `make bench-scale`: what l4way takes for many Gateways, routes and endpoints.
//!
//! Each size runs in a process of its own, whose memory is then that of the size.

mod change;
mod kernel;
mod l4way;
mod listeners;
mod memory;
mod sessions;
mod stats;
mod translate;

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Parser, Subcommand};
use l4way_scale_bench::Size;

/// What went wrong, for a person.
type Result<T> = std::result::Result<T, String>;

/// How many endpoints there are in each of the installations.
const ENDPOINTS: [usize; 3] = [1_000, 10_000, 100_000];

/// How many endpoints of a backend there are in a large one.
const LARGE: &str = "--of-a-route=1000";

/// Runs a program on a new host, which has nothing but a loopback interface with an address more, and
/// forwards.
const HOST: &str = "ip link set lo up && ip address add 192.0.2.1/32 dev lo &&
    echo 1 >/proc/sys/net/ipv4/ip_forward && exec \"$0\" \"$@\"";

/// Measures what l4way takes for many Gateways, routes and endpoints. Needs root, for network
/// namespaces.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Args {
    /// The l4way to measure
    #[arg(long, required = true)]
    l4way: Option<PathBuf>,

    /// One part of it, in this process [default: all parts, each in processes of its own]
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// From objects to configuration and status, from scratch
    Translate {
        #[command(flatten)]
        shape: Shape,
    },
    /// From the change of an endpoint until the workers have it
    Change {
        #[command(flatten)]
        shape: Shape,
    },
    /// The kernel path with many listeners, in this network namespace
    KernelPath {
        /// How many listeners there are
        listeners: usize,
    },
    /// `l4way run` with many listeners
    Listeners {
        /// The l4way to run
        l4way: PathBuf,
    },
    /// As many sessions as its descriptors allow
    Sessions {
        /// The l4way to run
        l4way: PathBuf,
    },
}

/// What the installation is like.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Shape {
    /// How many endpoints there are
    endpoints: usize,
    /// How many of them each route has
    #[arg(long, default_value_t = 10)]
    of_a_route: usize,
    /// One Gateway has all routes
    #[arg(long)]
    one_gateway: bool,
}

impl From<Shape> for Size {
    fn from(Shape { endpoints, of_a_route, one_gateway }: Shape) -> Self {
        let routes = endpoints.div_ceil(of_a_route);
        let gateways = if one_gateway { 1 } else { routes.div_ceil(10) };
        Self { gateways, routes, endpoints }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.part {
        None => all(&args.l4way.unwrap_or_default()),
        Some(Part::Translate { shape }) => translate::measure(shape.into()),
        Some(Part::Change { shape }) => change::measure(shape.into()),
        Some(Part::KernelPath { listeners }) => kernel::measure(listeners),
        Some(Part::Listeners { l4way }) => listeners::measure(&l4way),
        Some(Part::Sessions { l4way }) => sessions::measure(&l4way),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "can't measure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells what was found.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

fn all(l4way: &Path) -> Result<()> {
    let program = env::current_exe().map_err(|error| format!("where is this program: {error}"))?;
    let here = |part: &[&str]| run(Command::new(&program).args(part));
    // Ports that are others' on this machine are free there.
    let apart = |part: &[&str]| {
        run(Command::new("unshare").args(["--net", "sh", "-c", HOST]).arg(&program).args(part))
    };
    let [.., most] = ENDPOINTS.map(|endpoints| endpoints.to_string());
    say(translate::HEADER);
    for endpoints in ENDPOINTS {
        here(&["translate", &endpoints.to_string()])?;
    }
    here(&["translate", "--one-gateway", &most])?;
    say(change::HEADER);
    for endpoints in ENDPOINTS {
        apart(&["change", "--one-gateway", &endpoints.to_string()])?;
    }
    apart(&["change", "--one-gateway", LARGE, &most])?;
    say(kernel::HEADER);
    for listeners in kernel::LISTENERS {
        apart(&["kernel-path", &listeners.to_string()])?;
    }
    say(listeners::HEADER);
    let l4way = l4way.to_string_lossy();
    apart(&["listeners", &l4way])?;
    say(sessions::HEADER);
    apart(&["sessions", &l4way])
}

/// Runs a part in a process of its own, which tells what it finds.
fn run(command: &mut Command) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("can't run {command:?}: {error}")),
    }
}
