//! What to write into an object's status. Functions of their arguments alone.

use l4way_resources::api::ParentRef;
use serde_json::{Map, Value, json};

/// Limits of the Gateway API's CRDs.
const MAX_CONDITIONS: usize = 8;
const MAX_ADDRESSES: usize = 16;
const MAX_LISTENERS: usize = 64;
const MAX_MESSAGE: usize = 32_768;

/// Lists that several controllers have entries in.
const PARENTS: Shared = Shared { reference: "parentRef", limit: 32 };
const ANCESTORS: Shared = Shared { reference: "ancestorRef", limit: 16 };

/// A list that several controllers have entries in.
#[derive(Clone, Copy)]
struct Shared {
    /// The field that names what an entry is about.
    reference: &'static str,
    /// How many entries there may be.
    limit: usize,
}

/// Conditions that the Gateway API defines for Gateways, ListenerSets and GatewayClasses. They are
/// the controller's own, as are those of its domain; others belong to somebody else.
const OWN_CONDITIONS: [&str; 8] = [
    "Accepted",
    "Programmed",
    "Conflicted",
    "ResolvedRefs",
    "AttachedListenerSets",
    "InsecureFrontendValidationMode",
    "SupportedVersion",
    "Ready",
];
const OWN_DOMAIN: &str = "l4way.dev/";

/// The status that an object should have, out of the one that it has and what is to be said.
///
/// Nothing of other controllers changes: entries of a route's `parents`, or a policy's `ancestors`, with
/// another `controllerName`, and conditions of other types. Where a condition's status stays, so does its
/// `lastTransitionTime`; otherwise it is `now`. Equal to `current` if there is nothing to write.
pub(crate) fn merge(current: &Value, wanted: &Value, controller: &str, now: &str) -> Value {
    let mut merged = current.as_object().cloned().unwrap_or_default();
    for (field, wanted) in wanted.as_object().into_iter().flatten() {
        let current = &current[field.as_str()];
        let value = match field.as_str() {
            "conditions" => conditions(list(current), list(wanted), own_condition, now),
            "listeners" => listeners(list(current), list(wanted), now),
            "parents" => entries(PARENTS, list(current), list(wanted), controller, now),
            "ancestors" => entries(ANCESTORS, list(current), list(wanted), controller, now),
            "addresses" => first(list(wanted), MAX_ADDRESSES).into(),
            _ => wanted.clone(),
        };
        // An empty list that nobody has written yet says nothing.
        if !(current.is_null() && value.as_array().is_some_and(Vec::is_empty)) {
            merged.insert(field.clone(), value);
        }
    }
    Value::Object(merged)
}

