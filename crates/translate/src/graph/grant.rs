use std::collections::HashMap;

use l4way_resources::{
    Store,
    api::{ObjectKey, ReferenceGrant, ReferenceGrantTo},
};

use super::namespace::unwatched;
use crate::Settings;

/// A reference from an object in one namespace to an object in another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrossReference<'a> {
    /// The group and kind of the object that refers.
    pub(crate) from: (&'a str, &'a str),
    pub(crate) from_namespace: &'a str,
    /// The group and kind of the object that is referred to.
    pub(crate) to: (&'a str, &'a str),
    pub(crate) to_namespace: &'a str,
    pub(crate) to_name: &'a str,
}

/// Where the grants are: by their namespace, and the group, kind and namespace of who may refer.
type Granted<'a> = HashMap<(&'a str, (&'a str, &'a str), &'a str), Vec<&'a ReferenceGrantTo>>;

/// What the ReferenceGrants permit.
pub(crate) struct Grants<'a> {
    granted: Granted<'a>,
    settings: &'a Settings,
}

impl<'a> Grants<'a> {
    pub(crate) fn new(grants: &'a Store<ReferenceGrant>, settings: &'a Settings) -> Self {
        let mut granted = Granted::new();
        for grant in grants.values() {
            for from in &grant.spec.from {
                let who = (from.group.as_ref(), from.kind.as_ref());
                granted
                    .entry((grant.metadata.namespace.as_ref(), who, from.namespace.as_ref()))
                    .or_default()
                    .extend(&grant.spec.to);
            }
        }
        Self { granted, settings }
    }

    /// Whether the reference is within one namespace or there is a grant for it.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(crate) fn check(&self, reference: CrossReference<'_>) -> Result<(), String> {
        let CrossReference { from, from_namespace, to, to_namespace, to_name } = reference;
        let granted = self.granted.get(&(to_namespace, from, from_namespace));
        if from_namespace == to_namespace
            || granted.is_some_and(|granted| granted.iter().any(|to| covers(to, reference)))
        {
            return Ok(());
        }
        if !self.settings.is_watched(to_namespace) {
            return Err(unwatched(to.1, &ObjectKey::new(to_namespace, to_name)));
        }
        Err(format!(
            "no ReferenceGrant permits the reference to {} {to_namespace}/{to_name}; create a \
             ReferenceGrant in namespace {to_namespace} with from: {} in namespace \
             {from_namespace} and to: {}",
            to.1, from.1, to.1
        ))
    }
}

fn covers(to: &ReferenceGrantTo, reference: CrossReference<'_>) -> bool {
    let name = to.name.as_deref().unwrap_or_default();
    (to.group.as_ref(), to.kind.as_ref()) == reference.to
        && (name.is_empty() || name == reference.to_name)
}
