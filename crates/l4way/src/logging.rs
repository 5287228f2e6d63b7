//! Our own log, on standard error: standard output is for what a command answers.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

use crate::cli::LogFormat;

/// Starts the log.
///
/// # Errors
/// If `level` is neither a level nor a list of tracing directives.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<(), String> {
    // notify warns of directories that are gone before they are let go of.
    let filter = EnvFilter::try_new(format!("notify=off,{level}"))
        .map_err(|error| format!("--log-level {level:?}: {error}; try error, warn, info, debug"))?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            builder.with_target(false).with_ansi(io::stderr().is_terminal()).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
