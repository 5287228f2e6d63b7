//! The objects of an API server that isn't one: as much of what a real one does as the controller can
//! tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value, json};

/// Which object: what URLs call its kind, as `apps/deployments`, its namespace and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Id {
    pub(crate) fn new(resource: &str, namespace: &str, name: &str) -> Self {
        let [resource, namespace, name] = [resource, namespace, name].map(str::to_owned);
        Self { resource, namespace, name }
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            503 => "ServiceUnavailable",
            _ => "InternalError",
        };
        Self { code, reason, message: message.into() }
    }

    fn not_found(id: &Id) -> Self {
        Self::new(404, format!("{} \"{}\" not found", id.resource, id.name))
    }
}

type Result<T> = std::result::Result<T, Refusal>;

/// A change, for watches.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) id: Id,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// What there is, and what has been.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<Id, Value>,
    /// What each field manager has applied last.
    applied: BTreeMap<(Id, String), Value>,
    pub(crate) changes: Vec<Change>,
    pub(crate) version: u64,
    /// Watches from before this version are told that they are too old.
    pub(crate) oldest: u64,
    /// Counts when all watches were ended.
    pub(crate) cuts: u64,
    uids: u64,
    /// The codes by which the next writes are refused.
    pub(crate) failures: VecDeque<u16>,
}

impl Store {
    pub(crate) fn get(&self, id: &Id) -> Option<&Value> {
        self.objects.get(id)
    }

    /// The objects of a kind.
    pub(crate) fn of(&self, resource: &str) -> impl Iterator<Item = (&Id, &Value)> {
        self.objects.iter().filter(move |(id, _)| id.resource == resource)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Id, &Value)> {
        self.objects.iter()
    }

    /// Makes an object.
    pub(crate) fn create(&mut self, mut id: Id, mut value: Value) -> Result<Value> {
        if id.name.is_empty() {
            let text = |field: &str| value["metadata"][field].as_str();
            let generated =
                || format!("{}{:05}", text("generateName").unwrap_or_default(), self.uids);
            id.name = text("name").map_or_else(generated, str::to_owned);
        }
        if self.objects.contains_key(&id) {
            let message = format!("{} \"{}\" already exists", id.resource, id.name);
            return Err(Refusal { code: 409, reason: "AlreadyExists", message });
        }
        self.uids += 1;
        let seconds = self.uids;
        let metadata = metadata(&mut value);
        if let Some(uid) = metadata.get("uid").filter(|uid| !uid.is_null()) {
            return Err(Refusal::new(409, format!("uid mismatch: there is no object with {uid}")));
        }
        metadata.insert("name".into(), id.name.clone().into());
        if !id.namespace.is_empty() {
            metadata.insert("namespace".into(), id.namespace.clone().into());
        }
        metadata.insert("uid".into(), format!("uid-{seconds}").into());
        let created = format!(
            "2026-01-{:02}T{:02}:{:02}:00Z",
            1 + seconds / 1440 % 28,
            seconds / 60 % 24,
            seconds % 60
        );
        metadata.insert("creationTimestamp".into(), created.into());
        metadata.insert("generation".into(), 1.into());
        Ok(self.put(id, value))
    }

    /// Server-side apply, as far as needed: fields of maps merge, those go that the manager no longer asks for,
    /// and lists are one value, but for the owners.
    pub(crate) fn apply(
        &mut self,
        id: Id,
        manager: &str,
        asked: Value,
        part: Part,
    ) -> Result<Value> {
        let key = (id.clone(), manager.to_owned());
        let before = self.applied.get(&key).cloned().unwrap_or(Value::Null);
        let Some(current) = self.objects.get(&id) else {
            let made = self.create(id, asked.clone())?;
            self.applied.insert(key, asked);
            return Ok(made);
        };
        let mut merged = current.clone();
        remove_former(&mut merged, &before, &asked);
        merge(&mut merged, &asked, false);
        self.replace(id, merged, part, asked["metadata"]["uid"].as_str())?;
        self.applied.insert(key.clone(), asked);
        Ok(self.objects[&key.0].clone())
    }

    /// A merge patch (RFC 7396).
    pub(crate) fn patch(&mut self, id: Id, patch: &Value, part: Part) -> Result<Value> {
        let mut merged = self.objects.get(&id).ok_or_else(|| Refusal::not_found(&id))?.clone();
        merge(&mut merged, patch, true);
        self.replace(id, merged, part, None)
    }

