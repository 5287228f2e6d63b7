//! Pods, and why there is none that is ready.

use l4way_resources::api::ObjectKey;
use serde_json::Value;

use super::{
    Delivered, pods,
    proxy::{self, CURE},
};
use crate::controller::{
    objects::{CONTAINER, Kind, ObjectNames, PodId},
    ownership::Owned,
    plan::is_ending,
};

/// Whether the pod takes sessions.
pub(crate) fn is_ready(pod: &Value) -> bool {
    !is_ending(pod) && is_true(pod, "Ready")
}

/// Whether a pod or node has this condition.
pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// The pods that may run a proxy, now or soon.
pub(crate) fn live_pods(owned: &Owned) -> Vec<PodId> {
    let live = pods(owned).filter(|(_, pod)| is_live(pod));
    live.filter_map(|(key, pod)| {
        let uid = pod["metadata"]["uid"].as_str()?.to_owned();
        Some(PodId { name: key.name.to_string(), uid })
    })
    .collect()
}

/// Whether the pod may run a proxy, now or soon. The addresses of others may be somebody else's.
pub(super) fn is_live(pod: &Value) -> bool {
    !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Why no proxy takes sessions.
pub(super) fn why_none_is_ready(
    names: &ObjectNames,
    owned: &Owned,
    delivered: Delivered<'_>,
) -> String {
    let name = names.of(Kind::Deployment);
    let running = pods(owned).filter(|(_, pod)| !is_ending(pod));
    // What a person has to see to comes before what passes.
    let mut reasons: Vec<_> = running
        .map(|(key, pod)| {
            let answer = proxy::answer(&names.documents, owned, key, pod);
            match proxy::refusal(&answer, delivered) {
                Some(why) => (0, format!("Pod {key} runs {why}; to mend this, {CURE}")),
                None => why_not_ready(key, pod, answer.identity.is_some()),
            }
        })
        .collect();
    reasons.sort();
    if let Some((_, reason)) = reasons.into_iter().next() {
        return format!("No proxy is ready: {reason}");
    }
    let deployment =
        owned.iter().find(|((kind, key), _)| *kind == Kind::Deployment && *key.name == *name);
    match deployment {
        Some((_, deployment)) => why_no_pod(name, deployment),
        None => "No proxy is ready: its Deployment has yet to be made".to_owned(),
    }
}

/// Why a pod isn't ready, after how much it matters. `has_spoken` is whether its proxy has said who it is,
/// which it does first of all.
fn why_not_ready(key: &ObjectKey, pod: &Value, has_spoken: bool) -> (u8, String) {
    let pod_status = &pod["status"];
    let statuses = pod_status["containerStatuses"].as_array();
    let container = statuses.and_then(|all| all.iter().find(|each| each["name"] == CONTAINER));
    if let Some(container) = container {
        let waiting = &container["state"]["waiting"];
        let reason = waiting["reason"].as_str().filter(|reason| *reason != "ContainerCreating");
        if let Some(reason) = reason {
            let last = &container["lastState"]["terminated"];
            let said = [&waiting["message"], &last["message"]]
                .into_iter()
                .find_map(|message| message.as_str())
                .unwrap_or("see `kubectl logs`");
            return (0, format!("Pod {key}: {reason}: {said}"));
        }
    }
    if let Some(scheduled) = condition(pod, "PodScheduled")
        && scheduled["status"] == "False"
    {
        let text = |field: &str| scheduled[field].as_str().unwrap_or_default().to_owned();
        return (1, format!("Pod {key} has no node: {}: {}", text("reason"), text("message")));
    }
    if pod_status["phase"] == "Failed" {
        let text = |field: &str| pod_status[field].as_str().unwrap_or_default().to_owned();
        return (2, format!("Pod {key} has failed: {} {}", text("reason"), text("message")));
    }
    let is_running = container.is_some_and(|container| !container["state"]["running"].is_null());
    if is_running && !has_spoken {
        return (
            3,
            format!(
                "Pod {key} runs, and has not said which l4way it is: it is starting, can't reach the \
                 API server, or its image is from before 0.1.0 and can't read the configuration"
            ),
        );
    }
    (4, format!("Pod {key} is starting"))
}

/// Why a Deployment has no pod.
fn why_no_pod(name: &str, deployment: &Value) -> String {
    if deployment["spec"]["replicas"] == 0 {
        return format!("No proxy is ready: Deployment {name} is scaled to 0");
    }
    let failed = condition(deployment, "ReplicaFailure")
        .filter(|condition| condition["status"] == "True")
        .and_then(|condition| condition["message"].as_str());
    match failed {
        Some(message) => format!("No proxy is ready: Deployment {name} can't make pods: {message}"),
        None => format!("No proxy is ready: Deployment {name} is making its pods"),
    }
}
