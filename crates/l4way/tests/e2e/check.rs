//! `l4way check`.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use super::{
    l4way::{BINARY, project},
    manifests::Manifests,
};

struct Verdict {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Verdict {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn check(args: &[&str]) -> Verdict {
    Command::new(BINARY).arg("check").args(args).output().expect("l4way check").into()
}

fn check_text(text: &str, args: &[&str]) -> Verdict {
    let mut child = Command::new(BINARY)
        .args(["check", "-"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("l4way check");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("input");
    child.wait_with_output().expect("its output").into()
}

#[test]
fn the_tutorial_has_warnings_but_no_problems() {
    let tutorial = project("examples/tutorial");
    let tutorial = tutorial.to_str().expect("UTF-8");
    let verdict = check(&[tutorial]);
    assert_eq!(verdict.code, Some(0), "{}", verdict.out);
    assert!(verdict.out.contains("v1alpha2"), "standard doesn't serve it: {}", verdict.out);

    assert_eq!(check(&[tutorial, "--strict"]).code, Some(1));
    let standard = check(&[tutorial, "--channel", "standard"]);
    assert_eq!(standard.code, Some(1), "{}", standard.out);
    assert_eq!(check(&[tutorial, "--channel", "experimental"]).code, Some(0));
}

#[test]
fn a_problem_has_its_place_its_field_and_a_cure() {
    let manifests = Manifests::empty();
    manifests.write(
        "gw.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: gw\nspec:\n  \
         gatewayClassName: l4way\n  listeners:\n  - name: tcp\n    protocol: TCP\n    \
         port: 70000\n",
    );
    let verdict = check(&[manifests.path().to_str().expect("UTF-8")]);
    assert_eq!(verdict.code, Some(1));
    for part in ["gw.yaml:10:11", "spec.listeners[0].port", "65535", "port: 70000"] {
        assert!(verdict.out.contains(part), "no {part:?} in\n{}", verdict.out);
    }
}

#[test]
fn a_route_without_traffic_is_told_with_the_reason() {
    let verdict = check_text(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: l4way
  listeners: [{name: tcp, protocol: TCP, port: 9000}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: lost}
spec:
  parentRefs: [{name: gw, sectionName: tpc}]
  rules: [{backendRefs: [{name: nothing, port: 80}]}]
",
        &[],
    );
    assert_eq!(verdict.code, Some(1), "{}", verdict.out);
    for part in ["<stdin>:12", "lost", "tpc", "default/nothing"] {
        assert!(verdict.out.contains(part), "no {part:?} in\n{}", verdict.out);
    }
}

#[test]
fn a_port_that_clients_use_is_warned_of() {
    let range =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the range");
    let port = range.split_whitespace().next().expect("its start");
    let manifest = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gw}}
spec:
  gatewayClassName: l4way
  listeners: [{{name: tcp, protocol: TCP, port: {port}}}]
"
    );
    let verdict = check_text(&manifest, &[]);
    assert_eq!(verdict.code, Some(0), "{}", verdict.out);
    assert!(verdict.out.contains("ip_local_port_range"), "{}", verdict.out);
    assert_eq!(check_text(&manifest, &["--strict"]).code, Some(1));
}

#[test]
fn the_answer_can_be_read_by_programs() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw}\n";
    let verdict = check_text(text, &["-o", "json"]);
    assert_eq!(verdict.code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&verdict.out).expect("JSON");
    let first = &json["problems"][0];
    assert_eq!(first["severity"], "error", "{json:#}");
    assert_eq!(first["file"], "<stdin>", "{json:#}");
    let verdict = check_text(text, &["-o", "yaml"]);
    assert!(verdict.out.contains("severity: error"), "{}", verdict.out);
}

#[test]
fn what_cannot_be_checked_is_told_apart_from_problems() {
    let verdict = check(&["/nowhere/at/all"]);
    assert_eq!(verdict.code, Some(2), "{}", verdict.out);
    assert!(verdict.err.contains("/nowhere/at/all"), "{}", verdict.err);
    assert_eq!(check(&["--channel", "stable", "x"]).code, Some(2));
}

#[test]
fn what_follows_from_an_invalid_object_is_told_once() {
    let verdict = check_text(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: l4way
  listners: [{name: tcp, protocol: TCP, port: 9000}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: echo-tcp, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo-tcp}
spec: {ports: [{port: 80, protocl: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo-udp}
spec: {ports: [{port: 80}]}
",
        &[],
    );
    assert_eq!(verdict.code, Some(1), "{}", verdict.out);
    let errors: Vec<_> = verdict.out.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 2, "{}", verdict.out);
    assert!(errors[0].contains("listners") && errors[1].contains("protocl"), "{errors:?}");
}

#[test]
fn nothing_of_a_secret_is_shown() {
    let manifests = Manifests::empty();
    let texts = [
        (
            "a.json",
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"password":"hunter2"},}}"#,
        ),
        (
            "b.yaml",
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {password: \"hunter2\", x: [}}",
        ),
        (
            "c.json",
            r#"{"apiVersion":"v1","kind":"Secrett","metadata":{"name":"s"},"stringData":{"password":"hunter2"}}"#,
        ),
        (
            "d.json",
            r#"{"apiVersion":"v1","kind":"Secret","stringData":{"password":"hunter2"}}{"apiVersion":"v1","kind":"Service"}"#,
        ),
        (
            "e.json",
            r#"{"apiVersion":"v1","kind":"Secret","stringData":{"password":"hunter2"}}{"apiVersion":"v1","kind":"Service""#,
        ),
        ("f.yaml", "stringData: {password: hunter2}\nmetadata: {name: s}\n"),
        (
            "g.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: *hunter2\n",
        ),
        (
            "h.json",
            r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"password":"hunter2"}},{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"_"}}]}"#,
        ),
        (
            "i.json",
            r#"{"apiVersion":"v1","kind":"SecretList","items":[{"metadata":{"name":"_"},"stringData":{"password":"hunter2"}}]}"#,
        ),
        (
            "j.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: |\n    hunter2\n   x\n",
        ),
    ];
    for (name, text) in texts {
        manifests.write(name, text);
    }
    for output in ["text", "json", "yaml"] {
        let verdict = check(&[manifests.path().to_str().expect("UTF-8"), "-o", output]);
        assert_eq!(verdict.code, Some(1), "{}", verdict.out);
        assert!(!verdict.out.contains("hunter2"), "{}", verdict.out);
        for (name, _) in texts {
            assert!(verdict.out.contains(name), "{name} has no error:\n{}", verdict.out);
        }
    }
}
