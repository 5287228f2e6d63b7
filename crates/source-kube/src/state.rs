//! What is known of the API server's objects. No I/O here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{
    Resource,
    core::{ApiResource, ObjectMeta},
};
use l4way_resources::{
    AnyObject, Content, Refused, Snapshot,
    api::{ObjectKey, ObjectRef},
};
use serde_json::{Map, Value, json};
use tracing::{info, warn};

use crate::{
    contents::{Contents, Version},
    kinds::Kind,
    object::{Object, Outline},
    place::Place,
    progress::{Progress, Seen},
};

/// The keys of Secrets that are read; nothing else of a Secret is kept.
const SECRET_KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// The keys of ConfigMaps that are read.
const CONFIG_MAP_KEYS: [&str; 1] = ["ca.crt"];

/// What one watch fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// The kind of this name, in the snapshot.
    Kind(&'static str),
    /// The raw kind with this number.
    Raw(usize),
}

/// One object as a slot takes it.
pub(crate) struct Read {
    key: ObjectKey,
    version: Version,
    content: Taken,
}

enum Taken {
    Raw(Value),
    /// Nothing: the object isn't kept.
    Nothing,
    /// That it is there.
    Outline,
    Object {
        /// Boxed: the error is rare.
        object: Result<AnyObject, Box<Unreadable>>,
        /// What writing its status needs, for a kind that has one.
        current: Option<Value>,
    },
}

/// An object that doesn't have its kind's shape, and what is wrong with it.
struct Unreadable {
    error: String,
    value: Value,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct State {
    snapshot: Snapshot,
    /// What each kind's watch has put into the snapshot.
    objects: BTreeMap<&'static str, BTreeMap<ObjectKey, AnyObject>>,
    current: BTreeMap<ObjectRef, Arc<Value>>,
    contents: Contents,
    raw: Vec<(String, BTreeMap<ObjectKey, Arc<Value>>)>,
    progress: Progress,
    unreadable: BTreeSet<ObjectRef>,
    /// Objects whose status may have changed, until they are taken.
    touched: BTreeSet<ObjectRef>,
    /// The kinds that are followed, with their versions.
    served: BTreeMap<&'static str, &'static str>,
    /// Slots whose first list isn't complete, and where.
    pending: BTreeSet<(Slot, Place)>,
    discovered: bool,
    ready: bool,
}

impl Read {
    /// Leaves a raw object's content out where this isn't true of it.
    pub(crate) fn kept_if(mut self, is_kept: fn(&Value) -> bool) -> Self {
        if matches!(&self.content, Taken::Raw(value) if !is_kept(value)) {
            self.content = Taken::Nothing;
        }
        self
    }
}

/// Reads an object for a slot. What isn't needed is dropped first.
pub(crate) fn read(slot: Slot, resource: &ApiResource, object: Object) -> Read {
    let key = key(object.meta());
    let version = version(object.meta());
    let value = value(resource, object);
    let content = match slot {
        Slot::Raw(_) => Taken::Raw(value),
        Slot::Kind(kind) => read_kind(kind, value),
    };
    Read { key, version, content }
}

/// Reads that an object is there.
pub(crate) fn read_outline(outline: &Outline) -> Read {
    let metadata = outline.meta();
    Read { key: key(metadata), version: version(metadata), content: Taken::Outline }
}

/// What writing an object's status needs to know, out of the server's answer.
pub(crate) fn current_of(resource: &ApiResource, object: Object) -> Value {
    current(&mut value(resource, object))
}

/// An object with its type, which the items of lists lack.
fn value(resource: &ApiResource, object: Object) -> Value {
    let mut value = object.value;
    value["apiVersion"] = resource.api_version.as_str().into();
    value["kind"] = resource.kind.as_str().into();
    value
}

fn read_kind(kind: &'static str, mut value: Value) -> Taken {
    let has_status = Kind::named(kind).is_some_and(|kind| kind.has_status);
    let current = has_status.then(|| current(&mut value));
    trim(kind, &mut value);
    let object = match AnyObject::from_value(kind, &value) {
        Some(Ok(object)) => Ok(object),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("l4way doesn't read this kind".to_owned()),
    };
    let object = object.map_err(|error| Box::new(Unreadable { error, value }));
    Taken::Object { object, current }
}

/// What writing an object's status needs to know. The status is taken out of the object.
fn current(value: &mut Value) -> Value {
    let status = value.as_object_mut().and_then(|object| object.remove("status"));
    let metadata: Map<_, _> = ["name", "namespace", "uid", "resourceVersion", "generation"]
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), value["metadata"].get(field)?.clone())))
        .collect();
    json!({
        "apiVersion": value["apiVersion"],
        "kind": value["kind"],
        "metadata": metadata,
        "status": status.unwrap_or_else(|| json!({})),
    })
}

