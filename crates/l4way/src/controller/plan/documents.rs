//! The Secrets that hold what proxies are told.

use std::{collections::BTreeSet, sync::Arc};

use l4way_delivery::{Document, DocumentKind, KeyPairs, Names, PARTS, Packed, Set, unpack};
use l4way_resources::api::ObjectKey;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Settled, Step, removals, seal, step};
use crate::controller::{
    objects::{Common, Kind, Object},
    observe::Delivered,
    ownership::Owned,
};

/// The annotation of an index that says which document is in force.
pub(crate) const HASH: &str = "l4way.dev/hash";

/// What the proxies of a Gateway are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Documents {
    pub(crate) config: Packed,
    /// Missing if the configuration names no key pair.
    pub(crate) keys: Option<Packed>,
    /// The names of the key pairs.
    pub(crate) key_names: BTreeSet<Arc<str>>,
}

impl Documents {
    /// Which they are.
    pub(crate) fn delivered(&self) -> Delivered<'_> {
        let keys = self.keys.as_ref().map(|keys| &*keys.hash);
        Delivered { config: &self.config.hash, keys }
    }
}

/// What the Secrets that hold the documents need now: key pairs before the configuration that names them,
/// unless they fail and the proxies have what it names; what both no longer need last. `is_busy` tells of
/// documents of which something is being written: what proxies are told of isn't changed under their eyes.
pub(crate) fn delivery(
    common: &Common<'_>,
    documents: &Documents,
    owned: &Owned,
    settled: &mut Settled,
    is_busy: impl Fn(DocumentKind) -> bool,
    have_keys_failed: bool,
) -> Vec<Step> {
    let mut writing = Writing { common, owned, settled };
    let mut steps = Vec::new();
    let mut needed = BTreeSet::new();
    let mut is_right = true;
    let keys = documents.keys.as_ref().map(|keys| (DocumentKind::Keys, keys));
    for (kind, packed) in keys.into_iter().chain([(DocumentKind::Config, &documents.config)]) {
        if is_busy(kind) {
            is_right = false;
            continue;
        }
        let written = writing.document(kind, packed);
        let waits = kind == DocumentKind::Config
            && !is_right
            && !(have_keys_failed
                && has_keys(&common.names.documents, owned, &documents.key_names));
        is_right &= written.steps.is_empty();
        if !waits {
            steps.extend(written.steps);
        }
        needed.extend(written.objects);
    }
    if is_right {
        // A key doesn't stay where nobody needs it.
        let former = owned
            .iter()
            .filter(|((kind, key), _)| *kind == Kind::Secret && !needed.contains(&*key.name));
        steps.extend(removals(former));
    }
    steps
}

/// Whether the key pairs of these names are in their Secrets, be they of now or of before.
fn has_keys(names: &Names, owned: &Owned, asked: &BTreeSet<Arc<str>>) -> bool {
    let there = delivered::<KeyPairs>(names, owned);
    there.is_ok_and(|there| there.names().is_superset(asked))
}

/// A document as it is in its Secrets.
///
/// # Errors
/// A sentence that says why there is none that this l4way can read.
pub(crate) fn delivered<D: Document>(names: &Names, owned: &Owned) -> Result<D, String> {
    let data = |name: &str, key: &str| {
        let secret =
            owned.iter().find(|((kind, id), _)| *kind == Kind::Secret && *id.name == *name);
        let text = secret.and_then(|(_, secret)| secret["data"][key].as_str());
        let missing = || format!("Secret {name} isn't there, or has no {key}");
        unbase64(text.ok_or_else(missing)?).ok_or_else(missing)
    };
    let index = names.index(D::KIND);
    let text = |key| data(&index, key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let hash = text("hash")?;
    let packed = match data(&index, D::KIND.as_str()) {
        Ok(whole) => whole,
        Err(_) => {
            let set = Set::parse(&text("set")?).ok_or("there is no such set of parts")?;
            let count: usize = text("parts")?.parse().map_err(|_| "its parts have no number")?;
            let mut packed = Zeroizing::new(Vec::new());
            for part in 0..count.min(PARTS) {
                packed.extend_from_slice(&data(&names.part(D::KIND, set, part), "part")?);
            }
            packed
        }
    };
    unpack(&packed, &hash).map_err(|error| error.to_string())
}

/// Writes documents.
struct Writing<'a> {
    common: &'a Common<'a>,
    owned: &'a Owned,
    settled: &'a mut Settled,
}

/// How a document is written.
struct Written {
    /// What is to be done now; nothing if it is there.
    steps: Vec<Step>,
    /// The names of the Secrets that hold it in the end.
    objects: Vec<String>,
}

impl Writing<'_> {
    fn document(&mut self, kind: DocumentKind, packed: &Packed) -> Written {
        let names = &self.common.names.documents;
        let hash = base64(packed.hash.as_bytes());
        if let [whole] = &*packed.parts {
            let data = json!({"hash": hash, kind.as_str(): base64(whole)});
            return self.written(Vec::new(), self.index(kind, packed, data));
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
            if written.steps.is_empty() {
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
        self.written(parts.collect(), index)
    }

    /// What these parts need, and when they are there the index.
    fn written(&mut self, parts: Vec<Object>, index: Object) -> Written {
        let objects = parts.iter().chain([&index]).map(|object| object.key.name.to_string());
        let objects = objects.collect();
        let parts = parts.iter().filter_map(|part| step(part, self.owned, self.settled));
        let mut steps: Vec<_> = parts.collect();
        if steps.is_empty() {
            steps.extend(step(&index, self.owned, self.settled));
        }
        Written { steps, objects }
    }

    /// The Secret that proxies watch. Its hash is also where those read it who don't read keys.
    fn index(&self, kind: DocumentKind, packed: &Packed, data: Value) -> Object {
        let mut object = self.secret(kind, &self.common.names.documents.index(kind), data);
        object.value["metadata"]["annotations"][HASH] = packed.hash.as_str().into();
        seal(&mut object);
        object
    }

    fn part(&self, kind: DocumentKind, set: Set, number: usize, part: &[u8]) -> Object {
        let name = self.common.names.documents.part(kind, set, number);
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

/// It may hold keys.
fn unbase64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests;
