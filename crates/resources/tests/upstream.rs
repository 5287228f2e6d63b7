//! The verdicts on the manifests of the upstream Gateway API module: its examples and conformance
//! manifests are valid, its invalid examples are not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use l4way_resources::{Channel, ReadOptions, ReadResult, Renderer, SourceText, read};

/// How a document of the Gateway API's kinds says so.
const GATEWAY_API: &str = "apiVersion: gateway.networking.k8s.io/";

/// Conformance manifests that hold placeholders, which the suite replaces: for addresses, and for
/// the controllerName. Each has one object.
const PLACEHOLDERS: [&str; 2] =
    ["tests/gateway-static-addresses.yaml", "tests/gatewayclass-observed-generation-bump.yaml"];

#[test]
fn examples_and_conformance_manifests_are_valid() {
    let conformance = module("sigs.k8s.io/gateway-api/conformance");
    let mut files = manifests(&module("sigs.k8s.io/gateway-api").join("examples"));
    for directory in ["base", "mesh", "tests"] {
        files.extend(manifests(&conformance.join(directory)));
    }
    let (mut objects, mut refused) = (0, 0);
    for file in &files {
        let (gateway_objects, result) = read_file(file, Channel::Any);
        objects += gateway_objects;
        if PLACEHOLDERS.iter().any(|name| file.ends_with(name)) {
            assert!(!result.is_valid(), "{} is accepted", file.display());
            refused += gateway_objects;
        } else {
            assert!(result.is_valid(), "{}:\n{}", file.display(), rendered(&result));
        }
    }
    assert_eq!((objects - refused, objects), (463, 465));
}

#[test]
fn invalid_examples_are_refused() {
    let directory = module("sigs.k8s.io/gateway-api").join("hack/invalid-examples");
    let mut refused = 0;
    for (channel, name) in
        [(Channel::Standard, "standard"), (Channel::Experimental, "experimental")]
    {
        for file in manifests(&directory.join(name)) {
            let (_, result) = read_file(&file, channel);
            assert!(!result.is_valid(), "{} is accepted", file.display());
            refused += 1;
        }
    }
    assert_eq!(refused, 36);
}

/// The number of a file's objects of the Gateway API's kinds, and what is read of it.
fn read_file(path: &Path, channel: Channel) -> (usize, ReadResult) {
    let text = fs::read_to_string(path).expect("upstream manifests are text");
    let objects = text.lines().filter(|line| line.starts_with(GATEWAY_API)).count();
    let source = SourceText::new(path.display().to_string(), text);
    (objects, read(&source, ReadOptions { channel }))
}

fn rendered(result: &ReadResult) -> String {
    let errors = result.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    errors.map(|error| Renderer::plain().render(error) + "\n").collect()
}

/// Where Go keeps a module at the version that `e2e/upstream/go.mod` names.
fn module(name: &str) -> PathBuf {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/upstream");
    let advice = format!("run `go mod download {name}` in {}", pinned.display());
    let output = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", name])
        .current_dir(&pinned)
        .output()
        .unwrap_or_else(|error| panic!("can't run `go list`: {error}; install Go, then {advice}"));
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        output.status.success() && !directory.is_empty(),
        "the module {name} isn't here: {}; {advice}",
        String::from_utf8_lossy(&output.stderr)
    );
    directory.into()
}

/// Every YAML file below a directory, in order.
fn manifests(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the module's directories can be read") {
        let path = entry.expect("the module's directories can be read").path();
        if path.is_dir() {
            found.extend(manifests(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}