/// Drops what changes without meaning anything to l4way, takes room, or is none of its business.
fn trim(kind: &str, value: &mut Value) {
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("annotations");
    }
    let keys: &[&str] = match kind {
        "Secret" => &SECRET_KEYS,
        "ConfigMap" => &CONFIG_MAP_KEYS,
        _ => return,
    };
    if let Some(data) = value.get_mut("data").and_then(Value::as_object_mut) {
        data.retain(|key, _| keys.contains(&key.as_str()));
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("binaryData");
    }
}

/// An object's namespace and name.
pub(crate) fn key(metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

fn version(metadata: &ObjectMeta) -> Version {
    metadata.resource_version.as_deref().unwrap_or_default().into()
}

impl State {
    /// With room for raw kinds of these names.
    pub(crate) fn new(raw: impl IntoIterator<Item = String>) -> Self {
        let raw = raw.into_iter().map(|kind| (kind, BTreeMap::new())).collect();
        Self { raw, ..Self::default() }
    }

    /// Takes an object in; whether that changed anything but a status.
    pub(crate) fn apply(&mut self, slot: Slot, read: Read) -> bool {
        let Read { key, version, content } = read;
        match (slot, content) {
            (Slot::Raw(number), Taken::Raw(value)) => self
                .raw
                .get_mut(number)
                .is_some_and(|(_, objects)| put(objects, key, Arc::new(value))),
            (slot, Taken::Nothing) => self.delete(slot, &key),
            (Slot::Kind(kind), Taken::Outline) => {
                self.contents.note(ObjectRef::new(kind, key), version);
                false
            }
            (Slot::Kind(kind), Taken::Object { object, current }) => {
                let reference = ObjectRef::new(kind, key);
                if let Some(current) = current {
                    self.set_current(&reference, current);
                }
                match object {
                    Ok(object) => self.put_object(kind, reference, object),
                    Err(unreadable) => self.refuse(kind, reference, *unreadable),
                }
            }
            _ => false,
        }
    }

    /// Takes the object out; whether that changed anything.
    pub(crate) fn delete(&mut self, slot: Slot, key: &ObjectKey) -> bool {
        match slot {
            Slot::Raw(number) => {
                self.raw.get_mut(number).is_some_and(|(_, objects)| objects.remove(key).is_some())
            }
            Slot::Kind(kind) => {
                let reference = ObjectRef::new(kind, key.clone());
                if self.current.remove(&reference).is_some() {
                    self.touched.insert(reference.clone());
                }
                self.contents.forget(&reference);
                self.drop_contents(kind, &reference)
            }
        }
    }

    /// Takes a complete list in, instead of what the slot held of this place; whether that changed anything.
    pub(crate) fn replace(&mut self, slot: Slot, place: &Place, list: Vec<Read>) -> bool {
        let listed: BTreeSet<_> = list.iter().map(|read| read.key.clone()).collect();
        let mut changed = false;
        for key in self.keys(slot).difference(&listed).filter(|key| place.has(key)) {
            changed |= self.delete(slot, key);
        }
        for read in list {
            changed |= self.apply(slot, read);
        }
        self.pending.remove(&(slot, place.clone()));
        self.update_ready() | changed
    }

    /// Every key that a slot holds anything of.
    fn keys(&self, slot: Slot) -> BTreeSet<ObjectKey> {
        match slot {
            Slot::Raw(number) => self.raw.get(number).map(|(_, raw)| raw.keys().cloned().collect()),
            Slot::Kind(kind) => {
                let first = ObjectRef::new(kind, ObjectKey::default());
                let mut keys: BTreeSet<_> = self
                    .current
                    .range(first..)
                    .take_while(|(reference, _)| &*reference.kind == kind)
                    .map(|(reference, _)| reference.key.clone())
                    .collect();
                let there = self.contents.there().filter(|reference| &*reference.kind == kind);
                keys.extend(there.map(|reference| reference.key.clone()));
                keys.extend(self.objects.get(kind).into_iter().flat_map(BTreeMap::keys).cloned());
                let unreadable = self.unreadable.iter().filter(|object| &*object.kind == kind);
                keys.extend(unreadable.map(|object| object.key.clone()));
                Some(keys)
            }
        }
        .unwrap_or_default()
    }

    fn set_current(&mut self, reference: &ObjectRef, current: Value) {
        let old = self.current.get(reference);
        if old.is_none_or(|old| **old != current) {
            self.touched.insert(reference.clone());
            self.current.insert(reference.clone(), Arc::new(current));
        }
    }

    fn put_object(&mut self, kind: &'static str, reference: ObjectRef, object: AnyObject) -> bool {
        if self.unreadable.remove(&reference) {
            info!(object = %reference, "can be read again");
            self.forget_refused(&reference);
        }
        let changed = put(self.objects.entry(kind).or_default(), reference.key, object.clone());
        if changed {
            self.snapshot.insert(object);
        }
        changed
    }

    /// Takes an object in that can't be used. What it would close stays closed.
    fn refuse(
        &mut self,
        kind: &'static str,
        reference: ObjectRef,
        Unreadable { error, mut value }: Unreadable,
    ) -> bool {
        // It changes with the status, too.
        value["metadata"].as_object_mut().map(|metadata| metadata.remove("resourceVersion"));
        let content = match kind {
            "Secret" => Content::Unknown,
            _ => Content::Fields(value),
        };
        let refused = Refused {
            kind: reference.kind.clone(),
            namespace: Some(reference.key.namespace.clone()),
            name: Some(reference.key.name.clone()),
            place: None,
            content,
        };
        let known = self.snapshot.refused.iter().any(|known| **known == refused);
        if !known {
            self.forget_refused(&reference);
            self.snapshot.refused.push(Arc::new(refused));
        }
        let changed = self.take_object(kind, &reference);
        if !self.unreadable.contains(&reference) {
            warn!(object = %reference, error, "can't be read and isn't used; correct it");
            self.unreadable.insert(reference);
        }
        changed | !known
    }

    /// Whether it was refused.
    fn forget_refused(&mut self, reference: &ObjectRef) -> bool {
        let before = self.snapshot.refused.len();
        self.snapshot.refused.retain(|refused| refused.reference().as_ref() != Some(reference));
        self.snapshot.refused.len() < before
    }

    fn take_object(&mut self, kind: &'static str, reference: &ObjectRef) -> bool {
        if let Some(objects) = self.objects.get_mut(kind) {
            objects.remove(&reference.key);
        }
        self.snapshot.remove(reference)
    }

    /// Wants the contents of these objects from now on, and drops others. Whether all have been read, as
    /// far as they are there and can be.
    pub(crate) fn want(&mut self, wanted: BTreeSet<ObjectRef>) -> bool {
        for reference in self.contents.want(wanted) {
            if let Some(kind) = Kind::named(&reference.kind) {
                self.drop_contents(kind.name, &reference);
            }
        }
        self.has_wanted()
    }

    /// Whether all contents that are wanted have been read, as far as they are there and can be.
    pub(crate) fn has_wanted(&self) -> bool {
        self.contents.is_complete()
    }

    /// An object whose contents are to be read.
    pub(crate) fn next_wanted(&mut self) -> Option<ObjectRef> {
        self.contents.next()
    }

    /// Takes in what was read of an object, or that it isn't there; whether that changed anything, and
    /// nobody waits for others.
    pub(crate) fn take_contents(&mut self, reference: &ObjectRef, read: Option<Read>) -> bool {
        let Some((kind, read)) = Kind::named(&reference.kind).zip(read) else {
            self.contents.failed(reference);
            self.contents.give_up(reference);
            return false;
        };
        let changed = self.contents.read(reference, read.version.clone())
            && (self.snapshot.unread.remove(reference).is_some()
                | self.apply(Slot::Kind(kind.name), read));
        changed && self.has_wanted()
    }

    /// What an object holds can't be read; whether that is news, and nobody waits for others.
    pub(crate) fn give_up(&mut self, reference: &ObjectRef, why: &str) -> bool {
        let unread = &mut self.snapshot.unread;
        self.contents.give_up(reference)
            && unread.insert(reference.clone(), why.into()).as_deref() != Some(why)
            && self.has_wanted()
    }

    /// An object could not be read this time.
    pub(crate) fn read_failed(&mut self, reference: &ObjectRef) {
        self.contents.failed(reference);
    }

    /// An object is to be read again; whether it is still wanted.
    pub(crate) fn retry(&mut self, reference: &ObjectRef) -> bool {
        self.contents.retry(reference)
    }

    /// Drops what is known of an object; whether anything was.
    fn drop_contents(&mut self, kind: &'static str, reference: &ObjectRef) -> bool {
        self.unreadable.remove(reference);
        self.forget_refused(reference)
            | self.snapshot.unread.remove(reference).is_some()
            | self.take_object(kind, reference)
    }

    /// A slot's watch starts: nothing is complete without it, unless everything has been before.
    pub(crate) fn expect(&mut self, slot: Slot, place: Place) {
        if !self.ready {
            self.pending.insert((slot, place));
        }
    }

    /// A kind is followed in this version from now on, at these places.
    pub(crate) fn serve(&mut self, kind: &'static str, version: &'static str, places: &[Place]) {
        self.served.insert(kind, version);
        for place in places {
            self.expect(Slot::Kind(kind), place.clone());
        }
    }

    /// A kind's CRD is gone, and so are its objects.
    pub(crate) fn withdraw(&mut self, kind: &'static str) -> bool {
        let served = self.served.remove(kind).is_some();
        self.pending.retain(|(slot, _)| *slot != Slot::Kind(kind));
        self.replace(Slot::Kind(kind), &Place::Everywhere, Vec::new()) | served
    }

    /// Which kinds there are is known from now on.
    pub(crate) fn set_discovered(&mut self) -> bool {
        self.discovered = true;
        self.update_ready()
    }

    fn update_ready(&mut self) -> bool {
        let ready = self.discovered && self.pending.is_empty();
        let became = ready && !self.ready;
        self.ready |= ready;
        became
    }

    /// Whether everything has been complete once.
    pub(crate) fn ready(&self) -> bool {
        self.ready
    }

    /// All objects, once they are complete.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.ready.then(|| self.snapshot.clone())
    }

    /// The version that a kind is followed in.
    pub(crate) fn version(&self, kind: &str) -> Option<&'static str> {
        self.served.get(kind).copied()
    }

    /// The kinds whose CRDs are missing, once that is known.
    pub(crate) fn missing(&self) -> Vec<String> {
        let defined = Kind::defined().iter().filter(|_| self.discovered);
        let missing = defined.filter(|kind| !self.served.contains_key(kind.name));
        missing.map(|kind| kind.name.to_owned()).collect()
    }

    /// The slots whose first list isn't complete.
    #[cfg(test)]
    fn pending(&self) -> Vec<Slot> {
        self.pending.iter().map(|(slot, _)| *slot).collect()
    }

    /// The raw objects of a kind.
    pub(crate) fn raw(&self, kind: &str) -> BTreeMap<ObjectKey, Arc<Value>> {
        let mut maps = self.raw.iter().filter(|(name, _)| name == kind).map(|(_, map)| map.clone());
        let mut all = maps.next().unwrap_or_default();
        maps.for_each(|map| all.extend(map));
        all
    }

    /// One raw object of a kind.
    pub(crate) fn raw_object(&self, kind: &str, key: &ObjectKey) -> Option<Arc<Value>> {
        let mut maps = self.raw.iter().filter(|(name, _)| name == kind).map(|(_, map)| map);
        maps.find_map(|objects| objects.get(key).cloned())
    }

    /// A change of an object was told, and has been taken in.
    pub(crate) fn told(&mut self, slot: Slot, object: &ObjectMeta) {
        if let Some(kind) = self.raw_kind(slot) {
            self.progress.told(&kind, object);
        }
    }

    /// A list of this place was complete, and has been taken in.
    pub(crate) fn listed(&mut self, slot: Slot, place: &Place) {
        if let Some(kind) = self.raw_kind(slot) {
            self.progress.listed(&kind, place);
        }
    }

    fn raw_kind(&self, slot: Slot) -> Option<String> {
        let Slot::Raw(number) = slot else { return None };
        self.raw.get(number).map(|(kind, _)| kind.clone())
    }

    /// How far the watch of a raw kind has come in a namespace.
    pub(crate) fn seen(&self, kind: &str, namespace: &str) -> Seen {
        self.progress.seen(kind, namespace)
    }

    /// What writing an object's status needs to know.
    pub(crate) fn current(&self, object: &ObjectRef) -> Option<Arc<Value>> {
        self.current.get(object).cloned()
    }

    /// All objects of kinds with a status.
    pub(crate) fn all_current(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<Value>)> {
        self.current.iter()
    }

    /// The objects whose status may have changed since this was asked before.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<ObjectRef> {
        std::mem::take(&mut self.touched)
    }

    /// An object's apiVersion and UID.
    pub(crate) fn identity(&self, object: &ObjectRef) -> Option<(String, Option<Arc<str>>)> {
        let read = self.objects.get(&*object.kind).and_then(|objects| objects.get(&object.key));
        if let Some(read) = read {
            let resource = Kind::named(&object.kind)?.resource(self.version(&object.kind)?);
            return Some((resource.api_version, read.metadata().uid.clone()));
        }
        let value = self.raw_object(&object.kind, &object.key)?;
        let uid = value["metadata"]["uid"].as_str().map(Arc::from);
        Some((value["apiVersion"].as_str()?.to_owned(), uid))
    }
}

