//! `l4way status`: asks a running l4way, or a cluster, what is served.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use crate::{
    admin::ALL_ENDPOINTS,
    cli::{ClusterArgs, StatusArgs, StatusOutput},
    live::Live,
    output::{self, print},
    report::{Phase, StatusReport},
    table,
};

/// How many routes are named that lead to nobody.
const COMPLAINTS: usize = 100;

/// Prints the report of the l4way that is asked.
///
/// # Errors
/// If it doesn't answer, with what to do about it.
pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, String> {
    let report = if args.kube {
        of_cluster(&args.cluster)?
    } else {
        fetch(args.admin_address, args.all_endpoints)?
    };
    match args.output {
        StatusOutput::Table => print(&text(&report)),
        StatusOutput::Json => print(&output::json(&report)),
        StatusOutput::Yaml => print(&output::yaml(&report)),
    }
    let fine = report.phase == Phase::Serving
        && !report.problems.iter().any(l4way_resources::Diagnostic::is_error)
        && report.overview.complaints().is_empty()
        && report.endpoints.as_ref().is_none_or(|endpoints| endpoints.unanswered.is_empty());
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn of_cluster(cluster: &ClusterArgs) -> Result<StatusReport, String> {
    let live = Live::read(cluster)?;
    Ok(StatusReport {
        phase: Phase::Serving,
        notes: live.notes(),
        problems: live.problems_with_status(),
        overview: live.overview(),
        objects: live.objects,
        ..StatusReport::starting()
    })
}

fn fetch(address: SocketAddr, all_endpoints: bool) -> Result<StatusReport, String> {
    let query = if all_endpoints { format!("?{ALL_ENDPOINTS}") } else { String::new() };
    let url = format!("http://{address}/status{query}");
    let hint = "is `l4way run` or `l4way proxy` running, with this --admin-address?";
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
    let body = agent
        .get(&url)
        .call()
        .and_then(|mut response| response.body_mut().with_config().limit(1 << 30).read_to_string())
        .map_err(|error| format!("{url}: {error}; {hint}"))?;
    serde_json::from_str(&body)
        .map_err(|error| format!("{url}: not the answer of an l4way of this version: {error}"))
}

/// The report as a person reads it.
fn text(report: &StatusReport) -> String {
    let mut text = String::new();
    for note in &report.notes {
        text += &format!("{note}\n");
    }
    text += &table::render(&report.overview);
    if let Some(endpoints) = &report.endpoints {
        text += &endpoints.table();
        let complaints = endpoints.complaints();
        complaints.take(COMPLAINTS).for_each(|complaint| text += &format!("! {complaint}\n"));
        let more = endpoints.unanswered.len().saturating_sub(COMPLAINTS);
        if more > 0 {
            text += &format!("! {more} more of this kind: `l4way status -o json` names them\n");
        }
    }
    let renderer = output::renderer();
    for problem in &report.problems {
        text += &format!("{}\n\n", renderer.render(problem));
    }
    text += match report.phase {
        Phase::Starting => "no listener is bound yet\n",
        Phase::Serving => "",
        Phase::Leaving => "leaving: new sessions are taken until the Service has dropped the pod\n",
        Phase::Draining => "draining: no new sessions are taken\n",
    };
    text
}
