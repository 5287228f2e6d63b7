//! `l4way proxy`: the data plane of one Gateway, in a pod.
//!
//! One thread, with a tokio runtime of its own, is the control side: it follows the configuration,
//! EndpointSlices, names and signals, and answers in the pod's Lease. It needs no controller to
//! start or to go on, and no API server to go on.

mod api_server;
mod binds;
mod index;
mod intake;
mod lease;
mod pod;
mod slices;
mod view;

use std::{future, process::ExitCode, time::Duration};

use l4way_delivery::{Delivery, KeyPairs, Names};
use tokio::{
    sync::watch,
    time::{self, Instant, MissedTickBehavior},
};

use self::{api_server::ApiServer, index::Deliveries, pod::Pod};
use crate::{
    cli::ProxyArgs,
    serving::{RETRY_INTERVAL, Serving, control_side},
    signals::{Signal, Signals},
};

/// Runs until it is told to end.
///
/// # Errors
/// If it can't begin, with what to do about it.
pub(crate) fn run(args: &ProxyArgs) -> Result<ExitCode, String> {
    control_side(&args.log, serve(args))
}

async fn serve(args: &ProxyArgs) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("can't handle signals: {error}"))?;
    let admin_address = binds::reachable(args.admin_address, &args.pod.pod_ips);
    let serving = Serving::start(&args.sessions, args.admin_socket.places(admin_address))?;
    let server = ApiServer::new().await?;
    let names = Names { base: args.name.clone() };

    let documents = Deliveries::new(server.clone(), &args.pod.namespace, names.clone());
    let (configs, mut config_arrivals) = watch::channel(None);
    let (keys, mut key_arrivals) = watch::channel(None);
    documents.follow::<Delivery>(configs);
    let lease = names.lease(&args.pod.pod_uid);
    let answers = lease::keep(&server, &args.pod, lease);
    let (slices, mut slice_changes) = slices::Watches::new(server);
    let mut pod =
        Pod::new(args, serving, slices, answers, move || documents.follow::<KeyPairs>(keys));
    let mut addresses = pod.addresses();
    let mut retry = time::interval(RETRY_INTERVAL);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leave: Option<Leave> = None;
    let mut batch = Vec::new();
    loop {
        let leave_at = leave.as_ref().map(|leave| leave.stop_accepting);
        tokio::select! {
            // The senders live as long as what they follow, which doesn't end.
            Ok(()) = config_arrivals.changed() => {
                let arrival = config_arrivals.borrow_and_update().clone();
                arrival.into_iter().for_each(|arrival| pod.deliver(arrival));
            }
            Ok(()) = key_arrivals.changed() => {
                let arrival = key_arrivals.borrow_and_update().clone();
                arrival.into_iter().for_each(|arrival| pod.deliver_keys(arrival));
            }
            _ = slice_changes.recv_many(&mut batch, slices::BATCH) => pod.slices(batch.drain(..)),
            _ = addresses.changed() => pod.addresses_changed(),
            () = at(pod.waits_until()) => pod.take_delivery(),
            _ = retry.tick() => pod.tick(),
            () = at(leave_at) => break,
            signal = signals.next() => match signal {
                Signal::Drain if leave.is_none() => {
                    leave = Some(Leave::new(args, pod.leave()));
                }
                Signal::Drain | Signal::End => {
                    pod.end();
                    return Ok(());
                }
                Signal::Reload => pod.serving().reopen_access_log(),
            },
        }
    }
    let left = leave.map_or(Duration::ZERO, |leave| leave.left());
    pod.serving().drain(&mut signals, left).await;
    pod.end();
    Ok(())
}

/// Waits until then; for ever if there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => time::sleep_until(time).await,
        None => future::pending().await,
    }
}

/// The two steps of the end.
struct Leave {
    /// When no new sessions are taken any more.
    stop_accepting: Instant,
    /// When the sessions that are left are reset.
    deadline: Instant,
}

impl Leave {
    /// From now on. A pod that takes no sessions has no Service to wait for.
    fn new(args: &ProxyArgs, was_ready: bool) -> Self {
        let deadline = Instant::now() + args.sessions.drain_timeout;
        let delay = if was_ready { args.shutdown_delay } else { Duration::ZERO };
        Self { stop_accepting: (Instant::now() + delay).min(deadline), deadline }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
