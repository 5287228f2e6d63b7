//! The command `l4way` on somebody's desk.

use std::{env, process::Command};

use serde_json::Value;

/// What a command has printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
}

/// Runs l4way, which finds the cluster by the kubeconfig.
pub(crate) fn l4way(args: &[&str]) -> Output {
    let binary = env::var_os("L4WAY_BINARY").expect("e2e/kubernetes/run says which l4way to test");
    let output = Command::new(binary).args(args).output().expect("l4way runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.code() != Some(2), "l4way {args:?} can't: {error}\n{out}");
    Output { code: output.status.code(), out }
}

/// `l4way check --kube`.
pub(crate) fn check() -> Output {
    l4way(&["check", "--kube"])
}

/// What `l4way check --kube` says of an object, each with its severity before it.
pub(crate) fn problems_of(kind: &str, namespace: &str, name: &str) -> Vec<String> {
    let Output { out, .. } = l4way(&["check", "--kube", "--output", "json"]);
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    let problems = answer["problems"].as_array().into_iter().flatten().filter(|problem| {
        let object = &problem["object"];
        object["kind"] == kind && object["namespace"] == namespace && object["name"] == name
    });
    problems
        .map(|problem| {
            let text = |field: &str| problem[field].as_str().unwrap_or_default();
            format!("{}: {}", text("severity"), text("message"))
        })
        .collect()
}