    /// Puts another value in the place of an object's; `uid` is the one that is meant.
    pub(crate) fn replace(
        &mut self,
        id: Id,
        mut value: Value,
        part: Part,
        uid: Option<&str>,
    ) -> Result<Value> {
        let current = self.objects.get(&id).ok_or_else(|| Refusal::not_found(&id))?;
        let (then, now) =
            (&value["metadata"]["resourceVersion"], &current["metadata"]["resourceVersion"]);
        if !then.is_null() && then != now {
            let message = format!("{} \"{}\": the object has been modified", id.resource, id.name);
            return Err(Refusal::new(409, message));
        }
        if uid.is_some_and(|uid| current["metadata"]["uid"] != uid) {
            return Err(Refusal::new(
                409,
                format!("{} \"{}\": uid mismatch", id.resource, id.name),
            ));
        }
        if part == Part::Status {
            let status = value["status"].take();
            value = current.clone();
            value["status"] = status;
        }
        let mut generation = current["metadata"]["generation"].as_u64().unwrap_or_default();
        generation += u64::from(value["spec"] != current["spec"]);
        let mut fixed = Map::new();
        for field in ["uid", "creationTimestamp", "resourceVersion", "name"] {
            fixed.insert(field.to_owned(), current["metadata"][field].clone());
        }
        fixed.insert("generation".to_owned(), generation.into());
        metadata(&mut value).extend(fixed);
        if value == *current {
            return Ok(value);
        }
        Ok(self.put(id, value))
    }

    /// Takes an object away; `uid` is the one that is meant.
    pub(crate) fn delete(&mut self, id: &Id, uid: Option<&str>) -> Result<Value> {
        let current = self.objects.get(id).ok_or_else(|| Refusal::not_found(id))?;
        if uid.is_some_and(|uid| current["metadata"]["uid"] != uid) {
            return Err(Refusal::new(409, "the UID in the precondition does not match"));
        }
        let Some(mut gone) = self.objects.remove(id) else { return Err(Refusal::not_found(id)) };
        self.applied.retain(|(of, _), _| of != id);
        self.version += 1;
        let before = gone.clone();
        metadata(&mut gone).insert("resourceVersion".into(), self.version.to_string().into());
        self.changes.push(Change {
            version: self.version,
            id: id.clone(),
            before: Some(before),
            after: None,
        });
        Ok(gone)
    }

    fn put(&mut self, id: Id, mut value: Value) -> Value {
        self.version += 1;
        metadata(&mut value).insert("resourceVersion".into(), self.version.to_string().into());
        let before = self.objects.insert(id.clone(), value.clone());
        let after = Some(value.clone());
        self.changes.push(Change { version: self.version, id, before, after });
        value
    }

    /// What Kubernetes' garbage collector does: what has owners, of which none is there, goes.
    pub(crate) fn collect(&mut self) {
        loop {
            let uids: BTreeSet<_> = self
                .objects
                .values()
                .filter_map(|object| object["metadata"]["uid"].as_str())
                .collect();
            let is_orphan = |object: &Value| {
                let owners = owners(object);
                !owners.is_empty()
                    && !owners
                        .iter()
                        .any(|owner| owner["uid"].as_str().is_some_and(|uid| uids.contains(uid)))
            };
            let orphans = self.objects.iter().filter(|(_, object)| is_orphan(object));
            let orphans: Vec<_> = orphans.map(|(id, _)| id.clone()).collect();
            if orphans.is_empty() {
                return;
            }
            for orphan in orphans {
                self.delete(&orphan, None).expect("it was there");
            }
        }
    }

    /// What Kubernetes' Deployment controller does, of the Deployments for which `is_meant` holds: a ReplicaSet,
    /// and its pods.
    pub(crate) fn run_pods(&mut self, is_meant: impl Fn(&Value) -> bool) {
        let deployments: Vec<_> = self
            .of("apps/deployments")
            .filter(|(_, deployment)| is_meant(deployment))
            .map(|(id, deployment)| (id.clone(), deployment.clone()))
            .collect();
        for (id, deployment) in deployments {
            let uid = deployment["metadata"]["uid"].as_str().unwrap_or_default();
            let hash = uid.trim_start_matches("uid-");
            let mut labels = deployment["spec"]["template"]["metadata"]["labels"].clone();
            labels["pod-template-hash"] = hash.into();
            let set = Id::new("apps/replicasets", &id.namespace, &format!("{}-{hash}", id.name));
            let owned = owned_by("apps/v1", "ReplicaSet", "Deployment", &id.name, uid, &labels);
            let set = match self.objects.get(&set) {
                Some(set) => set.clone(),
                None => self.create(set, owned).expect("a ReplicaSet"),
            };
            let (name, uid) = (&set["metadata"]["name"], &set["metadata"]["uid"]);
            let (name, uid) = (name.as_str().unwrap_or_default(), uid.as_str().unwrap_or_default());
            let pod = Id::new("/pods", &id.namespace, &format!("{name}-0"));
            if !self.objects.contains_key(&pod) {
                let owned = owned_by("v1", "Pod", "ReplicaSet", name, uid, &labels);
                self.create(pod, owned).expect("a pod");
            }
        }
    }
}

