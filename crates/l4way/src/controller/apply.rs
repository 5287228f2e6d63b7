//! Requests to the API server.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::DynamicObject,
};
use l4way_resources::api::ObjectKey;
use l4way_source_kube::is_namespace_ending;
use serde_json::Value;

use super::{
    objects::{Kind, MANAGED_BY, MANAGER, Object},
    plan::{Step, Steps},
};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The reason of a failure that nobody has to hear of: the namespace is about to end.
pub(crate) const ENDING: &str = "ending";

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The object is now this.
    Applied(Object, Arc<Value>),
    /// The object is going.
    Deleted(Kind, ObjectKey, String),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A sentence for a person: which object, and why.
    pub(crate) message: String,
    /// Whether it takes somebody to change something; the rest may pass.
    pub(crate) is_refusal: bool,
    /// Which kind of failure, for the metrics.
    pub(crate) reason: &'static str,
}

/// Makes the requests, group by group, until one fails.
pub(crate) async fn run(client: Client, steps: Steps) -> (Vec<Answer>, Option<Failure>) {
    let mut answers = Vec::new();
    for group in steps {
        let results = join_all(group.into_iter().map(|step| request(&client, step))).await;
        let mut failure = None;
        for result in results {
            match result {
                Ok(answer) => answers.push(answer),
                // The one that somebody has to see to, if there are several.
                Err(error) if error.is_refusal || failure.is_none() => failure = Some(error),
                Err(_) => {}
            }
        }
        if failure.is_some() {
            return (answers, failure);
        }
    }
    (answers, None)
}

async fn request(client: &Client, step: Step) -> Result<Answer, Failure> {
    let (kind, key) = match &step {
        Step::Apply { object, .. } => (object.kind, object.key.clone()),
        Step::Delete { kind, key, .. } => (*kind, key.clone()),
    };
    let work = async {
        match step {
            Step::Apply { object, exists } => apply(client, object, exists).await,
            Step::Delete { kind, key, uid } => delete(client, kind, key, uid).await,
        }
    };
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(result) => result.map_err(|error| failure(kind, &key, error)),
        Err(_) => Err(Failure {
            message: format!("{} {key}: the API server doesn't answer", kind.as_str()),
            is_refusal: false,
            reason: "timeout",
        }),
    }
}

enum Error {
    Kube(kube::Error),
    Foreign,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(error)
    }
}

fn api(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.resource())
}

async fn apply(client: &Client, object: Object, exists: bool) -> Result<Answer, Error> {
    let api = api(client, object.kind, &object.key.namespace);
    if !exists
        && let Some(found) = api.get_metadata_opt(&object.key.name).await?
        && found.metadata.labels.unwrap_or_default().get(MANAGED_BY).map(String::as_str)
            != Some(MANAGER)
    {
        return Err(Error::Foreign);
    }
    let params = PatchParams::apply(MANAGER).force();
    let mut answer = api.patch(&object.key.name, &params, &Patch::Apply(&object.value)).await?;
    answer.metadata.managed_fields = None;
    let answer = serde_json::to_value(answer).map_err(kube::Error::SerdeError)?;
    Ok(Answer::Applied(object, Arc::new(answer)))
}

async fn delete(client: &Client, kind: Kind, key: ObjectKey, uid: String) -> Result<Answer, Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
        ..DeleteParams::background()
    };
    match api(client, kind, &key.namespace).delete(&key.name, &params).await {
        // Gone, or another one has come in its place.
        Ok(_) => Ok(Answer::Deleted(kind, key, uid)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
            Ok(Answer::Deleted(kind, key, uid))
        }
        Err(error) => Err(error.into()),
    }
}

fn failure(kind: Kind, key: &ObjectKey, error: Error) -> Failure {
    let kind = kind.as_str();
    match error {
        Error::Foreign => Failure {
            message: format!(
                "{kind} {key} is somebody else's (it has no label {MANAGED_BY}={MANAGER}): rename or \
                 delete it, or rename the Gateway"
            ),
            is_refusal: true,
            reason: "foreign",
        },
        // It goes with its namespace.
        Error::Kube(kube::Error::Api(status)) if is_namespace_ending(&status) => Failure {
            message: format!("{kind} {key}: {}", status.message),
            is_refusal: false,
            reason: ENDING,
        },
        Error::Kube(kube::Error::Api(status)) => Failure {
            // A conflict passes by itself, as does what begins with 5. Not found is what a binding
            // gets while the Role that was made just before it isn't known everywhere.
            is_refusal: matches!(status.code, 400..=499) && !matches!(status.code, 404 | 409 | 429),
            reason: match status.code {
                403 => "forbidden",
                409 => "conflict",
                422 => "invalid",
                400..=499 => "refused",
                _ => "server",
            },
            message: format!("{kind} {key}: the API server refuses: {}", status.message),
        },
        Error::Kube(error) => Failure {
            message: format!("{kind} {key}: the API server can't be asked: {error}"),
            is_refusal: false,
            reason: "connection",
        },
    }
}