/// Whether the status of a route or policy has entries of this controller.
pub(crate) fn has_entries_of(status: &Value, controller: &str) -> bool {
    let mut entries = list(&status["parents"]).iter().chain(list(&status["ancestors"]));
    entries.any(|entry| entry["controllerName"] == controller)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn first(values: &[Value], limit: usize) -> Vec<Value> {
    values.iter().take(limit).cloned().collect()
}

fn own_condition(kind: &str) -> bool {
    OWN_CONDITIONS.contains(&kind) || kind.starts_with(OWN_DOMAIN)
}

/// Merges conditions, in the order that they have; those of ours that aren't wanted go.
fn conditions(
    current: &[Value],
    wanted: &[Value],
    ours: impl Fn(&str) -> bool,
    now: &str,
) -> Value {
    let find =
        |list: &[Value], kind: &Value| list.iter().find(|each| each["type"] == *kind).cloned();
    let kept = current.iter().filter_map(|old| match find(wanted, &old["type"]) {
        Some(wanted) => Some(condition(&wanted, Some(old), now)),
        None => (!ours(old["type"].as_str().unwrap_or_default())).then(|| old.clone()),
    });
    let new = wanted.iter().filter(|each| find(current, &each["type"]).is_none());
    let mut merged: Vec<_> = kept.chain(new.map(|wanted| condition(wanted, None, now))).collect();
    while merged.len() > MAX_CONDITIONS {
        // Those that only l4way knows are the first to go.
        let is_extra =
            |each: &Value| each["type"].as_str().is_some_and(|t| t.starts_with(OWN_DOMAIN));
        let last = merged.iter().rposition(is_extra).unwrap_or(merged.len() - 1);
        merged.remove(last);
    }
    merged.into()
}

fn condition(wanted: &Value, old: Option<&Value>, now: &str) -> Value {
    let mut condition = wanted.clone();
    if let Some(message) = wanted["message"].as_str() {
        condition["message"] = shortened(message).into();
    }
    let same = old.filter(|old| old["status"] == wanted["status"]);
    let since = same.and_then(|old| old["lastTransitionTime"].as_str()).unwrap_or(now);
    condition["lastTransitionTime"] = since.into();
    condition
}

fn shortened(message: &str) -> String {
    if message.chars().nth(MAX_MESSAGE).is_none() {
        return message.to_owned();
    }
    message.chars().take(MAX_MESSAGE - 1).chain(['…']).collect()
}

/// Listeners' statuses as wanted; only times are taken over.
fn listeners(current: &[Value], wanted: &[Value], now: &str) -> Value {
    let merged = wanted.iter().take(MAX_LISTENERS).map(|wanted| {
        let old = current.iter().find(|old| old["name"] == wanted["name"]);
        with_conditions(wanted, old, now)
    });
    merged.collect::<Vec<_>>().into()
}

/// An entry as wanted, with the times of its old conditions.
fn with_conditions(wanted: &Value, old: Option<&Value>, now: &str) -> Value {
    let mut entry = wanted.clone();
    let old = old.map(|old| list(&old["conditions"])).unwrap_or_default();
    entry["conditions"] = conditions(old, list(&wanted["conditions"]), |_| true, now);
    entry
}

/// Merges the entries of a shared list, in the order that they have. Where it is full, those that are
/// there stay.
fn entries(
    shared: Shared,
    current: &[Value],
    wanted: &[Value],
    controller: &str,
    now: &str,
) -> Value {
    let about = |entry| reference(shared, entry);
    let mut left: Vec<_> = wanted.iter().map(|wanted| (about(wanted), wanted)).collect();
    let mut merged = Vec::new();
    for old in current {
        if old["controllerName"] != controller {
            merged.push(old.clone());
            continue;
        }
        // Not wanted, or there twice: it goes.
        let reference = about(old);
        if let Some(place) = left.iter().position(|(wanted, _)| *wanted == reference) {
            let (_, wanted) = left.remove(place);
            merged.push(with_conditions(wanted, Some(old), now));
        }
    }
    for (_, wanted) in left {
        merged.push(with_conditions(wanted, None, now));
    }
    merged.truncate(shared.limit);
    merged.into()
}

/// What an entry is about, with the API's defaults.
fn reference(shared: Shared, entry: &Value) -> Option<ParentRef> {
    serde_json::from_value(entry[shared.reference].clone()).ok()
}

/// The merge patch that turns an object's status into this one, unless the object has changed
/// since. Fields that are missing from the status stay as they are.
pub(crate) fn patch(object: &Value, status: &Value) -> Value {
    let mut metadata = Map::new();
    if let Some(version) = object["metadata"].get("resourceVersion") {
        metadata.insert("resourceVersion".to_owned(), version.clone());
    }
    json!({ "metadata": metadata, "status": status })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "l4way.dev/gateway-controller";
    const NOW: &str = "2026-11-25T02:00:00Z";
    const BEFORE: &str = "2026-11-24T00:00:00Z";

    fn merged(current: &Value, wanted: &Value) -> Value {
        merge(current, wanted, OURS, NOW)
    }

    fn wanted(kind: &str, status: &str) -> Value {
        json!({"type": kind, "status": status, "reason": kind, "message": "m", "observedGeneration": 2})
    }

    fn at(mut condition: Value, time: &str) -> Value {
        condition["lastTransitionTime"] = time.into();
        condition
    }

    fn parent(name: &str, controller: &str, conditions: &[Value]) -> Value {
        json!({
            "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name},
            "controllerName": controller,
            "conditions": conditions,
        })
    }

    #[test]
    fn a_time_stays_while_the_status_does() {
        let mut old = at(wanted("Accepted", "True"), BEFORE);
        old["message"] = "another".into();
        old["observedGeneration"] = 1.into();
        let current = json!({"conditions": [old, at(wanted("Programmed", "False"), BEFORE)]});
        let status = merged(
            &current,
            &json!({"conditions": [wanted("Accepted", "True"), wanted("Programmed", "True")]}),
        );
        let expected =
            [at(wanted("Accepted", "True"), BEFORE), at(wanted("Programmed", "True"), NOW)];
        assert_eq!(status, json!({"conditions": expected}));
    }

    #[test]
    fn nothing_changes_where_only_times_would() {
        let current = json!({
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
            "conditions": [at(wanted("Programmed", "True"), BEFORE), at(wanted("Accepted", "True"), BEFORE)],
            "listeners": [{"name": "a", "conditions": [at(wanted("Accepted", "True"), BEFORE)]}],
        });
        let wanted = json!({
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
            "conditions": [wanted("Accepted", "True"), wanted("Programmed", "True")],
            "listeners": [{"name": "a", "conditions": [wanted("Accepted", "True")]}],
        });
        assert_eq!(merged(&current, &wanted), current);
    }

    #[test]
    fn conditions_of_others_stay_and_unwanted_ones_of_ours_go() {
        let theirs = at(wanted("example.com/Audited", "True"), BEFORE);
        let current = json!({"conditions": [
            theirs,
            at(wanted("l4way.dev/Note", "True"), BEFORE),
            at(wanted("Accepted", "True"), BEFORE),
        ]});
        let status = merged(&current, &json!({"conditions": [wanted("Accepted", "True")]}));
        assert_eq!(status, json!({"conditions": [theirs, at(wanted("Accepted", "True"), BEFORE)]}));
    }

    #[test]
    fn fields_that_nothing_is_said_about_stay() {
        let status =
            merged(&json!({"other": 1}), &json!({"conditions": [], "attachedListenerSets": 0}));
        assert_eq!(status, json!({"other": 1, "attachedListenerSets": 0}));
    }

    #[test]
    fn listeners_and_addresses_are_replaced() {
        let listener =
            |name: &str, condition: Value| json!({"name": name, "conditions": [condition]});
        let current = json!({
            "addresses": [{"value": "192.0.2.1"}],
            "listeners": [
                listener("gone", at(wanted("Accepted", "True"), BEFORE)),
                listener("kept", at(wanted("Accepted", "True"), BEFORE)),
            ],
        });
        let status = merged(
            &current,
            &json!({
                "addresses": [],
                "listeners": [
                    listener("kept", wanted("Accepted", "True")),
                    listener("new", wanted("Accepted", "True")),
                ],
            }),
        );
        assert_eq!(
            status,
            json!({
                "addresses": [],
                "listeners": [
                    listener("kept", at(wanted("Accepted", "True"), BEFORE)),
                    listener("new", at(wanted("Accepted", "True"), NOW)),
                ],
            })
        );
    }

    #[test]
    fn entries_of_other_controllers_are_untouched() {
        let theirs =
            parent("edge", "example.com/other", &[json!({"type": "Accepted", "odd": true})]);
        let old = parent("edge", OURS, &[at(wanted("Accepted", "True"), BEFORE)]);
        let gone = parent("gone", OURS, &[at(wanted("Accepted", "True"), BEFORE)]);
        let current = json!({"parents": [gone, theirs, old]});
        let status = merged(
            &current,
            &json!({"parents": [
                parent("new", OURS, &[wanted("Accepted", "False")]),
                parent("edge", OURS, &[wanted("Accepted", "False")]),
            ]}),
        );
        assert_eq!(
            status,
            json!({"parents": [
                theirs,
                parent("edge", OURS, &[at(wanted("Accepted", "False"), NOW)]),
                parent("new", OURS, &[at(wanted("Accepted", "False"), NOW)]),
            ]})
        );
        let status = merged(&status, &json!({"parents": []}));
        assert_eq!(status, json!({"parents": [theirs]}));
        assert!(!has_entries_of(&status, OURS));
    }

    #[test]
    fn a_policys_ancestors_are_merged_as_a_routes_parents_are() {
        let ancestor = |name: &str, controller: &str, status: &str, time: &str| {
            json!({
                "ancestorRef": {"kind": "Gateway", "name": name},
                "controllerName": controller,
                "conditions": [at(wanted("Accepted", status), time)],
            })
        };
        let theirs = ancestor("edge", "example.com/other", "True", BEFORE);
        let current = json!({"ancestors": [theirs, ancestor("edge", OURS, "True", BEFORE)]});
        assert!(has_entries_of(&current, OURS));
        let told = json!({"ancestors": [ancestor("edge", OURS, "False", NOW)]});
        let status = merged(&current, &told);
        let ours = ancestor("edge", OURS, "False", NOW);
        assert_eq!(status, json!({"ancestors": [theirs, ours]}));
        assert_eq!(merged(&status, &json!({"ancestors": []})), json!({"ancestors": [theirs]}));
        let full: Vec<_> =
            (0..16).map(|n| ancestor(&n.to_string(), "other", "True", BEFORE)).collect();
        let full = json!({ "ancestors": full });
        assert_eq!(merged(&full, &told), full);
    }

    #[test]
    fn an_entry_is_known_by_its_whole_reference_with_defaults() {
        let mut http = parent("edge", OURS, &[at(wanted("Accepted", "True"), BEFORE)]);
        http["parentRef"] = json!({"name": "edge", "sectionName": "http"});
        let short = json!({
            "parentRef": {"name": "edge"},
            "controllerName": OURS,
            "conditions": [at(wanted("Accepted", "True"), BEFORE)],
        });
        // The same twice: one is left.
        let current = json!({"parents": [http, short, short]});
        let plain = parent("edge", OURS, &[wanted("Accepted", "True")]);
        let status = merged(&current, &json!({"parents": [plain]}));
        let kept = parent("edge", OURS, &[at(wanted("Accepted", "True"), BEFORE)]);
        assert_eq!(status, json!({"parents": [kept]}));
    }

    #[test]
    fn a_status_keeps_within_the_limits_of_the_crds() {
        let conditions: Vec<_> = ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6"]
            .map(|kind| at(wanted(kind, "True"), BEFORE))
            .into();
        let current = json!({ "conditions": conditions });
        let mut long = wanted("Accepted", "True");
        long["message"] = "ü".repeat(40_000).into();
        let status = merged(
            &current,
            &json!({"conditions": [wanted("l4way.dev/Note", "True"), long, wanted("Programmed", "True")]}),
        );
        let kinds = list(&status["conditions"]).iter().map(|each| each["type"].as_str().unwrap());
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "Accepted", "Programmed"]
        );
        let message = status["conditions"][6]["message"].as_str().unwrap();
        assert_eq!(message.chars().count(), 32_768);
        let full: Vec<_> = (0..32).map(|n| parent(&n.to_string(), "other", &[])).collect();
        let status =
            merged(&json!({ "parents": full }), &json!({"parents": [parent("e", OURS, &[])]}));
        assert_eq!(status, json!({ "parents": full }));
    }

    #[test]
    fn a_patch_is_for_the_version_that_was_read() {
        let object = json!({"metadata": {"name": "edge", "resourceVersion": "7"}, "status": {}});
        let patch = patch(&object, &json!({"parents": []}));
        assert_eq!(patch, json!({"metadata": {"resourceVersion": "7"}, "status": {"parents": []}}));
    }
}
