//! What a person should know of an object: what is wrong with it now and wasn't before. No I/O.

use std::collections::BTreeSet;

use l4way_observe::is_complaint;
use l4way_resources::{
    api::ParentRef,
    status::{Condition, ConditionStatus, Status, StatusUpdate},
};
use serde_json::Value;

use super::project::covers;

/// The complaints in a status that the status on the API server doesn't have: their reason, and a
/// sentence.
pub(crate) fn news(update: &StatusUpdate, current: Option<&Value>) -> Vec<(String, String)> {
    let nothing = Value::Null;
    let current = current.map_or(&nothing, |current| &current["status"]);
    let find = |list: &str, holds: &dyn Fn(&Value) -> bool| {
        let entries = current[list].as_array();
        let entry = entries.and_then(|all| all.iter().find(|entry| holds(entry)));
        entry.map_or(Value::Null, |entry| entry["conditions"].clone())
    };
    let mut news = Vec::new();
    let mut add =
        |what: &str, conditions: &[Condition], before: &Value| {
            let new = conditions
                .iter()
                .filter(|condition| is_worth_telling(condition) && !was_told(condition, before));
            news.extend(new.map(|Condition { reason, message, .. }| {
                (reason.clone(), format!("{what}{message}"))
            }));
        };
    let listeners = match &update.status {
        Status::Gateway(status) => {
            add("", &status.conditions, &current["conditions"]);
            &*status.listeners
        }
        Status::ListenerSet(status) => {
            add("", &status.conditions, &current["conditions"]);
            &*status.listeners
        }
        Status::GatewayClass(status) => {
            add("", &status.conditions, &current["conditions"]);
            &[]
        }
        Status::Route(status) => {
            for parent in &status.parents {
                let same = is_about(&parent.controller_name, "parentRef", &parent.parent_ref);
                add("", &parent.conditions, &find("parents", &same));
            }
            &[]
        }
        Status::BackendTlsPolicy(status) => {
            for ancestor in &status.ancestors {
                let same =
                    is_about(&ancestor.controller_name, "ancestorRef", &ancestor.ancestor_ref);
                add("", &ancestor.conditions, &find("ancestors", &same));
            }
            &[]
        }
    };
    for listener in listeners {
        let same = |entry: &Value| entry["name"] == *listener.name;
        let what = format!("Listener {}: ", listener.name);
        add(&what, &listener.conditions, &find("listeners", &same));
    }
    // One sentence is one piece of news, whatever follows from it.
    let mut said = BTreeSet::new();
    news.retain(|(_, message)| said.insert(message.clone()));
    news
}

/// Whether an entry in a status is the controller's and about this object.
fn is_about(controller: &str, field: &str, reference: &ParentRef) -> impl Fn(&Value) -> bool {
    let reference = serde_json::to_value(reference).unwrap_or_default();
    move |entry| entry["controllerName"] == controller && covers(&reference, &entry[field])
}

/// Whether a person should be told: not of what is on its way, nor of a sum of what is told.
fn is_worth_telling(condition: &Condition) -> bool {
    is_complaint(condition)
        && condition.status != ConditionStatus::Unknown
        && !matches!(condition.reason.as_str(), "Pending" | "Invalid" | "ListenersNotValid")
}

fn was_told(condition: &Condition, before: &Value) -> bool {
    before.as_array().into_iter().flatten().any(|old| {
        old["type"] == condition.kind
            && old["status"] == condition.status.as_str()
            && old["reason"] == condition.reason
            && old["message"] == condition.message
    })
}

#[cfg(test)]
mod tests {
    use l4way_resources::{
        api::{ObjectKey, ObjectRef},
        status::{GatewayStatus, ListenerStatus},
    };
    use serde_json::json;

    use super::*;

    fn update(reason: &str) -> StatusUpdate {
        let condition = Condition {
            kind: "Accepted".to_owned(),
            status: ConditionStatus::False,
            reason: reason.to_owned(),
            message: "The port is taken.".to_owned(),
            observed_generation: 1,
        };
        let listener = ListenerStatus {
            name: "tcp".into(),
            supported_kinds: Vec::new(),
            attached_routes: 0,
            conditions: vec![condition],
        };
        let status = GatewayStatus {
            addresses: Vec::new(),
            conditions: Vec::new(),
            listeners: vec![listener],
            attached_listener_sets: 0,
        };
        StatusUpdate {
            object: ObjectRef::new("Gateway", ObjectKey::new("team", "gw")),
            status: Status::Gateway(status),
        }
    }

    #[test]
    fn a_complaint_is_news_once() {
        let update = update("PortUnavailable");
        let told =
            vec![("PortUnavailable".to_owned(), "Listener tcp: The port is taken.".to_owned())];
        assert_eq!(news(&update, None), told);
        let before = json!({ "status": serde_json::to_value(&update.status).unwrap() });
        assert_eq!(news(&update, Some(&before)), []);
    }

    #[test]
    fn a_policy_is_told_of_by_gateway() {
        let told = |status: &str, controller: &str| {
            json!({
                "ancestorRef": {"group": "g", "kind": "Gateway", "namespace": "team", "name": "gw"},
                "controllerName": controller,
                "conditions": [{"type": "Accepted", "status": status, "reason": "Conflicted",
                                "message": "Another is older.", "observedGeneration": 1}],
            })
        };
        let status = serde_json::from_value(json!({"ancestors": [told("False", "ours")]})).unwrap();
        let object = ObjectRef::new("BackendTLSPolicy", ObjectKey::new("team", "tls"));
        let update = StatusUpdate { object, status: Status::BackendTlsPolicy(status) };
        let news_after =
            |before: Value| news(&update, Some(&json!({"status": {"ancestors": [before]}}))).len();
        assert_eq!(news_after(told("True", "ours")), 1);
        assert_eq!(news_after(told("False", "theirs")), 1);
        assert_eq!(news_after(told("False", "ours")), 0);
    }

    #[test]
    fn what_is_on_its_way_is_no_news() {
        assert_eq!(news(&update("Pending"), None), []);
    }
}