/// An object that another one of the group `apps` owns.
fn owned_by(version: &str, kind: &str, by: &str, name: &str, uid: &str, labels: &Value) -> Value {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": by, "name": name, "uid": uid, "controller": true,
    });
    json!({
        "apiVersion": version, "kind": kind, "spec": {},
        "metadata": {"labels": labels, "ownerReferences": [owner]},
    })
}

/// Which part of an object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    Status,
}

/// An object's owners.
pub(crate) fn owners(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    value["metadata"].as_object_mut().expect("it is one now")
}

/// Merges `new` into `into`; nulls remove, if they are to.
fn merge(into: &mut Value, new: &Value, nulls_remove: bool) {
    let Some(fields) = new.as_object() else {
        *into = new.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(map) = into.as_object_mut() else { return };
    for (name, value) in fields {
        match name.as_str() {
            _ if value.is_null() && nulls_remove => drop(map.remove(name)),
            "ownerReferences" if !nulls_remove => {
                merge_owners(map.entry(name).or_insert(json!([])), value)
            }
            _ => merge(map.entry(name).or_insert(Value::Null), value, nulls_remove),
        }
    }
}

/// Owners are told apart by their UIDs.
fn merge_owners(into: &mut Value, new: &Value) {
    let (Some(all), Some(new)) = (into.as_array_mut(), new.as_array()) else { return };
    for owner in new {
        all.retain(|old| old["uid"] != owner["uid"]);
        all.push(owner.clone());
    }
}

/// Takes away what a manager applied before and doesn't any more.
fn remove_former(from: &mut Value, before: &Value, now: &Value) {
    let (Some(fields), Some(from)) = (before.as_object(), from.as_object_mut()) else { return };
    for (name, before) in fields {
        match now.get(name) {
            Some(now) if name == "ownerReferences" => {
                let is_former = |owner: &Value| {
                    let has = |list: &Value| {
                        list.as_array().is_some_and(|l| l.iter().any(|o| o["uid"] == owner["uid"]))
                    };
                    has(before) && !has(now)
                };
                if let Some(owners) = from.get_mut(name).and_then(Value::as_array_mut) {
                    owners.retain(|owner| !is_former(owner));
                }
            }
            Some(now) => {
                if let Some(from) = from.get_mut(name) {
                    remove_former(from, before, now);
                }
            }
            None => drop(from.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id::new("/services", "team", name)
    }

    #[test]
    fn what_is_applied_is_merged_and_what_is_no_longer_asked_for_goes() {
        let mut store = Store::default();
        let first = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"type": "x"}});
        let made = store.apply(id("s"), "l4way", first, Part::All).unwrap();
        store.patch(id("s"), &json!({"metadata": {"labels": {"c": "3"}}}), Part::All).unwrap();
        let second = json!({"metadata": {"labels": {"a": "9"}}, "spec": {"type": "x"}});
        let now = store.apply(id("s"), "l4way", second.clone(), Part::All).unwrap();
        assert_eq!(now["metadata"]["labels"], json!({"a": "9", "c": "3"}));
        assert_eq!(now["metadata"]["uid"], made["metadata"]["uid"]);
        let version = store.version;
        store.apply(id("s"), "l4way", second, Part::All).unwrap();
        assert_eq!(store.version, version, "nothing has changed");
        let other = json!({"metadata": {"uid": "other"}});
        assert_eq!(store.apply(id("s"), "l4way", other.clone(), Part::All).unwrap_err().code, 409);
        assert_eq!(store.apply(id("t"), "l4way", other, Part::All).unwrap_err().code, 409);
    }

    #[test]
    fn what_nobody_owns_any_more_is_collected_with_what_it_owned() {
        let mut store = Store::default();
        let owner = store.create(id("owner"), json!({})).unwrap();
        let uid = owner["metadata"]["uid"].as_str().unwrap();
        let owned = |uid: &str| json!({"metadata": {"ownerReferences": [{"uid": uid}]}});
        let child = store.create(id("child"), owned(uid)).unwrap();
        let uid = child["metadata"]["uid"].as_str().unwrap();
        store.create(id("grandchild"), owned(uid)).unwrap();
        store.collect();
        assert_eq!(store.all().count(), 3);
        store.delete(&id("owner"), None).unwrap();
        store.collect();
        assert_eq!(store.all().count(), 0);
    }

    #[test]
    fn a_status_is_written_apart_and_for_the_version_that_was_read() {
        let mut store = Store::default();
        store.create(id("s"), json!({"spec": {"a": 1}})).unwrap();
        let patch = json!({"spec": {"a": 2}, "status": {"b": 1}});
        let now = store.patch(id("s"), &patch, Part::Status).unwrap();
        assert_eq!((&now["spec"]["a"], &now["status"]["b"]), (&json!(1), &json!(1)));
        let old = json!({"metadata": {"resourceVersion": "1"}, "status": {"b": 2}});
        assert_eq!(store.patch(id("s"), &old, Part::Status).unwrap_err().code, 409);
    }
}
