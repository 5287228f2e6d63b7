//! Everything that is wrong with what was read: the files, the objects, and how they relate.

use std::{collections::BTreeSet, fs};

use l4way_resources::{AnyObject, Diagnostic, Severity};
use l4way_source_file::Load;
use l4way_translate::{Graph, Problem};

/// All there is, errors first.
pub(crate) fn all(load: &Load, graph: &Graph) -> Vec<Diagnostic> {
    let mut problems = load.diagnostics.clone();
    let of_graph = l4way_translate::problems(graph);
    problems.extend(of_graph.into_iter().map(|problem| placed(load, problem)));
    problems.extend(ports_of_clients(load));
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    problems
}

/// How many files have errors in them, or can't be read.
pub(crate) fn bad_files(load: &Load) -> usize {
    let errors = load.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    errors.filter_map(|error| Some(&error.place.as_ref()?.file)).collect::<BTreeSet<_>>().len()
}

/// The problem, where its field is written.
fn placed(load: &Load, problem: Problem) -> Diagnostic {
    let severity = match problem.severity {
        l4way_translate::Severity::Error => Severity::Error,
        l4way_translate::Severity::Warning => Severity::Warning,
    };
    match load.manifests.get(&problem.object) {
        Some(manifest) => manifest.diagnostic(severity, &problem.pointer, &problem.message),
        None => Diagnostic::new(severity, problem.message).with_object(problem.object),
    }
}

/// Warns of listeners whose port the kernel also gives to outgoing connections: whenever one of
/// them has it, the listener can't be bound (ip(7), `ip_local_port_range`).
fn ports_of_clients(load: &Load) -> Vec<Diagnostic> {
    let Some((first, last)) = local_port_range() else { return Vec::new() };
    let mut warnings = Vec::new();
    for manifest in load.manifests.values() {
        let listeners = match &manifest.object {
            AnyObject::Gateway(gateway) => &gateway.spec.listeners,
            AnyObject::ListenerSet(set) => &set.spec.listeners,
            _ => continue,
        };
        for (index, listener) in listeners.iter().enumerate() {
            if (first..=last).contains(&listener.port) {
                let message = format!(
                    "port {} is one that this host gives to outgoing connections \
                     (net.ipv4.ip_local_port_range is {first} to {last}), so it may be taken when \
                     it is needed: choose one outside, or list it in \
                     net.ipv4.ip_local_reserved_ports",
                    listener.port
                );
                let pointer = format!("/spec/listeners/{index}/port");
                warnings.push(manifest.diagnostic(Severity::Warning, &pointer, &message));
            }
        }
    }
    warnings
}

fn local_port_range() -> Option<(u16, u16)> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = range.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
