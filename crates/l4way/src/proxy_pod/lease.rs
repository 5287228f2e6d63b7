//! The pod's answer to the controller, in the Lease that the controller made for it.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use l4way_source_kube::Backoff;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::api_server::ApiServer;
use crate::{
    cli::PodArgs,
    delivery::{ACKNOWLEDGEMENT_ANNOTATION, Acknowledgement},
};

/// How often the Lease is renewed without anything new to say.
const RENEWAL: Duration = Duration::from_secs(30);

/// The failures before this one are none: the Lease may just not be there yet.
const BELIEVED: u32 = 8;

/// Writes what is sent into the Lease, the latest first of all, again and again until it is there: the
/// Lease and the right to write it come just after the pod.
pub(super) fn keep(
    server: &ApiServer,
    pod: &PodArgs,
    lease: String,
) -> watch::Sender<Option<Acknowledgement>> {
    let (answers, latest) = watch::channel(None);
    let api = Api::namespaced(server.client(), &pod.namespace);
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
    async fn keep(self, mut latest: watch::Receiver<Option<Acknowledgement>>) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut failures = 0;
        loop {
            let answer = latest.borrow_and_update().clone();
            let wait = match answer {
                None => RENEWAL,
                Some(answer) => match self.write(&answer).await {
                    Ok(()) => {
                        backoff.reset();
                        failures = 0;
                        RENEWAL
                    }
                    Err(error) => {
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
                },
            };
            if let Ok(Err(_)) = time::timeout(wait, latest.changed()).await {
                return;
            }
        }
    }

    async fn write(&self, answer: &Acknowledgement) -> Result<(), String> {
        let patch = patch(answer, &self.holder, MicroTime(Timestamp::now()));
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.server.answer(self.api.patch(&self.lease, &parameters, &patch)).await.map(drop)
    }
}

fn patch(answer: &Acknowledgement, holder: &str, now: MicroTime) -> Value {
    let answer = serde_json::to_string(answer).expect("an answer can be written as JSON");
    json!({
        "metadata": { "annotations": { ACKNOWLEDGEMENT_ANNOTATION: answer } },
        "spec": { "holderIdentity": holder, "renewTime": now },
    })
}

#[cfg(test)]
mod tests {
    use l4way_model::ApplyReport;

    use super::*;

    #[test]
    fn an_answer_is_an_annotation_and_a_renewal() {
        let answer = Acknowledgement::new("abc", &ApplyReport::default());
        let patch = patch(&answer, "pod-1", MicroTime(Timestamp::UNIX_EPOCH));
        assert_eq!(
            patch,
            json!({
                "metadata": { "annotations": {
                    "l4way.dev/applied": r#"{"hash":"abc","bound":0}"#,
                }},
                "spec": { "holderIdentity": "pod-1", "renewTime": "1970-01-01T00:00:00.000000Z" },
            })
        );
        let lease: Lease = serde_json::from_value(patch).unwrap();
        assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("pod-1"));
    }
}
