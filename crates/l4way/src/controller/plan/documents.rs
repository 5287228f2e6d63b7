//! The Secrets that hold what proxies are told.

use std::collections::BTreeSet;

use l4way_resources::api::ObjectKey;
use serde_json::{Value, json};

use super::{Settled, Step, Steps, removals, seal, step};
use crate::{
    controller::{
        cluster::Owned,
        objects::{Common, Kind, Object},
    },
    delivery::{DocumentKind, Packed, Set},
};

/// The annotation of an index that says which document is in force.
pub(crate) const HASH: &str = "l4way.dev/hash";

/// What the proxies of a Gateway are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Documents {
    pub(crate) config: Packed,
    /// Missing if the configuration names no key pair.
    pub(crate) keys: Option<Packed>,
}

/// Writes the Secrets that hold the documents: key pairs before the configuration that names them, what
/// both no longer need last.
pub(crate) fn delivery(
    common: &Common<'_>,
    documents: &Documents,
    owned: &Owned,
    settled: &mut Settled,
) -> Steps {
    let mut writing = Writing { common, owned, settled };
    let mut steps = Steps::new();
    let mut needed = BTreeSet::new();
    let keys = documents.keys.as_ref().map(|keys| (DocumentKind::Keys, keys));
    for (kind, packed) in keys.into_iter().chain([(DocumentKind::Config, &documents.config)]) {
        let Written { groups, objects } = writing.document(kind, packed);
        steps.extend(groups);
        needed.extend(objects);
    }
    // A key doesn't stay where nobody needs it.
    let all = [DocumentKind::Keys, DocumentKind::Config];
    let all = all.into_iter().flat_map(|kind| common.names.secrets(kind).collect::<Vec<_>>());
    let former: BTreeSet<_> = all.filter(|name| !needed.contains(name)).collect();
    let former = owned
        .iter()
        .filter(|((kind, key), _)| *kind == Kind::Secret && former.contains(&*key.name));
    steps.push(removals(former).collect());
    steps.retain(|group| !group.is_empty());
    steps
}

/// Writes documents.
struct Writing<'a> {
    common: &'a Common<'a>,
    owned: &'a Owned,
    settled: &'a mut Settled,
}

/// How a document is written.
struct Written {
    /// What is to be done, in groups; nothing if it is there.
    groups: Steps,
    /// The names of the Secrets that hold it then.
    objects: Vec<String>,
}

impl Writing<'_> {
    fn document(&mut self, kind: DocumentKind, packed: &Packed) -> Written {
        let names = &self.common.names;
        let hash = base64(packed.hash.as_bytes());
        if let [whole] = &*packed.parts {
            let data = json!({"hash": hash, kind.as_str(): base64(whole)});
            return self.written(vec![vec![self.index(kind, packed, data)]]);
        }
        let index =
            ObjectKey::new(self.common.provision.gateway.namespace.clone(), names.index(kind));
        let index = self.owned.get(&(Kind::Secret, index));
        let data = |key: &str| index.and_then(|index| index["data"][key].as_str());
        let in_force = [Set::A, Set::B]
            .into_iter()
            .find(|set| data("set") == Some(&*base64(set.as_str().as_bytes())));
        if let Some(set) = in_force.filter(|_| data("hash") == Some(&*hash)) {
            let written = self.in_set(kind, packed, set);
            if written.groups.is_empty() {
                return written;
            }
        }
        // Also to repair a part: whoever reads the set in force shouldn't see it change.
        self.in_set(kind, packed, in_force.map_or(Set::A, Set::other))
    }

    /// The document in the parts of this set.
    fn in_set(&mut self, kind: DocumentKind, packed: &Packed, set: Set) -> Written {
        let parts = packed.parts.iter().enumerate();
        let parts = parts.map(|(number, part)| self.part(kind, set, number, part));
        let index = json!({
            "hash": base64(packed.hash.as_bytes()),
            "set": base64(set.as_str().as_bytes()),
            "parts": base64(packed.parts.len().to_string().as_bytes()),
        });
        let index = self.index(kind, packed, index);
        self.written(vec![parts.collect(), vec![index]])
    }

    /// What these objects, in groups, need.
    fn written(&mut self, objects: Vec<Vec<Object>>) -> Written {
        let names = objects.iter().flatten().map(|object| object.key.name.to_string()).collect();
        let groups = objects.into_iter().map(|group| -> Vec<Step> {
            group.iter().filter_map(|object| step(object, self.owned, self.settled)).collect()
        });
        let groups = groups.filter(|group| !group.is_empty()).collect();
        Written { groups, objects: names }
    }

    /// The Secret that proxies watch. Its hash is also where those read it who don't read keys.
    fn index(&self, kind: DocumentKind, packed: &Packed, data: Value) -> Object {
        let mut object = self.secret(kind, &self.common.names.index(kind), data);
        object.value["metadata"]["annotations"][HASH] = packed.hash.as_str().into();
        seal(&mut object);
        object
    }

    fn part(&self, kind: DocumentKind, set: Set, number: usize, part: &[u8]) -> Object {
        let name = self.common.names.part(kind, set, number);
        let mut object = self.secret(kind, &name, json!({"part": base64(part)}));
        seal(&mut object);
        object
    }

    fn secret(&self, kind: DocumentKind, name: &str, data: Value) -> Object {
        let parts = json!({"type": format!("l4way.dev/{}", kind.as_str()), "data": data});
        self.common.object(Kind::Secret, name, parts)
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests;
