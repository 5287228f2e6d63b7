//! What can be told of documents that can't be used.

use std::{collections::BTreeSet, sync::Arc};

use super::kind::meant;
use crate::{
    Content, Place, Refused,
    schema::{Kind, Scope},
    yaml::{Node, Words},
};

/// A document of a kind that could be parsed.
pub(super) fn read(kind: &Kind, root: &Node, place: &Place) -> Arc<Refused> {
    let metadata = root.get("metadata").filter(|metadata| metadata.is_mapping());
    let text = |field: &str| {
        let value = metadata?.get(field)?;
        value.as_str().filter(|text| !text.is_empty())
    };
    let has_none = |metadata: &Node| {
        let given = metadata.get("namespace");
        given.is_none_or(|given| given.is_null() || given.as_str() == Some(""))
    };
    let namespace = match kind.scope {
        Scope::Cluster => Some(""),
        Scope::Namespaced if metadata.is_some_and(has_none) => Some("default"),
        Scope::Namespaced => text("namespace"),
    };
    // Of a Secret nothing is kept that nobody needs.
    let content = match kind.name {
        "Secret" => Content::Unknown,
        _ => Content::Fields(root.to_value()),
    };
    refused(kind, namespace, text("name"), place, content)
}

/// A document that couldn't be parsed, for each kind that it may be of.
pub(super) fn unparsed(words: &Words, place: &Place) -> Vec<Arc<Refused>> {
    let names: BTreeSet<_> = words.kinds().iter().collect();
    let kinds = Kind::all().iter().filter(|kind| names.iter().any(|name| ***name == *kind.name));
    let refused = kinds.map(|kind| {
        let content = match words.all() {
            Some(words) if kind.name != "Secret" => Content::Words(words.clone()),
            _ => Content::Unknown,
        };
        let namespace = (kind.scope == Scope::Cluster).then_some("");
        refused(kind, namespace, None, place, content)
    });
    refused.collect()
}

/// Objects of this kind of which nothing can be told.
pub(super) fn some_of(kind: &str, place: &Place) -> Option<Arc<Refused>> {
    let kind = Kind::all().iter().find(|known| known.name == kind)?;
    let namespace = (kind.scope == Scope::Cluster).then_some("");
    Some(refused(kind, namespace, None, place, Content::Unknown))
}

/// The kinds that a document may be of that doesn't say its version and kind: what it names, or what its
/// fields are those of, where something is closed by the kind.
pub(super) fn kinds(root: &Node) -> Vec<&'static Kind> {
    if let Some(kind) = root.get("kind").and_then(Node::as_str) {
        return meant(kind).into_iter().collect();
    }
    let has = |field: &str| root.get("spec").is_some_and(|spec| spec.get(field).is_some());
    let marks = [("controllerName", "GatewayClass"), ("targetRefs", "BackendTLSPolicy")];
    let found = marks.into_iter().filter(|(field, _)| has(field));
    found.filter_map(|(_, kind)| meant(kind)).collect()
}

fn refused(
    kind: &Kind,
    namespace: Option<&str>,
    name: Option<&str>,
    place: &Place,
    content: Content,
) -> Arc<Refused> {
    Arc::new(Refused {
        kind: kind.name.into(),
        namespace: namespace.map(Into::into),
        name: name.map(Into::into),
        place: Some(place.clone()),
        content,
    })
}
