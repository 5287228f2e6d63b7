use serde_json::json;

use super::{Common, Kind, Object};

/// Lets nobody who drains nodes end more than one proxy at a time.
pub(super) fn budget(common: &Common<'_>) -> Object {
    let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": common.selector()}});
    common.named(Kind::PodDisruptionBudget, json!({ "spec": spec }))
}
