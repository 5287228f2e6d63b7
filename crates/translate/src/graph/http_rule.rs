//! The rules of an HTTPRoute, as far as this version of l4way carries them.
//!
//! What isn't implemented is told, and never left out in silence: a match that can't be evaluated is
//! dropped with what it would have let through; requests that a filter or a timeout would have
//! changed are answered with an error (Gateway API, `HTTPRouteRule.filters`).

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use l4way_model::{HeaderMatch, PathMatch};
use l4way_resources::api::{BackendRef, HttpRouteMatch, RouteRule};
use serde_json::Value;

/// A rule of an HTTPRoute.
#[derive(Clone, Debug)]
pub(crate) struct HttpRuleNode {
    /// Which requests it is for: those that fit one of them.
    pub(crate) matches: Vec<HttpMatch>,
    /// Its targets' places among those of the route.
    pub(crate) targets: Range<usize>,
    /// Whether its requests are refused, as it wants what isn't implemented.
    pub(crate) refused: bool,
}

/// Which requests are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpMatch {
    pub(crate) path: PathMatch,
    pub(crate) headers: Vec<HeaderMatch>,
}

/// What a rule wants that isn't implemented: the field, relative to the rule, and what about it.
pub(crate) struct Unsupported {
    pub(crate) field: String,
    pub(crate) what: String,
}

/// Reads a rule, without its targets.
pub(crate) fn read(rule: &RouteRule, targets: Range<usize>) -> (HttpRuleNode, Vec<Unsupported>) {
    let mut unsupported = Vec::new();
    let mut matches = Vec::new();
    for (index, wanted) in rule.matches.iter().enumerate() {
        match read_match(wanted) {
            Ok(wanted) => matches.push(wanted),
            Err((field, what)) => {
                unsupported.push(Unsupported { field: format!("matches/{index}/{field}"), what });
            }
        }
    }
    if rule.matches.is_empty() {
        matches.push(HttpMatch { path: PathMatch::Prefix("/".into()), headers: Vec::new() });
    }
    let changes = changes(rule);
    let refused = !changes.is_empty();
    unsupported.extend(changes);
    (HttpRuleNode { matches, targets, refused }, unsupported)
}

/// What the rule would do to its requests, of which nothing is implemented.
fn changes(rule: &RouteRule) -> Vec<Unsupported> {
    let mut unsupported = Vec::new();
    for (index, filter) in rule.filters.iter().enumerate() {
        let (field, what) = (format!("filters/{index}/type"), format!("filter {}", filter.kind));
        unsupported.push(Unsupported { field, what });
    }
    for (index, BackendRef { filters, .. }) in rule.backend_refs.iter().enumerate() {
        if let Some(filter) = filters.first() {
            let field = format!("backendRefs/{index}/filters/0/type");
            unsupported.push(Unsupported { field, what: format!("filter {}", filter.kind) });
        }
    }
    unsupported.extend(
        present(&rule.other)
            .map(|field| Unsupported { field: field.clone(), what: format!("field {field:?}") }),
    );
    unsupported
}

/// The match, or the field of it that isn't implemented.
fn read_match(wanted: &HttpRouteMatch) -> Result<HttpMatch, (String, String)> {
    let path = match &*wanted.path.kind {
        "Exact" => PathMatch::Exact(wanted.path.value.clone()),
        "PathPrefix" => PathMatch::Prefix(wanted.path.value.clone()),
        other => return Err(("path/type".to_owned(), format!("path match {other}"))),
    };
    if let Some(field) = present(&wanted.other).next() {
        return Err((field.clone(), format!("match {field:?}")));
    }
    let mut headers: BTreeMap<Arc<str>, HeaderMatch> = BTreeMap::new();
    for (index, header) in wanted.headers.iter().enumerate() {
        if &*header.kind != "Exact" {
            let field = format!("headers/{index}/type");
            return Err((field, format!("header match {}", header.kind)));
        }
        let name: Arc<str> = header.name.to_ascii_lowercase().into();
        // Of two for one header the first counts (`HTTPHeaderMatch.name`).
        headers
            .entry(name.clone())
            .or_insert_with(|| HeaderMatch { name, value: header.value.clone() });
    }
    Ok(HttpMatch { path, headers: headers.into_values().collect() })
}

/// The fields that are there and say something.
fn present(fields: &BTreeMap<String, Value>) -> impl Iterator<Item = &String> {
    let says_something = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    fields.iter().filter(move |(_, value)| says_something(value)).map(|(field, _)| field)
}
