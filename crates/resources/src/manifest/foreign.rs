//! Policies of other implementations, which l4way passes over.

use std::sync::Arc;

use crate::{
    Place,
    api::{ObjectKey, ObjectRef, PolicyTargetRef},
    yaml::Node,
};

/// An object of a kind that isn't read, and that says how others are to be handled (GEP-713).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPolicy {
    /// The object.
    pub object: ObjectRef,
    /// Its group and version.
    pub api_version: Arc<str>,
    /// What it is for, in its namespace.
    pub targets: Vec<PolicyTargetRef>,
    /// Where it is written.
    pub place: Place,
}

/// What a document of a kind that isn't read is, if it is a policy.
pub(super) fn policy(
    root: &Node,
    api_version: &str,
    kind: &str,
    place: &Place,
) -> Option<Arc<ForeignPolicy>> {
    let (metadata, spec) = (root.get("metadata")?, root.get("spec")?);
    let many = spec.get("targetRefs").and_then(Node::items).unwrap_or_default();
    let targets: Vec<_> = many.iter().chain(spec.get("targetRef")).filter_map(target).collect();
    if targets.is_empty() {
        return None;
    }
    let namespace = metadata.get("namespace").and_then(Node::as_str).unwrap_or("default");
    let key = ObjectKey::new(namespace, metadata.get("name")?.as_str()?);
    Some(Arc::new(ForeignPolicy {
        object: ObjectRef::new(kind, key),
        api_version: api_version.into(),
        targets,
        place: place.clone(),
    }))
}

fn target(reference: &Node) -> Option<PolicyTargetRef> {
    let text = |field: &str| reference.get(field).and_then(Node::as_str);
    Some(PolicyTargetRef {
        group: text("group").unwrap_or_default().into(),
        kind: text("kind")?.into(),
        name: text("name")?.into(),
        section_name: text("sectionName").map(Into::into),
    })
}