/// Puts a value in; whether that is a change.
fn put<T: PartialEq>(map: &mut BTreeMap<ObjectKey, T>, key: ObjectKey, value: T) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(slot: Slot, value: Value) -> Read {
        let Slot::Kind(kind) = slot else { return raw(value) };
        read(
            slot,
            &Kind::named(kind).unwrap().resource("v1"),
            serde_json::from_value(value).unwrap(),
        )
    }

    fn raw(value: Value) -> Read {
        let resource = crate::kinds::resource("apps", "v1", "Deployment", "deployments");
        read(Slot::Raw(0), &resource, serde_json::from_value(value).unwrap())
    }

    const EVERYWHERE: Place = Place::Everywhere;
    const GATEWAYS: Slot = Slot::Kind("Gateway");
    const SECRETS: Slot = Slot::Kind("Secret");

    fn gateway(name: &str, version: &str, port: Value) -> Read {
        object(
            GATEWAYS,
            json!({
                "metadata": {
                    "namespace": "apps", "name": name, "uid": "u", "resourceVersion": version,
                    "managedFields": [{"manager": "kubectl"}],
                    "annotations": {"note": "yes"},
                },
                "spec": {
                    "gatewayClassName": "l4way",
                    "listeners": [{"name": "a", "port": port, "protocol": "TCP"}],
                },
                "status": {"version": version},
            }),
        )
    }

    fn edge() -> ObjectRef {
        ObjectRef::new("Gateway", ObjectKey::new("apps", "edge"))
    }

    fn ready() -> State {
        let mut state = State::new(["Deployment".to_owned()]);
        state.serve("Gateway", "v1", &[EVERYWHERE]);
        state.serve("Secret", "v1", &[EVERYWHERE]);
        state.replace(SECRETS, &EVERYWHERE, Vec::new());
        state.replace(GATEWAYS, &EVERYWHERE, vec![gateway("edge", "1", 80.into())]);
        state.set_discovered();
        state
    }

    #[test]
    fn there_is_no_snapshot_before_every_first_list() {
        let mut state = State::new(["Deployment".to_owned()]);
        state.serve("Gateway", "v1", &[EVERYWHERE]);
        state.expect(Slot::Raw(0), EVERYWHERE);
        assert!(!state.set_discovered());
        assert!(!state.replace(Slot::Raw(0), &EVERYWHERE, Vec::new()));
        assert_eq!(state.pending(), [GATEWAYS]);
        assert_eq!(state.snapshot(), None);
        assert!(state.replace(GATEWAYS, &EVERYWHERE, Vec::new()));
        assert_eq!(state.snapshot(), Some(Snapshot::default()));
        // A kind that comes later doesn't take it back.
        state.serve("TCPRoute", "v1", &[EVERYWHERE]);
        assert_eq!(state.snapshot(), Some(Snapshot::default()));
    }

    #[test]
    fn a_status_alone_is_no_change_but_touches_the_object() {
        let mut state = ready();
        state.take_touched();
        assert!(!state.apply(GATEWAYS, gateway("edge", "2", 80.into())));
        assert_eq!(state.take_touched(), [edge()].into());
        assert_eq!(state.current(&edge()).unwrap()["status"]["version"], "2");
        assert!(state.apply(GATEWAYS, gateway("edge", "3", 81.into())));
        assert!(state.delete(GATEWAYS, &edge().key));
        assert_eq!(state.current(&edge()), None);
        assert_eq!(state.snapshot().unwrap(), Snapshot::default());
    }

    #[test]
    fn a_list_takes_the_place_of_what_was() {
        let mut state = ready();
        assert!(state.replace(GATEWAYS, &EVERYWHERE, vec![gateway("other", "2", 80.into())]));
        let names: Vec<_> = state.snapshot().unwrap().gateways.into_keys().collect();
        assert_eq!(names, [ObjectKey::new("apps", "other")]);
        assert_eq!(state.current(&edge()), None);
        assert!(!state.replace(GATEWAYS, &EVERYWHERE, vec![gateway("other", "3", 80.into())]));
    }

    #[test]
    fn a_list_of_one_namespace_leaves_the_others_alone() {
        let mut state = State::new([]);
        let [apps, team] = ["apps", "team"].map(|namespace| Place::In(namespace.into()));
        state.serve("Gateway", "v1", &[apps.clone(), team.clone()]);
        state.set_discovered();
        assert!(!state.replace(GATEWAYS, &team, Vec::new()));
        assert_eq!(state.snapshot(), None);
        state.replace(GATEWAYS, &apps, vec![gateway("edge", "1", 80.into())]);
        assert!(state.snapshot().is_some(), "both lists are complete");
        assert!(!state.replace(GATEWAYS, &team, Vec::new()));
        assert!(state.current(&edge()).is_some());
        assert!(state.replace(GATEWAYS, &apps, Vec::new()));
        assert_eq!(state.current(&edge()), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_others_stay() {
        let mut state = ready();
        assert!(state.apply(GATEWAYS, gateway("other", "2", 80.into())));
        assert!(state.apply(GATEWAYS, gateway("edge", "3", "no port".into())));
        let names: Vec<_> = state.snapshot().unwrap().gateways.into_keys().collect();
        assert_eq!(names, [ObjectKey::new("apps", "other")]);
        assert!(state.snapshot().unwrap().refused("Gateway", &edge().key).is_some());
        assert!(!state.apply(GATEWAYS, gateway("edge", "4", "no port".into())));
        assert!(state.apply(GATEWAYS, gateway("edge", "5", 80.into())));
        assert!(state.unreadable.is_empty() && state.snapshot().unwrap().refused.is_empty());
        assert!(state.apply(GATEWAYS, gateway("edge", "6", "no port".into())));
        assert!(state.replace(GATEWAYS, &EVERYWHERE, Vec::new()));
        assert_eq!(state.snapshot().unwrap(), Snapshot::default());
    }

    #[test]
    fn a_kind_whose_crd_goes_has_no_objects() {
        let mut state = ready();
        assert!(!state.missing().contains(&"Gateway".to_owned()));
        assert!(state.withdraw("Gateway"));
        assert!(state.missing().contains(&"Gateway".to_owned()));
        assert_eq!(state.snapshot(), Some(Snapshot::default()));
        assert_eq!(state.current(&edge()), None);
        assert_eq!(state.version("Gateway"), None);
        assert!(!state.withdraw("Gateway"));
    }

    #[test]
    fn only_what_is_needed_is_kept() {
        let mut state = ready();
        assert!(state.snapshot().unwrap().gateways[&edge().key].metadata.annotations.is_empty());
        assert!(state.current(&edge()).unwrap().get("spec").is_none());
        let secret = |password: &str| {
            object(
                SECRETS,
                json!({
                    "metadata": {"namespace": "apps", "name": "s", "annotations": {"at": password}},
                    "data": {"tls.crt": "Yw==", "password": password},
                }),
            )
        };
        assert!(state.apply(SECRETS, secret("eA==")));
        assert!(!state.apply(SECRETS, secret("eQ==")));
        let secrets = state.snapshot().unwrap().secrets;
        let secret = secrets.values().next().unwrap();
        assert_eq!(secret.data.keys().collect::<Vec<_>>(), ["tls.crt"]);
    }

    fn outline(name: &str, version: &str) -> Read {
        let metadata =
            json!({"namespace": "apps", "name": name, "uid": "u", "resourceVersion": version});
        read_outline(&serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    }

    fn contents(name: &str, version: &str, value: &str) -> Read {
        let metadata = json!({"namespace": "apps", "name": name, "resourceVersion": version});
        object(SECRETS, json!({"metadata": metadata, "data": {"tls.crt": value}}))
    }

    fn secret(name: &str) -> ObjectRef {
        ObjectRef::new("Secret", ObjectKey::new("apps", name))
    }

    fn value_of(state: &State, name: &str) -> Option<String> {
        let secrets = state.snapshot().unwrap().secrets;
        secrets.get(&secret(name).key).map(|secret| secret.data["tls.crt"].to_string())
    }

    #[test]
    fn only_what_is_wanted_is_read_and_kept() {
        let mut state = ready();
        assert!(!state.replace(SECRETS, &EVERYWHERE, vec![outline("a", "1"), outline("b", "1")]));
        assert!(state.next_wanted().is_none());
        assert!(!state.want([secret("a"), secret("b")].into()));
        assert!(state.next_wanted().is_some() && state.next_wanted().is_some());
        let news = state.take_contents(&secret("a"), Some(contents("a", "1", "YQ==")));
        assert!(!news, "the other is waited for");
        assert!(state.take_contents(&secret("b"), Some(contents("b", "1", "Yg=="))));
        assert_eq!(value_of(&state, "b").as_deref(), Some("Yg=="));
        // A change: what was read stays until it has been read again.
        assert!(!state.apply(SECRETS, outline("b", "2")));
        assert_eq!(value_of(&state, "b").as_deref(), Some("Yg=="));
        assert_eq!(state.next_wanted(), Some(secret("b")));
        assert!(state.take_contents(&secret("b"), Some(contents("b", "2", "Yw=="))));
        assert_eq!(value_of(&state, "b").as_deref(), Some("Yw=="));
        assert!(state.want([secret("a")].into()));
        assert_eq!(value_of(&state, "b"), None);
        assert!(state.replace(SECRETS, &EVERYWHERE, vec![outline("b", "2")]));
        assert_eq!(value_of(&state, "a"), None);
    }

    #[test]
    fn what_is_there_and_cannot_be_read_is_told() {
        let mut state = ready();
        state.apply(SECRETS, outline("a", "1"));
        assert!(!state.want([secret("a")].into()));
        assert_eq!(state.next_wanted(), Some(secret("a")));
        state.read_failed(&secret("a"));
        assert!(state.give_up(&secret("a"), "forbidden"));
        assert!(!state.give_up(&secret("a"), "forbidden"), "it was told");
        assert_eq!(&*state.snapshot().unwrap().unread[&secret("a")], "forbidden");
        assert!(state.retry(&secret("a")));
        assert_eq!(state.next_wanted(), Some(secret("a")));
        assert!(state.take_contents(&secret("a"), Some(contents("a", "1", "YQ=="))));
        assert!(state.snapshot().unwrap().unread.is_empty());
        // What was read once stays in force.
        state.apply(SECRETS, outline("a", "2"));
        assert!(!state.give_up(&secret("a"), "forbidden"));
        assert_eq!(value_of(&state, "a").as_deref(), Some("YQ=="));
        assert!(state.delete(SECRETS, &secret("a").key));
    }

    #[test]
    fn raw_objects_that_are_not_to_be_kept_are_left_out() {
        let is_kept = |value: &Value| !value["metadata"]["ownerReferences"].is_null();
        let read = |owners: Value| {
            let metadata = json!({"namespace": "a", "name": "d", "ownerReferences": owners});
            raw(json!({ "metadata": metadata })).kept_if(is_kept)
        };
        let mut state = State::new(["Deployment".to_owned()]);
        assert!(!state.replace(Slot::Raw(0), &EVERYWHERE, vec![read(Value::Null)]));
        assert!(state.raw("Deployment").is_empty());
        assert!(state.apply(Slot::Raw(0), read(json!([{}]))));
        assert_eq!(state.raw("Deployment").len(), 1);
        assert!(state.apply(Slot::Raw(0), read(Value::Null)), "it is nobody's now");
        assert!(state.raw("Deployment").is_empty());
    }

    #[test]
    fn raw_objects_keep_all_but_managed_fields() {
        let mut state = ready();
        let deployment = || {
            raw(json!({
                "metadata": {"namespace": "apps", "name": "d", "uid": "1", "managedFields": []},
                "spec": {"replicas": 2},
            }))
        };
        assert!(state.apply(Slot::Raw(0), deployment()));
        assert!(!state.apply(Slot::Raw(0), deployment()));
        let key = ObjectKey::new("apps", "d");
        let object = state.raw("Deployment")[&key].clone();
        assert_eq!(object["kind"], "Deployment");
        assert_eq!(object["spec"]["replicas"], 2);
        assert_eq!(object["metadata"].get("managedFields"), None);
        let reference = ObjectRef::new("Deployment", key.clone());
        assert_eq!(state.identity(&reference), Some(("apps/v1".to_owned(), Some("1".into()))));
        assert!(state.delete(Slot::Raw(0), &key));
        assert!(state.raw("Deployment").is_empty());
    }
}
