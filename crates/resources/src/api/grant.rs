use std::sync::Arc;

use serde::Deserialize;

use super::Object;

/// Leave to refer, from other namespaces, to objects in its own.
pub type ReferenceGrant = Object<ReferenceGrantSpec>;

/// The spec of a [`ReferenceGrant`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<ReferenceGrantFrom>,
    /// To what.
    pub to: Vec<ReferenceGrantTo>,
}

/// Objects that may refer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantFrom {
    /// Their API group; empty for core.
    pub group: Arc<str>,
    /// Their kind.
    pub kind: Arc<str>,
    /// Their namespace.
    pub namespace: Arc<str>,
}

/// Objects that may be referred to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReferenceGrantTo {
    /// Their API group; empty for core.
    pub group: Arc<str>,
    /// Their kind.
    pub kind: Arc<str>,
    /// Only the one of this name; every one if missing or empty.
    #[serde(default)]
    pub name: Option<Arc<str>>,
}
