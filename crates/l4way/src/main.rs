//! l4way: the Kubernetes Gateway API for TCP, UDP and TLS, with or without a cluster.
#![forbid(unsafe_code)]

mod access_log;
mod admin;
mod certificates;
mod check;
mod cli;
mod clock;
mod controller;
mod data_plane;
mod demo;
mod dns;
mod endpoint_health;
mod heartbeat;
mod kernel_path;
mod live;
mod logging;
mod metrics;
mod outlet;
mod output;
mod panics;
mod problems;
mod proxy_pod;
mod run;
mod secrecy;
mod serving;
mod signals;
mod status;

use std::{io, process::ExitCode};

use clap::{CommandFactory, Parser};
use l4way_resources::DEFINITIONS;

use crate::cli::{Cli, Command};

/// The exit code of a command that could not do its work at all.
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let Cli { command, core_dumps } = Cli::parse();
    if !core_dumps && let Err(error) = secrecy::keep_memory_private() {
        anstream::eprintln!("l4way: can't keep private keys out of core dumps: {error}");
        return ExitCode::from(COULD_NOT_RUN);
    }
    let result = match command {
        Command::Run(args) => run::run(&args),
        Command::Controller(args) => controller::run(*args),
        Command::Proxy(args) => proxy_pod::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Crds => {
            output::print(&DEFINITIONS.join("---\n"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "l4way", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    let is_read = logging::finish();
    result.unwrap_or_else(|error| {
        if is_read {
            anstream::eprintln!("l4way: {error}");
        }
        ExitCode::from(COULD_NOT_RUN)
    })
}
