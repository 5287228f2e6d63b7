//! `l4way check`: what an API server would say of the manifests, and what becomes of their routes.

use std::process::ExitCode;

use l4way_resources::{Diagnostic, ReadOptions, Severity};
use l4way_source_file::FileSource;
use l4way_translate::Settings;
use serde::Serialize;

use crate::{
    cli::{CheckArgs, CheckOutput},
    clock::unix_time,
    live::Live,
    output::{self, print},
    problems,
};

/// The answer, as programs read it.
#[derive(Debug, Serialize)]
struct Answer {
    /// Whether the manifests have passed.
    passed: bool,
    problems: Vec<Diagnostic>,
}

/// Checks the manifests, or the cluster's objects, and prints what is wrong with them.
///
/// # Errors
/// If the cluster can't be asked.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, String> {
    let problems = if args.kube { Live::read(&args.cluster)?.problems() } else { of_files(args) };
    let threshold = if args.strict { Severity::Warning } else { Severity::Error };
    let answer =
        Answer { passed: problems.iter().all(|problem| problem.severity < threshold), problems };
    match args.output {
        CheckOutput::Text => print(&text(&answer)),
        CheckOutput::Json => print(&output::json(&answer)),
        CheckOutput::Yaml => print(&output::yaml(&answer)),
    }
    Ok(if answer.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn of_files(args: &CheckArgs) -> Vec<Diagnostic> {
    let options = ReadOptions { channel: args.manifests.channel.into() };
    let load = FileSource::new(args.paths.clone(), options).load();
    let settings = Settings {
        now: unix_time(),
        admin: Some(crate::admin::DEFAULT_ADDRESS),
        ..args.graph.settings()
    };
    let graph = l4way_translate::graph(&load.snapshot, &settings);
    problems::all(&load, &graph)
}

fn text(answer: &Answer) -> String {
    let renderer = output::renderer();
    let mut text: String =
        answer.problems.iter().map(|problem| renderer.render(problem) + "\n\n").collect();
    let count = |severity| answer.problems.iter().filter(|p| p.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    text += &match (errors, warnings) {
        (0, 0) => "no problems\n".to_owned(),
        _ => format!("{}, {}\n", plural(errors, "error"), plural(warnings, "warning")),
    };
    text
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
