//! When there is something else to say of a certificate though no object changes.

use std::fs;

use l4way_model::ApplyReport;
use l4way_resources::{
    ReadOptions, Snapshot, SourceText, read,
    status::{ConditionStatus, Status},
};
use l4way_translate::{Observed, Settings, graph, problems, status};

const DAY: i64 = 24 * 60 * 60;

fn snapshot() -> Snapshot {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/certificates/");
    let pem = |file: &str| {
        let pem = fs::read_to_string(format!("{directory}{file}")).expect("it can be read");
        pem.replace('\n', "\\n")
    };
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gw, namespace: default}}
spec:
  gatewayClassName: l4way
  listeners:
  - {{name: tls, protocol: TLS, port: 443, tls: {{certificateRefs: [{{name: cert}}]}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: cert, namespace: default}}
type: kubernetes.io/tls
stringData: {{tls.crt: \"{}\", tls.key: \"{}\"}}
",
        pem("any.crt"),
        pem("any.key")
    );
    let result = read(&SourceText::new("test", text), ReadOptions::default());
    assert!(result.is_valid(), "{:#?}", result.diagnostics);
    result.manifests.into_iter().map(|manifest| manifest.object).collect()
}

/// When there is something else to say, whether the certificate is complained of in status, and how
/// many problems there are.
fn at(now: i64) -> (Option<i64>, bool, usize) {
    let graph = graph(&snapshot(), &Settings { now, ..Settings::default() });
    let statuses = status(&graph, &ApplyReport::default(), &Observed::default());
    let Some(Status::Gateway(gateway)) = statuses.first().map(|update| &update.status) else {
        panic!("a Gateway has a status")
    };
    let conditions = &gateway.listeners[0].conditions;
    let is_complaint =
        |kind: &str, status| kind == "ResolvedRefs" && status == ConditionStatus::False;
    let told = conditions.iter().any(|condition| is_complaint(&condition.kind, condition.status));
    (graph.next_time(), told, problems(&graph).len())
}

#[test]
fn each_turn_of_a_certificate_is_told_in_time() {
    let (Some(begins), true, 1) = at(1) else { panic!("it isn't valid yet") };
    let (Some(soon), false, 0) = at(begins) else { panic!("it is valid") };
    assert_eq!(at(soon - 1), (Some(soon), false, 0));
    let (Some(ended), false, 1) = at(soon) else { panic!("it ends soon") };
    assert_eq!(ended - soon, 14 * DAY + 1);
    assert_eq!(at(ended - 1), (Some(ended), false, 1));
    assert_eq!(at(ended), (None, true, 1));
}

#[test]
fn nothing_is_said_of_a_time_that_is_not_known() {
    assert_eq!(at(0), (None, false, 0));
}
