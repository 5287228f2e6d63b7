use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// An object: metadata and a kind's own part.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Object<S> {
    /// Names, labels and times.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The kind's own part.
    pub spec: S,
}

/// The part of an object's metadata that l4way reads
/// (Kubernetes API, `meta/v1 ObjectMeta`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// The object's name.
    pub name: Arc<str>,
    /// The object's namespace; empty for a cluster-scoped kind.
    pub namespace: Arc<str>,
    /// Labels, which selectors match.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// When the object was made, in RFC 3339, UTC. Objects from files usually have none.
    pub creation_timestamp: Option<String>,
    /// When somebody asked to delete the object, if somebody has.
    pub deletion_timestamp: Option<String>,
    /// A number that grows with each change of the spec.
    pub generation: i64,
    /// What tells the object from others that had its name before; objects from files have none.
    pub uid: Option<Arc<str>>,
}

impl ObjectMeta {
    /// The object's namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Orders objects by age as the Gateway API resolves conflicts: the oldest first, then by
    /// namespace and name. An object without a creation time is younger than any that has one.
    pub fn age_order(&self) -> impl Ord + '_ {
        let created = self.creation_timestamp.as_deref();
        (created.is_none(), created, self.namespace.as_ref(), self.name.as_ref())
    }
}

/// A namespace and a name: tells objects of one kind apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The namespace; empty for a cluster-scoped kind.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// A kind, a namespace and a name: tells all objects apart. Shown as `Kind namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The kind as the API spells it. No two kinds that l4way reads share their name.
    pub kind: Arc<str>,
    /// The namespace and name.
    #[serde(flatten)]
    pub key: ObjectKey,
}

impl ObjectRef {
    /// The object of this kind with this key.
    pub fn new(kind: impl Into<Arc<str>>, key: ObjectKey) -> Self {
        Self { kind: kind.into(), key }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// A label selector: every requirement has to hold, an empty one selects all
/// (Kubernetes API, `meta/v1 LabelSelector`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must have just these values.
    pub match_labels: BTreeMap<String, String>,
    /// Requirements on labels.
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One requirement of a [`LabelSelector`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LabelSelectorRequirement {
    /// The label's key.
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: SelectorOperator,
    /// The values, for `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// The operators of a [`LabelSelectorRequirement`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub enum SelectorOperator {
    /// The label's value is one of the values.
    In,
    /// The label is missing, or its value is none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
    /// An operator that the API doesn't know: it makes the selector invalid.
    #[serde(untagged)]
    Unknown(String),
}

impl LabelSelector {
    /// Whether an object with these labels is selected. An unknown operator selects nothing.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether an object is selected for certain of which these labels are known, and nothing of
    /// others: what isn't known fits no requirement, not even that a label be missing.
    pub fn surely_matches(&self, known: &BTreeMap<String, String>) -> bool {
        let is_known =
            |requirement: &LabelSelectorRequirement| known.contains_key(&requirement.key);
        self.matches(known) && self.match_expressions.iter().all(is_known)
    }

    /// The first operator that the API doesn't know, if there is one.
    pub fn unknown_operator(&self) -> Option<&str> {
        self.match_expressions.iter().find_map(|requirement| match &requirement.operator {
            SelectorOperator::Unknown(operator) => Some(operator.as_str()),
            _ => None,
        })
    }
}

impl LabelSelectorRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            SelectorOperator::In => value.is_some_and(|value| self.values.contains(value)),
            SelectorOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            SelectorOperator::Exists => value.is_some(),
            SelectorOperator::DoesNotExist => value.is_none(),
            SelectorOperator::Unknown(_) => false,
        }
    }
}
