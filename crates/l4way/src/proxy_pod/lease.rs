//! The pod's answer to the controller, in the Lease that the controller made for it.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use l4way_delivery::{
    ACKNOWLEDGEMENT_ANNOTATION, Answer, ENDPOINTS_ANNOTATION, IDENTITY_ANNOTATION,
};
use l4way_source_kube::Backoff;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::api_server::ApiServer;
use crate::cli::PodArgs;

/// How often the Lease is renewed without anything new to say.
const RENEWAL: Duration = Duration::from_secs(30);

/// Pauses after failures, up to this: the Lease, and the right to write it, come just after the pod.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Pauses after answers of a server in need, which many pods may have, up to [`RENEWAL`].
const FIRST_PAUSE_IN_NEED: Duration = Duration::from_secs(1);

/// The failures before this one are none: the Lease may just not be there yet.
const BELIEVED: u32 = 8;

/// Writes who the proxy is into the Lease, and then what is sent, the latest first of all, again and again
/// until it is there: the Lease and the right to write it come just after the pod.
pub(super) fn keep(server: &ApiServer, pod: &PodArgs, lease: String) -> watch::Sender<Answer> {
    let (answers, latest) = watch::channel(Answer::starting());
    let api = Api::namespaced(server.lease_client(), &pod.namespace);
    let keeper = Keeper { server: server.clone(), api, lease, holder: pod.pod_name.clone() };
    tokio::spawn(keeper.keep(latest));
    answers
}

struct Keeper {
    server: ApiServer,
    api: Api<Lease>,
    lease: String,
    holder: String,
}

impl Keeper {
    async fn keep(self, mut latest: watch::Receiver<Answer>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        let mut in_need = Backoff::new(FIRST_PAUSE_IN_NEED, RENEWAL);
        let mut failures = 0;
        loop {
            let answer = latest.borrow_and_update().clone();
            let wait = match self.write(&answer).await {
                Ok(()) => {
                    backoff.reset();
                    in_need.reset();
                    failures = 0;
                    RENEWAL
                }
                Err(error) => {
                    let backoff = if is_need(&error) { &mut in_need } else { &mut backoff };
                    let error = self.server.failed(&error);
                    if !self.server.is_lost() {
                        failures += 1;
                    }
                    if failures == BELIEVED {
                        tracing::warn!(
                            lease = self.lease,
                            error,
                            "the controller can't be answered, and it is retried"
                        );
                    }
                    backoff.delay(Instant::now())
                }
            };
            if let Ok(Err(_)) = time::timeout(wait, latest.changed()).await {
                return;
            }
        }
    }

    async fn write(&self, answer: &Answer) -> kube::Result<()> {
        let patch = patch(answer, &self.holder, MicroTime(Timestamp::now()));
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.api.patch(&self.lease, &parameters, &patch).await.map(drop)
    }
}

/// Whether the server has too much to do, or can't do it.
fn is_need(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 429 || status.code >= 500)
}

fn patch(answer: &Answer, holder: &str, now: MicroTime) -> Value {
    let Answer { identity, acknowledgement, endpoints } = answer;
    // Null takes away what was said before, perhaps by the container before this one.
    let endpoints = (!endpoints.is_empty()).then(|| text(endpoints));
    let mut annotations =
        json!({ IDENTITY_ANNOTATION: text(identity), ENDPOINTS_ANNOTATION: endpoints });
    if let Some(acknowledgement) = acknowledgement {
        annotations[ACKNOWLEDGEMENT_ANNOTATION] = text(acknowledgement).into();
    }
    json!({
        "metadata": { "annotations": annotations },
        "spec": { "holderIdentity": holder, "renewTime": now },
    })
}

fn text(part: &impl Serialize) -> String {
    serde_json::to_string(part).expect("an answer can be written as JSON")
}

#[cfg(test)]
mod tests {
    use l4way_delivery::{Acknowledgement, BackendSummary, EndpointSummary};
    use l4way_model::{ApplyReport, BackendId, Transport};

    use super::*;

    #[test]
    fn an_answer_is_annotations_and_a_renewal() {
        let mut answer = Answer::starting();
        answer.identity.version = "1.2.3".to_owned();
        answer.identity.features.clear();
        let renewed = |answer: &Answer| patch(answer, "pod-1", MicroTime(Timestamp::UNIX_EPOCH));
        let spec = json!({ "holderIdentity": "pod-1", "renewTime": "1970-01-01T00:00:00.000000Z" });
        assert_eq!(
            renewed(&answer),
            json!({
                "metadata": { "annotations": {
                    "l4way.dev/proxy": r#"{"version":"1.2.3"}"#,
                    "l4way.dev/endpoints": null,
                }},
                "spec": spec,
            })
        );
        answer.acknowledgement = Some(Acknowledgement::new("abc", None, &ApplyReport::default()));
        let patch = renewed(&answer);
        assert_eq!(
            patch["metadata"]["annotations"]["l4way.dev/applied"],
            r#"{"hash":"abc","bound":0}"#
        );
        let backend = BackendId {
            kind: "Service".into(),
            namespace: "ns".into(),
            name: "db".into(),
            port: Some(1),
            transport: Transport::Tcp,
        };
        let reason = "timeout".to_owned();
        let said = BackendSummary { backend, endpoints: 2, passed_over: 1, reason };
        answer.endpoints = EndpointSummary::new([said].into_iter());
        assert_eq!(
            renewed(&answer)["metadata"]["annotations"]["l4way.dev/endpoints"],
            "{\"backends\":[{\"backend\":{\"kind\":\"Service\",\"namespace\":\"ns\",\"name\":\"db\",\
             \"port\":1,\"transport\":\"TCP\"},\"endpoints\":2,\"passedOver\":1,\"reason\":\"timeout\"}]}"
        );
        let lease: Lease = serde_json::from_value(renewed(&answer)).unwrap();
        assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("pod-1"));
    }
}
