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

/// What is wrong with objects that are in no file, errors first.
pub(crate) fn of_graph(graph: &Graph) -> Vec<Diagnostic> {
    let problems = l4way_translate::problems(graph).into_iter();
    let mut problems: Vec<_> = problems
        .map(|Problem { object, severity, message, .. }| {
            Diagnostic::new(severity, message).with_object(object)
        })
        .collect();
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
    let Problem { object, pointer, severity, message } = problem;
    match load.manifests.get(&object) {
        Some(manifest) => manifest.diagnostic(severity, &pointer, &message),
        None => Diagnostic::new(severity, message).with_object(object),
    }
}

/// Warns of listeners whose port the kernel also gives to outgoing connections: whenever one of
/// them has it, the listener can't be bound.
fn ports_of_clients(load: &Load) -> Vec<Diagnostic> {
    let ports = l4way_host::local_ports();
    let reserved = fs::read_to_string(RESERVED_PORTS).unwrap_or_default();
    let mut warnings = Vec::new();
    for manifest in load.manifests.values() {
        let listeners = match &manifest.object {
            AnyObject::Gateway(gateway) => &gateway.spec.listeners,
            AnyObject::ListenerSet(set) => &set.spec.listeners,
            _ => continue,
        };
        for (index, listener) in listeners.iter().enumerate() {
            if !ports.contains(&listener.port) || is_reserved(&reserved, listener.port) {
                continue;
            }
            let message = format!(
                "port {} is one that this host gives to outgoing connections \
                 (net.ipv4.ip_local_port_range is {} to {}), so it may be taken when it is needed: \
                 choose one outside, or add it to net.ipv4.ip_local_reserved_ports",
                listener.port,
                ports.start(),
                ports.end(),
            );
            let pointer = format!("/spec/listeners/{index}/port");
            warnings.push(manifest.diagnostic(Severity::Warning, &pointer, &message));
        }
    }
    warnings
}

/// Ports of the range that aren't given to outgoing connections, as `8080,9100-9200`.
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

fn is_reserved(list: &str, port: u16) -> bool {
    list.trim().split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_numbers_and_ranges() {
        for (port, reserved) in [(8_079, false), (8_080, true), (9_150, true), (9_201, false)] {
            assert_eq!(is_reserved("8080,9100-9200\n", port), reserved, "{port}");
        }
        assert!(!is_reserved("\n", 8_080));
    }
}
