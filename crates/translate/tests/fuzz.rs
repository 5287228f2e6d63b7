//! Any objects at all, as far as they are valid each for itself.

use std::collections::BTreeSet;

use l4way_fuzz::Target;
use l4way_model::ApplyReport;
use l4way_resources::{AnyObject, ReadOptions, Snapshot, SourceText, read};
use l4way_translate::{Graph, Observed, Settings, compile, graph, problems, provisions, status};

/// Whatever objects say of each other, they are translated, and to the same in whichever order they came.
#[test]
fn translation() {
    Target::new("translation").seeds("examples").seeds("crates/translate/tests/scenarios").run(
        |bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let read = read(&SourceText::new("fuzz.yaml", text), ReadOptions::default());
            let objects: Vec<_> =
                read.manifests.into_iter().map(|manifest| manifest.object).collect();
            let names: BTreeSet<_> = objects.iter().map(AnyObject::reference).collect();
            if objects.is_empty() || names.len() < objects.len() {
                return;
            }
            for translated in [as_files, in_cluster] {
                let forwards = translated(objects.iter().cloned().collect());
                let backwards = translated(objects.iter().rev().cloned().collect());
                assert_eq!(forwards, backwards);
            }
        },
    );
}

/// All that `run` makes of objects.
fn as_files(snapshot: Snapshot) -> String {
    let graph = graph(&snapshot, &Settings::default());
    format!("{:?}\n{}", compile(&graph), said(&graph))
}

/// All that the controller makes of them.
fn in_cluster(snapshot: Snapshot) -> String {
    let graph = graph(&snapshot, &Settings::in_cluster());
    format!("{:?}\n{}", provisions(&graph), said(&graph))
}

fn said(graph: &Graph) -> String {
    let status = status(graph, &ApplyReport::default(), &Observed::default());
    format!("{:?}\n{status:?}", problems(graph))
}
