//! Where objects are followed: everywhere, or in named namespaces.

use std::sync::Arc;

use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicResourceScope},
};
use l4way_resources::api::ObjectKey;

/// What a kind's objects have to do with namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Each is in one.
    Namespaced,
    /// They are in none.
    Cluster,
    /// They are the namespaces.
    Namespaces,
}

/// The objects of a kind that one watch follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// All of them.
    Everywhere,
    /// Those in this namespace.
    In(Arc<str>),
    /// The one of this name.
    Named(Arc<str>),
}

impl Place {
    /// Where the objects of a kind of this scope are to be followed, if everything is in these namespaces;
    /// everywhere if there are none.
    pub(crate) fn of(scope: Scope, namespaces: &[Arc<str>]) -> Vec<Self> {
        let place = match scope {
            Scope::Namespaced => Self::In,
            Scope::Namespaces => Self::Named,
            Scope::Cluster => return vec![Self::Everywhere],
        };
        if namespaces.is_empty() {
            return vec![Self::Everywhere];
        }
        namespaces.iter().cloned().map(place).collect()
    }

    /// Whether an object of this key is followed here.
    pub(crate) fn has(&self, key: &ObjectKey) -> bool {
        match self {
            Self::Everywhere => true,
            Self::In(namespace) => key.namespace == *namespace,
            Self::Named(name) => key.name == *name,
        }
    }

    /// How these objects are asked for.
    pub(crate) fn api<K>(&self, client: Client, resource: &ApiResource) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        match self {
            Self::In(namespace) => Api::namespaced_with(client, namespace, resource),
            Self::Everywhere | Self::Named(_) => Api::all_with(client, resource),
        }
    }

    /// The field selector that these objects take. The right to list and watch by names is only given to
    /// who selects by `metadata.name` (Kubernetes, "Using RBAC Authorization").
    pub(crate) fn field_selector(&self) -> Option<String> {
        match self {
            Self::Named(name) => Some(format!("metadata.name={name}")),
            Self::Everywhere | Self::In(_) => None,
        }
    }

    /// What the log calls objects of this plural here.
    pub(crate) fn name(&self, plural: &str) -> String {
        match self {
            Self::Everywhere => plural.to_owned(),
            Self::In(namespace) => format!("{plural} in namespace {namespace}"),
            Self::Named(name) => format!("{plural} {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_followed_where_its_scope_allows() {
        let namespaces: Vec<Arc<str>> = vec!["a".into(), "b".into()];
        let in_both = [Place::In("a".into()), Place::In("b".into())];
        assert_eq!(Place::of(Scope::Namespaced, &namespaces), in_both);
        let both = [Place::Named("a".into()), Place::Named("b".into())];
        assert_eq!(Place::of(Scope::Namespaces, &namespaces), both);
        assert_eq!(Place::of(Scope::Cluster, &namespaces), [Place::Everywhere]);
        assert_eq!(Place::of(Scope::Namespaced, &[]), [Place::Everywhere]);
        assert!(in_both[0].has(&ObjectKey::new("a", "b")));
        assert!(!in_both[0].has(&ObjectKey::new("b", "a")));
        assert!(both[0].has(&ObjectKey::new("", "a")) && !both[0].has(&ObjectKey::new("", "b")));
    }
}
