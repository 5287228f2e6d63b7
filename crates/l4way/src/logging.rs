//! Our own log, on standard error: standard output is for what a command answers.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

use crate::cli::{LogArgs, LogFormat};

/// Starts the log.
///
/// # Errors
/// If the level is neither a level nor a list of tracing directives.
pub(crate) fn start(args: &LogArgs) -> Result<(), String> {
    let level = &args.log_level;
    // notify warns of directories that are gone before they are let go of, and kube of each request
    // that fails.
    let filter = EnvFilter::try_new(format!("notify=off,kube_client=off,kube_runtime=off,{level}"))
        .map_err(|error| format!("--log-level {level:?}: {error}; try error, warn, info, debug"))?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    match args.log_format {
        LogFormat::Text => {
            builder.with_target(false).with_ansi(io::stderr().is_terminal()).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
