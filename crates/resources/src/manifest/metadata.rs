//! The rules for names, labels and annotations that hold for every kind
//! (Kubernetes, `apimachinery/pkg/api/validation` and `util/validation`).

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value};

use crate::{
    path::Path,
    schema::{Kind, Problem, Scope},
};

/// What Kubernetes allows all annotations of an object together.
const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

/// Checks an object's metadata, and puts a namespaced object without a namespace into `default`.
/// What isn't of the right type is left to the schema.
pub(super) fn check(kind: &Kind, object: &mut Map<String, Value>) -> Vec<Problem> {
    let path = Path::default().field("metadata");
    let Some(metadata) = object.get_mut("metadata").filter(|metadata| !metadata.is_null()) else {
        return vec![Problem::new(path.field("name"), "is required, and missing")];
    };
    let Some(metadata) = metadata.as_object_mut() else { return Vec::new() };
    let mut problems = Vec::new();
    problems.extend(name(kind, metadata, &path));
    problems.extend(namespace(kind, metadata, &path));
    labels(metadata, &path, &mut problems);
    annotations(metadata, &path, &mut problems);
    as_an_api_server_keeps_it(metadata);
    problems
}

/// Generations count from 1 whatever a manifest says, and times are in UTC, so that they compare.
fn as_an_api_server_keeps_it(metadata: &mut Map<String, Value>) {
    metadata.insert("generation".to_owned(), Value::from(1));
    let created = metadata.get("creationTimestamp").and_then(Value::as_str);
    if let Some(Ok(created)) = created.map(DateTime::parse_from_rfc3339) {
        let created = created.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true);
        metadata.insert("creationTimestamp".to_owned(), Value::from(created));
    }
}

fn name(kind: &Kind, metadata: &Map<String, Value>, path: &Path) -> Option<Problem> {
    let path = path.field("name");
    match metadata.get("name") {
        None | Some(Value::Null) if metadata.contains_key("generateName") => Some(
            Problem::new(path, "is required, and missing")
                .with_help("generateName can't be applied"),
        ),
        None | Some(Value::Null) => Some(Problem::new(path, "is required, and missing")),
        Some(Value::String(name)) => {
            let (fits, rule) = match kind.name {
                "Namespace" => (is_label(name), LABEL_RULE),
                "Service" => (
                    is_label(name) && !name.starts_with(|c: char| c.is_ascii_digit()),
                    "a DNS label that starts with a letter (lower-case letters, digits and `-`, at \
                     most 63)",
                ),
                _ => (is_subdomain(name), SUBDOMAIN_RULE),
            };
            (!fits).then(|| Problem::new(path, format!("must be {rule}, not {name:?}")))
        }
        Some(_) => None,
    }
}

fn namespace(kind: &Kind, metadata: &mut Map<String, Value>, path: &Path) -> Option<Problem> {
    let path = path.field("namespace");
    let given = match metadata.get("namespace") {
        None | Some(Value::Null) => "",
        Some(Value::String(namespace)) => namespace.as_str(),
        Some(_) => return None,
    };
    match (kind.scope, given) {
        // As an API server does (`EnsureObjectNamespaceMatchesRequestNamespace`).
        (Scope::Cluster, _) => {
            metadata.remove("namespace");
            None
        }
        (Scope::Namespaced, "") => {
            metadata.insert("namespace".to_owned(), Value::from("default"));
            None
        }
        (Scope::Namespaced, name) => (!is_label(name))
            .then(|| Problem::new(path, format!("must be {LABEL_RULE}, not {name:?}"))),
    }
}

fn labels(metadata: &Map<String, Value>, path: &Path, problems: &mut Vec<Problem>) {
    let path = path.field("labels");
    for (key, value) in metadata.get("labels").and_then(Value::as_object).into_iter().flatten() {
        if !is_qualified(key) {
            problems.push(bad_key(&path, key, "label"));
        }
        if value.as_str().is_some_and(|value| !value.is_empty() && !is_qualified_name(value)) {
            let message = "must be a label's value: letters, digits, `-`, `_` and `.`, \
                a letter or digit first and last, at most 63";
            problems.push(Problem::new(path.field(key), message));
        }
    }
}

fn annotations(metadata: &Map<String, Value>, path: &Path, problems: &mut Vec<Problem>) {
    let path = path.field("annotations");
    let mut bytes = 0;
    for (key, value) in metadata.get("annotations").and_then(Value::as_object).into_iter().flatten()
    {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified(&key.to_lowercase()) {
            problems.push(bad_key(&path, key, "annotation"));
        }
    }
    if bytes > ANNOTATIONS_MAX_BYTES {
        let message = format!("must have at most {ANNOTATIONS_MAX_BYTES} bytes, not {bytes}");
        problems.push(Problem::new(path, message));
    }
}

fn bad_key(path: &Path, key: &str, what: &str) -> Problem {
    let message = format!(
        "is no {what}'s key: `name` or `dns.name/name`, where name is letters, digits, `-`, `_` \
        and `.`, a letter or digit first and last, at most 63"
    );
    Problem::new(path.field(key), message).at_key()
}

const LABEL_RULE: &str = "a DNS label (lower-case letters, digits and `-`, at most 63)";
const SUBDOMAIN_RULE: &str = "a DNS name (lower-case letters, digits, `-` and `.`, at most 253)";

/// RFC 1123 label.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

/// RFC 1123 subdomain. Kubernetes bounds the whole, not its labels.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A name with an optional DNS prefix.
fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_qualified_name(name),
        None => is_qualified_name(key),
    }
}

fn is_qualified_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    let outer = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.iter().copied().all(inner)
        && outer(bytes.first())
        && outer(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_allows() {
        assert!(is_label("a-1") && is_label("1"));
        assert!(!is_label("") && !is_label("-a") && !is_label("A") && !is_label("a.b"));
        assert!(!is_label(&"a".repeat(64)));
        assert!(is_subdomain("a.b-c.1") && !is_subdomain("a..b") && !is_subdomain("a_b"));
        assert!(is_qualified("app.kubernetes.io/name") && is_qualified("Name_1"));
        assert!(!is_qualified("a/b/c") && !is_qualified("/a") && !is_qualified("a/"));
    }
}
