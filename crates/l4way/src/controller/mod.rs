//! `l4way controller`: in a cluster, what gives every Gateway its proxies, their configuration, and
//! its status.
//!
//! One loop looks at everything whenever anything has changed, and starts the requests that this
//! calls for: first configurations, then objects. Requests are made beside the loop, for each Gateway
//! one series at a time; their answers stand in for the objects until the watches have them. What
//! there should be is a function of the objects alone ([`objects`], [`plan`], [`observe`]), so that
//! a replica that begins to lead has nothing to find out.

mod apply;
mod cluster;
mod control;
mod endpoint_events;
mod events;
mod former;
mod gateway;
mod kept;
mod metrics;
mod objects;
mod observe;
mod ownership;
mod plan;
mod project;
mod reading;
mod service_events;
mod strays;
mod work;

use std::{process::ExitCode, sync::Arc};

use l4way_observe::StatusReport;
use l4way_source_kube::{EventRecorder, Leader, Source, StatusWriter, connect, server_version};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub(crate) use self::{
    cluster::OWNED,
    objects::{Kind, MetricsFrom, Settings as ObjectSettings},
    observe::{is_ready, pods, proxy},
    ownership::{Owned, Owner, sort},
    plan::HASH,
};
use self::{
    control::{Control, Ports},
    metrics::Metrics,
};
use crate::{
    admin::Admin,
    cli::ControllerArgs,
    serving::control_side,
    signals::{Signal, Signals},
};

/// The Lease by which one of several replicas leads.
const LEADER_LEASE: &str = "l4way-controller";

/// Runs the controller until it is told to end.
///
/// # Errors
/// If it can't begin, with what to do about it.
pub(crate) fn run(args: ControllerArgs) -> Result<ExitCode, String> {
    control_side(&args.log, serve(&args))
}

async fn serve(args: &ControllerArgs) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("can't handle signals: {error}"))?;
    let clients =
        connect(args.cluster.context.as_deref()).await.map_err(|error| error.to_string())?;
    let client = &clients.ordinary;
    match server_version(client).await {
        Ok(version) => tracing::info!(version, "Kubernetes"),
        // It may be on its way.
        Err(error) => tracing::warn!("{error}"),
    }
    let namespaces = args.cluster.watched();
    if !namespaces.is_empty() {
        tracing::info!(?namespaces, "only objects in these namespaces are seen");
    }
    let mut source = Source::start(client.clone(), cluster::wants(namespaces));
    let controller_name = &*args.cluster.controller_name;
    let (report, reports) = watch::channel(Arc::new(StatusReport::starting()));
    let ports = Ports {
        writer: StatusWriter::start(client.clone(), source.clone(), controller_name),
        events: EventRecorder::start(
            client.clone(),
            source.clone(),
            controller_name,
            &args.identity,
        ),
        client: client.clone(),
        source: source.clone(),
        metrics: Metrics::new(),
        report,
    };
    let metrics = ports.metrics.clone();
    let _file = Admin::new(reports, move || metrics.render())
        .start(args.admin_socket.places(args.admin_address), Vec::new)
        .map_err(|error| format!("can't start the admin endpoint: {error}"))?;

    let mut control = Control::new(ports, args.objects(), args.cluster.translation());
    let leader = (!args.no_leader_election)
        .then(|| Leader::start(&clients, &args.namespace, LEADER_LEASE, &args.identity));
    let (_alone, always) = watch::channel(true);
    let mut leads = leader.as_ref().map_or(always, Leader::watch);
    leads.mark_changed();
    loop {
        let deadline = control.deadline().map(Instant::from_std);
        let retry = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = source.changed() => {}
            () = control.requests() => {}
            () = retry => {}
            Ok(()) = leads.changed() => {
                let leads = *leads.borrow_and_update();
                control.set_leads(leads);
            }
            signal = signals.next() => if signal != Signal::Reload {
                break;
            }
        }
        control.pass();
    }
    control.set_leads(false);
    if let Some(leader) = leader {
        leader.release().await;
    }
    Ok(())
}
