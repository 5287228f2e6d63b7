//! `l4way status`: asks a running l4way, or a cluster, what is served.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use l4way_observe::{Phase, StatusReport, table};

use crate::{
    admin::{self, ALL_ENDPOINTS},
    cli::{ClusterArgs, StatusArgs, StatusOutput},
    live::Live,
    output::{self, print},
};

/// How many routes are named that lead to nobody.
const COMPLAINTS: usize = 100;
/// How long a process that is asked may say nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the report of the l4way that is asked.
///
/// # Errors
/// If it doesn't answer, with what to do about it.
pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, String> {
    let report = if args.kube { of_cluster(&args.cluster)? } else { of_process(args)? };
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

fn of_process(args: &StatusArgs) -> Result<StatusReport, String> {
    let socket = args.admin_socket.clone();
    let socket = socket.unwrap_or_else(|| admin::default_path(args.admin_address));
    let name = socket.display();
    let hint = "is `l4way run` or `l4way proxy` running, as this user, with this --admin-socket or \
                --admin-address?";
    let query = if args.all_endpoints { format!("?{ALL_ENDPOINTS}") } else { String::new() };
    let page = format!("/status{query}");
    let body = get(&socket, &page).map_err(|error| format!("{name}: {error}; {hint}"))?;
    serde_json::from_str(&body)
        .map_err(|error| format!("{name}: not the answer of an l4way of this version: {error}"))
}

/// The body of a page of an admin socket.
fn get(socket: &Path, page: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: l4way\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!(
            "it answers {:?}",
            answer.lines().next().unwrap_or("nothing")
        ))),
    }
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
