//! `l4way run`: the standalone gateway.
//!
//! One thread, with a tokio runtime of its own, is the control side: it follows files, names and
//! signals. The files are read by another, which may have to wait for them. The admin endpoint has one,
//! too, and the proxy's workers are threads of their own.

mod control;

use std::process::ExitCode;

use tokio::time::{self, MissedTickBehavior};

use self::control::{Change, Control};
use crate::{
    cli::RunArgs,
    serving::{RETRY_INTERVAL, Serving, control_side},
    signals::{Signal, Signals},
};

/// Runs the gateway until it is told to end.
///
/// # Errors
/// If it can't begin, with what to do about it.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, String> {
    control_side(&args.log, serve(args))
}

async fn serve(args: &RunArgs) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("can't handle signals: {error}"))?;
    let serving = Serving::start(&args.sessions, args.admin_socket.places(args.admin_address))?;
    let mut control = Control::new(args, serving)?;
    let mut changes = control.changes();
    let mut retry = time::interval(RETRY_INTERVAL);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Change::Manifests => {
                    let is_first = !control.is_ready();
                    control.follow();
                    if is_first {
                        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
                    }
                }
                Change::Names => control.refresh_endpoints(),
            },
            _ = retry.tick() => control.tick(),
            signal = signals.next() => match signal {
                Signal::Drain => {
                    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                    control.serving().drain(&mut signals, args.sessions.drain_timeout).await;
                    break;
                }
                Signal::End => break,
                Signal::Reload => {
                    tracing::info!("SIGHUP: reading the manifests again");
                    control.reload();
                    control.serving().reopen_access_log();
                }
            },
        }
    }
    control.end();
    Ok(())
}
