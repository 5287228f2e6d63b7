use std::collections::HashMap;

use l4way_resources::{
    Store,
    api::{ReferenceGrant, ReferenceGrantTo},
};

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

impl CrossReference<'_> {
    /// What would permit the reference, as the end of a sentence.
    pub(crate) fn cure(&self) -> String {
        format!(
            "create a ReferenceGrant in namespace {} with from: {} in namespace {} and to: {}",
            self.to_namespace, self.from.1, self.from_namespace, self.to.1,
        )
    }
}

/// Where the grants are: by their namespace, and the group, kind and namespace of who may refer.
type Granted<'a> = HashMap<(&'a str, (&'a str, &'a str), &'a str), Vec<&'a ReferenceGrantTo>>;

/// What the ReferenceGrants permit.
pub(crate) struct Grants<'a>(Granted<'a>);

impl<'a> Grants<'a> {
    pub(crate) fn new(grants: &'a Store<ReferenceGrant>) -> Self {
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
        Self(granted)
    }

    /// Whether the reference is within one namespace or there is a grant for it.
    pub(crate) fn permit(&self, reference: CrossReference<'_>) -> bool {
        reference.from_namespace == reference.to_namespace
            || self
                .0
                .get(&(reference.to_namespace, reference.from, reference.from_namespace))
                .is_some_and(|granted| granted.iter().any(|to| covers(to, reference)))
    }
}

fn covers(to: &ReferenceGrantTo, reference: CrossReference<'_>) -> bool {
    let name = to.name.as_deref().unwrap_or_default();
    (to.group.as_ref(), to.kind.as_ref()) == reference.to
        && (name.is_empty() || name == reference.to_name)
}
