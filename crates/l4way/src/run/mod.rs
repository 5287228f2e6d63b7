//! `l4way run`: the standalone gateway.
//!
//! One thread, with a tokio runtime of its own, is the control side: it follows files, names and
//! signals. The admin endpoint has another, and the data plane threads of its own.

mod control;
mod signals;

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, mpsc::SyncSender},
    thread,
    time::Duration,
};

use l4way_proxy::{SessionRecord, Settings};
use tokio::{
    net::TcpListener,
    runtime,
    sync::watch,
    time::{self, Instant, MissedTickBehavior},
};

use self::{
    control::{Change, Control},
    signals::{Signal, Signals},
};
use crate::{
    access_log::{AccessLog, Output},
    admin::Admin,
    cli::RunArgs,
    data_plane::DataPlane,
    logging,
    metrics::{self, ControlMetrics},
    report::{Phase, StatusReport},
};

/// How often what has failed is tried again: ports to bind, the admin endpoint.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often a drain looks whether all sessions have ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Runs the gateway until it is told to end.
///
/// # Errors
/// If it can't begin, with what to do about it.
pub(crate) fn run(args: RunArgs) -> Result<ExitCode, String> {
    logging::start(&args.log_level, args.log_format)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("can't start: {error}"))?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: RunArgs) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("can't handle signals: {error}"))?;
    let (access_log, records) =
        match args.access_log.as_deref().map(Output::of).map(AccessLog::start) {
            Some(started) => {
                let (log, records) = started.map_err(|error| format!("--access-log: {error}"))?;
                (Some(log), Some(records))
            }
            None => (None, None),
        };
    let data_plane = DataPlane::start(session_settings(&args, records), http_settings(&args))
        .map_err(|error| format!("can't start the workers: {error}"))?;
    tracing::info!("limits: {}", data_plane.limits());

    let counters = data_plane.counters();
    let (report, reports) = watch::channel(Arc::new(StatusReport::starting()));
    let mut control = Control::new(&args, data_plane, report)?;
    let control_metrics = control.metrics();
    let unwritten = access_log.as_ref().map(AccessLog::unwritten);
    let metrics = move || {
        let unwritten_records = unwritten.as_ref().map_or(0, |unwritten| unwritten());
        let control = ControlMetrics { unwritten_records, ..control_metrics.borrow().clone() };
        metrics::render(&counters.snapshot(), &control)
    };
    start_admin(args.admin_address, Admin { report: reports, metrics: Arc::new(metrics) })
        .map_err(|error| format!("can't start the admin endpoint: {error}"))?;

    let mut changes = control.changes();
    control.reload();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut retry = time::interval(RETRY_INTERVAL);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Change::Manifests => control.follow(),
                Change::Names => control.refresh_endpoints(),
            },
            _ = retry.tick() => control.retry_failed(),
            signal = signals.next() => match signal {
                Signal::Drain => {
                    drain(&mut control, &mut signals, args.drain_timeout).await;
                    break;
                }
                Signal::End => break,
                Signal::Reload => {
                    tracing::info!("SIGHUP: reading the manifests again");
                    control.reload();
                    if let Some(Err(error)) = access_log.as_ref().map(AccessLog::reopen) {
                        tracing::error!("{error}; the old file stays in use");
                    }
                }
            },
        }
    }
    // Ends what sessions are left, and with them the senders of the access log's records.
    drop(control);
    if let Some(log) = access_log {
        log.finish();
    }
    Ok(())
}

fn session_settings(args: &RunArgs, records: Option<SyncSender<SessionRecord>>) -> Settings {
    let defaults = Settings::default();
    Settings {
        workers: args.workers.unwrap_or(defaults.workers),
        connect_timeout: args.connect_timeout,
        udp_session_timeout: args.udp_session_timeout,
        drain_deadline: args.drain_timeout,
        records,
        ..defaults
    }
}

fn http_settings(args: &RunArgs) -> l4way_http::Settings {
    l4way_http::Settings {
        connect_timeout: args.connect_timeout,
        drain_deadline: args.drain_timeout,
        ..l4way_http::Settings::default()
    }
}

/// Starts a thread that serves the admin endpoint: it answers while the manifests are read, too.
fn start_admin(address: SocketAddr, admin: Admin) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || runtime.block_on(serve_admin(address, admin));
    thread::Builder::new().name("admin".to_owned()).spawn(serve).map(drop)
}

/// Serves the admin endpoint, as soon as its address can be had.
async fn serve_admin(address: SocketAddr, admin: Admin) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !told => {
                tracing::error!(
                    %address, %error,
                    "the admin endpoint can't be bound, and is retried: `l4way status` and the \
                     metrics need it; --admin-address chooses another"
                );
                told = true;
            }
            Err(_) => {}
        }
        time::sleep(RETRY_INTERVAL).await;
    };
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "admin endpoint"),
        Err(error) => tracing::warn!(%error, "admin endpoint at an unknown address"),
    }
    admin.serve(listener).await;
}

/// Takes no new sessions and waits until those there are have ended, until the deadline, or until
/// told again to end.
async fn drain(control: &mut Control, signals: &mut Signals, timeout: Duration) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    control.set_phase(Phase::Draining);
    control.drain(timeout);
    let started = Instant::now();
    let mut poll = time::interval(DRAIN_POLL);
    let mut told = false;
    loop {
        tokio::select! {
            _ = poll.tick() => {
                if control.is_drained() {
                    break;
                }
                if !told {
                    told = true;
                    tracing::info!(
                        sessions = control.active_sessions(),
                        "draining for up to {timeout:?}; SIGTERM or Ctrl-C ends at once"
                    );
                }
            }
            signal = signals.next() => if signal != Signal::Reload {
                break;
            }
        }
    }
    tracing::info!(sessions = control.active_sessions(), "drained for {:.1?}", started.elapsed());
}
